"""Characters: which ones a text may have."""

import re

# The characters of XML 1.0 (2.2 Char), so that no feed can be broken by what is stored.
# Lone surrogates, which it leaves out too, are refused by Pydantic before.
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# The Unicode category Cc, line breaks and tabs among it.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff]")

# The same for OpenAPI, in the words that all dialects of regular expressions share.
SHOWN_TEXT = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]*$"
SHOWN_LINE, SHOWN_IDENTIFIER = (
    rf"^[^{refused}]*[^\s{refused}][^{refused}]*$"
    for refused in (
        r"\u0000-\u001f\u007f-\u009f\ufffe\uffff",
        r"\u0000-\u001f\u007f-\u009f\ufffd-\uffff",
    )
)
