"""Languages of mails."""

import re
from enum import StrEnum

# Longer ones are not from a browser.
MAX_HEADER_LENGTH = 1_000
LANGUAGE_RANGE = re.compile(
    r"(\*|[a-z]{1,8})(?:-[a-z0-9-]*)?(?: ?; ?q=([01](?:\.\d{0,3})?))?", re.ASCII
)


class Language(StrEnum):
    en = "en"
    ru = "ru"


def choose_language(accepted: str) -> Language:
    """Return the preferred language of an `Accept-Language` header (RFC 9110, 12.5.4).

    English unless Russian has the higher weight.
    """
    weights: dict[str, float] = {}
    for one in accepted[:MAX_HEADER_LENGTH].lower().split(","):
        found = LANGUAGE_RANGE.fullmatch(one.strip(" \t"))
        if found is not None:
            weight = float(found[2] or 1)
            weights[found[1]] = max(weight, weights.get(found[1], 0.0))
    of_others = weights.get("*", 0.0)
    russian, english = weights.get("ru", of_others), weights.get("en", of_others)
    return Language.ru if russian > english else Language.en
