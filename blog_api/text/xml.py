"""XML of any size, parsed in chunks. Control characters, which XML excludes, are left out."""

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO
from xml.sax import SAXParseException
from xml.sax.handler import ContentHandler, feature_namespaces
from xml.sax.xmlreader import AttributesNSImpl

from defusedxml import DefusedXmlException
from defusedxml.expatreader import DefusedExpatParser
from defusedxml.sax import make_parser

from blog_api.core.characters import NON_XML_CHARACTERS

CHUNK_BYTES = 64 * 1024
# A sign that begins no entity of XML, such as in an address or in `&nbsp;`: outside of CDATA it
# would end the reading.
AMPERSAND = re.compile(r"&(?!(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|amp|apos|gt|lt|quot);)")
CDATA = re.compile(r"(<!\[CDATA\[|\]\]>)")
# Of a CDATA mark or an entity, which two chunks may share.
MAX_TAIL = 12
# The parser buffers a tag or a comment, and scans it again with every chunk.
MAX_MARKUP_BYTES = 1024 * 1024
# Expat takes quadratic time for deep elements.
MAX_DEPTH = 100
DECLARED_ENCODING = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([\w.-]+)", re.ASCII)
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class XMLError(Exception):
    """Broken XML, whose rest was not read: a message of one line, and the line of the file."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class NestedTooDeeply(Exception):
    """An element has more than MAX_DEPTH ancestors."""


class PathHandler(ContentHandler):
    """Base of handlers by the path of the element."""

    def __init__(self) -> None:
        super().__init__()
        self.path: list[str] = []

    def startElementNS(
        self, name: tuple[str | None, str], qname: str | None, attrs: AttributesNSImpl
    ) -> None:
        if len(self.path) >= MAX_DEPTH:
            raise NestedTooDeeply
        self.path.append(name[1])


class XMLReader:
    """Parses a file for a handler."""

    def __init__(self, handler: PathHandler) -> None:
        self._parser: DefusedExpatParser = make_parser()
        self._parser.forbid_dtd = True
        self._parser.setFeature(feature_namespaces, True)
        self._parser.setContentHandler(handler)
        self._line_breaks = 0
        self._is_in_cdata = False
        self._tail = ""
        self._lines_left_out: list[int] = []

    def take_lines_left_out(self) -> str:
        """Return the lines in which control characters were left out since the last call."""
        lines = ", ".join(map(str, dict.fromkeys(self._lines_left_out)))
        self._lines_left_out.clear()
        return lines

    @property
    def line(self) -> int:
        return self._parser.getLineNumber() or 1

    def parse(self, file: BinaryIO) -> Iterator[None]:
        """Yield after each chunk. Raises XMLError, after which the file is not read further."""
        start = file.read(CHUNK_BYTES)
        decoder = self._find_decoder(start)
        position, buffered, chunk = (0, 0), 0, start
        while True:
            text = self._clean(decoder.decode(chunk, final=not chunk))
            self._feed(self._escape(text, is_last=not chunk), is_last=not chunk)
            yield
            if not chunk:
                return
            last, position = position, (self.line, self._parser.getColumnNumber() or 0)
            buffered = buffered + len(chunk) if position == last else 0
            if buffered > MAX_MARKUP_BYTES:
                size = MAX_MARKUP_BYTES // 1024**2
                raise XMLError(f"a tag or a comment is larger than {size} MiB", self.line)
            chunk = file.read(CHUNK_BYTES)

    def _find_decoder(self, start: bytes) -> codecs.IncrementalDecoder:
        marked = (name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark))
        declared = DECLARED_ENCODING.match(start)
        name = next(marked, declared[1].decode() if declared else "utf-8")
        try:
            return codecs.getincrementaldecoder(name)(errors="replace")
        except LookupError:
            raise XMLError("unknown encoding", 1) from None

    def _clean(self, text: str) -> str:
        for found in NON_XML_CHARACTERS.finditer(text):
            line = self._line_breaks + text.count("\n", 0, found.start()) + 1
            self._lines_left_out.append(line)
        self._line_breaks += text.count("\n")
        return NON_XML_CHARACTERS.sub("", text)

    def _escape(self, text: str, *, is_last: bool) -> str:
        """Escape ampersands that begin no entity, outside of CDATA."""
        text = self._tail + text
        # What could be the beginning of a mark or an entity waits for the next chunk.
        signs = (text.find(sign, max(0, len(text) - MAX_TAIL)) for sign in "&<]")
        end = len(text) if is_last else min((one for one in signs if one >= 0), default=len(text))
        text, self._tail = text[:end], text[end:]
        parts = CDATA.split(text)
        for n, part in enumerate(parts):
            if n % 2:
                self._is_in_cdata = part != "]]>"
            elif not self._is_in_cdata:
                parts[n] = AMPERSAND.sub("&amp;", part)
        return "".join(parts)

    def _feed(self, text: str, *, is_last: bool) -> None:
        try:
            if text:
                self._parser.feed(text)
            if is_last:
                self._parser.close()
        except NestedTooDeeply:
            message = f"elements are nested more than {MAX_DEPTH} deep"
        except DefusedXmlException:
            message = "document types and entities are not allowed"
        except SAXParseException as error:
            message = f"invalid XML: {error.getMessage()}"
        else:
            return
        raise XMLError(message, self.line)


def format_parent(name: str, children: dict[str, str]) -> str:
    elements = "".join(format_element(child, text) for child, text in children.items())
    return f"<{name}>\n{elements}</{name}>\n"


def format_element(name: str, text: str, attributes: str = "") -> str:
    # XML excludes control characters, and turns carriage returns into line feeds.
    text = NON_XML_CHARACTERS.sub("", text).replace("]]>", "]]]]><![CDATA[>")
    text = text.replace("\r", "]]>&#13;<![CDATA[")
    return f"<{name}{attributes}><![CDATA[{text}]]></{name}>\n"
