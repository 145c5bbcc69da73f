"""HTML and plain text of what WordPress stores: contents with shortcodes, comments, titles."""

import re
from collections.abc import Mapping, Sequence
from html import escape, unescape
from typing import NamedTuple

from blog_api.text.wpautop import wpautop

# Blocks of the newer editor, whose contents have their paragraphs.
BLOCK = re.compile(r"<!-- wp:[a-z]")
# Shows a part of a public post to members alone.
MEMBERS_ONLY = re.compile(
    r"<!-- wp:(?:premium-content/|jetpack/(?:paywall|subscribers-only))|<!--members-only-->"
    r"|\[(?:arm_restrict\w*|content_(?:control|protector)|emember_protected|ihc-hide-content"
    r"|(?:is_)?(?:user_)?logged_?in|membership|members?[-_]?only|members?_access|members?"
    r"|mepr-\w+|passster|password\w*|paywall|pms-restrict|pmpro_\w+|ppwp|private|protected"
    r"|rcp_\w+|restrict\w*|s2If|subscribers?[-_]?only|swpm_\w+|um_(?:loggedin|show_content)"
    r"|urcr_restrict|wcm_\w+|wlm_\w+|wpmem_logged_in)[\s\]]",
    re.IGNORECASE,
)
CODE_NAMES = (
    "bash|c|cc|code|cpp|crayon|csharp|css|go|highlight|html|java|javascript|js|jscript|json|perl"
    "|php|plain|powershell|pre|python|ruby|rust|scala|shell|source|sourcecode|sql|swift|text|xml"
    "|yaml"
)
NO_LANGUAGE = frozenset(
    {"cc", "code", "crayon", "highlight", "plain", "pre", "source", "sourcecode", "text"}
)
SHORTCODE = re.compile(
    rf"\[(?P<code>{CODE_NAMES})(?P<of_code>\s[^\]\n]*)?\](?P<text>.*?)\[/(?P=code)\]"
    r"|\[caption(?P<of_caption>\s[^\]]*)?\](?P<figure>.*?)\[/caption\]"
    r"|\[gallery(?P<of_gallery>[^\]]*)\]"
    r"|\[embed(?:\s[^\]]*)?\](?P<embed>.*?)\[/embed\]"
    r"|\[(?:audio|video|youtube|vimeo)(?P<of_media>[\s=][^\]]*)\](?:\s*\[/(?:audio|video)\])?"
    r"|<pre\b.*?(?:</pre\s*>|\Z)|(?P<alone>^[ \t]*https?://[^\s<>\"]+[ \t]*$)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
ATTRIBUTE = re.compile(r"([\w-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"']+))")
ADDRESS = re.compile(r"https?://[^\s\"'<>\]]+")
PICTURE = re.compile(r"(?:<a\b[^>]*>\s*)?<img\b[^>]*>(?:\s*</a>)?", re.IGNORECASE)
LANGUAGE = re.compile(r"[\w+#-]+")
TAG = re.compile(r"</?[a-z][a-z0-9]*(?:[^<>\"']|\"[^\"]*\"|'[^']*')*>|<!--.*?-->", re.I | re.S)
LINK = re.compile(r"<a\b[^>]*?\bhref\s*=\s*[\"']?([^\"'\s>]+)[^>]*>(.*?)</a\s*>", re.I | re.S)
END_OF_PARAGRAPH = re.compile(r"(?:<br\b[^>]*>|</p\s*>|</li\s*>|</blockquote\s*>)\n?", re.I)


class Attachment(NamedTuple):
    """A file of a WordPress site."""

    url: str
    alt: str
    parent: str


def render_wordpress(content: str, post_id: str, attachments: Mapping[str, Attachment]) -> str:
    """Return the HTML that WordPress shows for the content of a post.

    Shortcodes of plugins stay visible. The text in `<pre>` and in shortcodes for code is unchanged.
    """
    kept: list[str] = []

    def keep(html: str) -> str:
        # An element that is a block, whose text stays as it is.
        kept.append(html)
        return f'<pre id="\x02{len(kept) - 1}\x02"></pre>'

    def replace(found: re.Match[str]) -> str:
        html = render_shortcode(found, post_id, attachments)
        return found[0] if html is None else keep(html)

    html = SHORTCODE.sub(replace, content.replace("\x02", ""))
    if not BLOCK.search(content):
        html = wpautop(html)
    html = html.strip()
    return re.sub('<pre id="\x02(\\d+)\x02"></pre>', lambda found: kept[int(found[1])], html)


def render_shortcode(
    found: re.Match[str], post_id: str, attachments: Mapping[str, Attachment]
) -> str | None:
    """Return the HTML of a shortcode, or None if it stays as it is."""
    if found["text"] is not None:
        return render_code(found["code"].lower(), found["of_code"] or "", found["text"])
    if found["figure"] is not None:
        picture = PICTURE.search(found["figure"])
        if picture is None:
            return None
        text = found["figure"][picture.end() :].strip()
        text = text or unescape(read_attributes(found["of_caption"] or "").get("caption", ""))
        before = found["figure"][: picture.start()].strip()
        caption = f"<figcaption>{text}</figcaption>" if text else ""
        return f"{before}<figure>{picture[0]}{caption}</figure>"
    if found["of_gallery"] is not None:
        return render_gallery(read_attributes(found["of_gallery"]), post_id, attachments)
    for address in (found["embed"], found["of_media"], found["alone"]):
        if address is not None and (url := ADDRESS.search(unescape(address))):
            shown = escape(url[0])
            return f'<p><a href="{shown}">{shown}</a></p>'
    return None


def read_attributes(text: str) -> dict[str, str]:
    found = ATTRIBUTE.finditer(text)
    return {one[1].lower(): one[2] or one[3] or one[4] or "" for one in found}


def render_code(name: str, attributes: str, text: str) -> str:
    """Return a block of code. Plugins store its signs as they are, or as entities."""
    values = read_attributes(attributes)
    language = values.get("lang") or values.get("language")
    language = language or ("" if name in NO_LANGUAGE else name)
    language = language.lower() if LANGUAGE.fullmatch(language) else ""
    shown = escape(text if "<" in text else unescape(text), quote=False)
    attribute = f' class="language-{language}"' if language else ""
    # HTML leaves out one line break after the tag of <pre>, but not after that of <code>.
    return f"<pre><code{attribute}>{shown.lstrip(chr(10))}</code></pre>"


def render_gallery(
    attributes: Mapping[str, str], post_id: str, attachments: Mapping[str, Attachment]
) -> str | None:
    ids: Sequence[str] = re.findall(r"\d+", attributes.get("ids") or attributes.get("include", ""))
    if not ids:
        ids = [one for one, attachment in attachments.items() if attachment.parent == post_id]
    found = [attachments[one] for one in ids if one in attachments]
    if not found or len(found) < len(ids):
        return None
    return "".join(
        f'<figure><img src="{escape(one.url)}" alt="{escape(one.alt)}" /></figure>' for one in found
    )


def render_title(title: str) -> str:
    """Return a title, which is HTML in WordPress, as plain text."""
    return unescape(TAG.sub("", title))


def render_comment(html: str) -> str:
    """Return a comment, which is HTML in WordPress, as plain text with its line breaks.

    The address of a link follows its text.
    """

    def show_link(found: re.Match[str]) -> str:
        text = TAG.sub("", found[2])
        return text if unescape(found[1]) in unescape(text) else f"{text} ({found[1]})"

    text = LINK.sub(show_link, html.replace("\r\n", "\n"))
    return unescape(TAG.sub("", END_OF_PARAGRAPH.sub("\n", text)))
