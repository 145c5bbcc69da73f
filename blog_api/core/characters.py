"""Sets of characters, as regular expressions of Python and of OpenAPI."""

import re

# Characters outside of XML 1.0 (2.2 Char) would break feeds. Pydantic rejects lone surrogates.
NON_XML_CHARACTERS = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Category Cc of Unicode, which has tabs and line breaks, the other line breaks, and noncharacters.
CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")
# Bidirectional embeddings, overrides and isolates: they reorder the text around a name.
BIDI_CONTROLS = r"\u202a-\u202e\u2066-\u2069"
BIDI_CONTROL_CHARACTERS = re.compile(f"[{BIDI_CONTROLS}]")
# Unicode's Default_Ignorable_Code_Point, within and beyond the Basic Multilingual Plane. The tag
# characters of flags (U+E0020 to U+E007F) are separate: England and Scotland differ by them alone.
IGNORABLE = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
)
IGNORABLE_BEYOND = (
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e001f\U000e0080-\U000e0fff"
)
IGNORABLE_CHARACTERS = re.compile(f"[{IGNORABLE}{IGNORABLE_BEYOND}]")
# Also spaces and line breaks (Z and Cc), the other format characters (Cf), and Braille's blank.
INVISIBLE = (
    IGNORABLE + r"\u0000-\u0020\u007f-\u00a0\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u1680"
    r"\u180e\u2000-\u200a\u2028\u2029\u202f\u205f\u2800\u3000\ufff9-\ufffb"
)
VISIBLE_CHARACTER = re.compile(
    f"[^{INVISIBLE}{IGNORABLE_BEYOND}"
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U000e0020-\U000e007f]"
)


def escape_unprintable(text: str) -> str:
    """Return text that can be shown at a terminal, with unprintable characters escaped."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


# The rules of `check_text`, `check_visible_text`, `check_line`, `check_name` and `check_identifier`
# for OpenAPI (ECMA-262, without characters beyond the Basic Multilingual Plane).
TEXT_EXCLUDED = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff"
LINE_EXCLUDED = r"\u0000-\u001f\u007f-\u009f\u2028\u2029\ufffe\uffff"
TEXT_PATTERN = rf"^[^{TEXT_EXCLUDED}]*$"
VISIBLE_TEXT_PATTERN, LINE_PATTERN, NAME_PATTERN, IDENTIFIER_PATTERN = (
    rf"^[^{excluded}]*[^{INVISIBLE}{excluded}][^{excluded}]*$"
    for excluded in (
        TEXT_EXCLUDED,
        LINE_EXCLUDED,
        LINE_EXCLUDED + BIDI_CONTROLS,
        LINE_EXCLUDED + r"\ufffd",
    )
)
