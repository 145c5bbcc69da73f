"""Read texts in UTF-8, or in UTF-16 and UTF-32 with a byte order mark.

Other encodings are not guessed: a wrong guess would publish other characters.
"""

import codecs
from pathlib import Path

from blog_api.core.characters import NON_XML_CHARACTERS
from blog_api.text.front_matter_values import InvalidFrontMatter

# The first that fits: that of UTF-16 begins that of UTF-32.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
CONVERT = ": convert the file to UTF-8, for example with iconv -f windows-1252 -t utf-8"
# Bytes of a text in UTF-8 for one NUL among them. UTF-16 has one in each ASCII character.
BYTES_PER_NUL = 50
MIN_NULS = 3
# A post of maximum size fits even if JSON escapes each of its characters (`\ud83d\ude00`).
MAX_FILE_BYTES = 8 * 1024 * 1024
TOO_LARGE = f"larger than {MAX_FILE_BYTES // 1024**2} MiB"


def read_text(path: Path) -> tuple[str, int]:
    """Read a file, without control characters; also return the line of the first, or 0.

    Raises InvalidFrontMatter.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidFrontMatter(f"cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise InvalidFrontMatter(TOO_LARGE)
    text = decode_file(raw)
    control = NON_XML_CHARACTERS.search(text)
    line = text.count("\n", 0, control.start()) + 1 if control else 0
    return NON_XML_CHARACTERS.sub("", text), line


def find_marked_encoding(raw: bytes) -> str | None:
    """Return the encoding of a byte order mark, other than that of UTF-8."""
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if raw.startswith(mark)), None)


def decode_file(raw: bytes) -> str:
    """Decode a whole file. Raises InvalidFrontMatter as `decode_utf8()` does."""
    encoding = find_marked_encoding(raw)
    if encoding is None:
        return decode_utf8(raw, advice=CONVERT).removeprefix("\ufeff")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        raise InvalidFrontMatter(f"not valid {encoding}, which its byte order mark tells") from None


def decode_utf8(raw: bytes, *, advice: str = "") -> str:
    """Decode a text; raises InvalidFrontMatter with the line of the first invalid byte."""
    nuls = raw.count(0)
    if nuls >= MIN_NULS and nuls * BYTES_PER_NUL > len(raw):
        raise InvalidFrontMatter("probably UTF-16 without a byte order mark: convert it to UTF-8")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidFrontMatter(f"not valid UTF-8{advice}", line) from None
