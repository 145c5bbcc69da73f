"""Visibility of an imported post, by the keys that blog engines have for it.

A post is published only if it was plainly public: a value that is not known to mean "public" makes
a draft. Keys are compared without regard to case, hyphens and underscores.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blog_api.core.fields import utc_now
from blog_api.text.front_matter import fold_key
from blog_api.text.front_matter_values import InvalidFrontMatter
from blog_api.text.times import is_time, parse_time

YES = {"true", "yes", "on", "y", "t", "1"}
NO = {"false", "no", "off", "n", "f", "0", ""}
SCHEDULED = {"future", "scheduled"}
PUBLIC = {"publish", "published", "public", "live", "always"} | SCHEDULED
HIDDEN = {"draft", "drafts", "private", "hidden", "unlisted", "pending", "trash"}
DRAFT_FOLDERS = {"_drafts", "drafts", "_draft", "draft", "_unpublished", "unpublished", "_trash"}


def to_word(value: object) -> str:
    """Return text in lower case; "?" for a value that is neither text, boolean, 0 nor 1."""
    if isinstance(value, str | bool) or (isinstance(value, int) and value in (0, 1)):
        return str(value).strip().casefold()
    return "?"


def is_not_no(value: object) -> bool:
    return value is not None and to_word(value) not in NO


def is_not_yes(value: object) -> bool:
    # `published` may also be the time.
    return to_word(value) not in YES and not is_time(value)


def is_not_public(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(is_not_public, value.values()))
    return to_word(value) not in PUBLIC | YES


def is_hidden_word(value: object) -> bool:
    return to_word(value) in HIDDEN


def is_plain_no(value: object) -> bool:
    return to_word(value) == "false"


def is_set(value: object) -> bool:
    return value is not None and to_word(value) not in {"false", ""}


def is_null(value: object) -> bool:
    return value is None


HIDES_UNLESS_NO = {
    "deleted", "draft", "eleventyexcludefromcollections", "encrypt", "encrypted", "expired",
    "headless", "hidden", "hide", "isdraft", "ishidden", "isprivate", "isunlisted", "membersonly",
    "paid", "paidonly", "paywall", "premium", "private", "protected", "secret", "sponsorsonly",
    "subscribersonly", "trash", "trashed", "unlisted", "unpublished", "wip",
}  # fmt: skip
HIDES_UNLESS_YES = {
    "islisted", "ispublic", "ispublished", "isvisible", "listed", "public", "publish", "published",
    "visible",
}  # fmt: skip
# Whether the value of a key hides the post.
HIDING_KEYS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(HIDES_UNLESS_NO, is_not_no),
    **dict.fromkeys(HIDES_UNLESS_YES, is_not_yes),
    # `build` is Hugo's: a mapping of `render` and `list`.
    **dict.fromkeys(
        ["access", "build", "poststatus", "state", "status", "visibility"], is_not_public
    ),
    **dict.fromkeys(("layout", "posttype", "type"), is_hidden_word),
    **dict.fromkeys(("permalink", "render"), is_plain_no),
    # YAML's merge key, which is not read, could hold any of these.
    **dict.fromkeys(("<<", "passphrase", "password", "postpassword"), is_set),
    "publishedat": is_null,
}
HIDDEN_POST = {"published_at": None}
STATUS_KEYS = {"status", "state", "poststatus"}
# The first decides, unless another is in the future.
TIME_KEYS = (
    "publishedat", "date", "publishdate", "publishedon", "pubdate", "pubdatetime", "published",
    "publisheddate", "datepublished", "publish", "postdate", "created", "createdat", "createdon",
    "creationdate", "datecreated", "publishon", "scheduledat", "scheduledfor",
)  # fmt: skip
CREATION_KEYS = {"created", "createdat", "createdon", "creationdate", "datecreated"}
# Eleventy's, for times of the file or of its commits.
NO_TIMES = YES | {"created", "git created", "git last modified", "last modified"}
EXPIRY_KEYS = {
    "expirationdate", "expires", "expiresat", "expiry", "expirydate", "unpublishat",
    "unpublishdate", "unpublishedat",
}  # fmt: skip


def parse_key_time(key: object, value: object) -> datetime:
    """Return a time in UTC. Raises InvalidFrontMatter with the key."""
    try:
        return parse_time(value).astimezone(UTC)
    except ValueError as error:
        raise InvalidFrontMatter(str(error), key=str(key)) from None


def hides(value: object) -> bool:
    """Tell whether a mapping, or one of a list, would hide a post."""
    if isinstance(value, list):
        return any(map(hides, value))
    return isinstance(value, Mapping) and parse_published_at(value, "2000-01-01") == HIDDEN_POST


def is_in_draft_folder(path: Path) -> bool:
    """Tell whether the path, or the file that it links to, is in a folder of drafts."""
    parents = (*path.absolute().parts[:-1], *path.resolve().parts[:-1])
    return any(part.casefold() in DRAFT_FOLDERS for part in parents)


def parse_published_at(
    values: Mapping[Any, Any], default: str | None = None
) -> dict[str, str | None]:
    """Return `published_at`, null for a draft; an empty dict if there is no time.

    Raises InvalidFrontMatter for a time that cannot be read.
    """
    pairs = [(key, fold_key(key), value) for key, value in values.items()]
    if any(folded in HIDING_KEYS and HIDING_KEYS[folded](value) for _, folded, value in pairs):
        return {**HIDDEN_POST}
    times: list[datetime] = []
    for wanted in TIME_KEYS:
        times += [
            parse_key_time(key, value)
            for key, folded, value in pairs
            if folded == wanted
            and not (value in (None, "") or to_word(value) in NO_TIMES)
            # Beside a time of publication, it says nothing.
            and not (times and folded in CREATION_KEYS and not is_time(value))
        ]
    if not times and default is not None:
        times = [parse_key_time("date", default)]
    now = utc_now()
    time = max(times) if times and max(times) > now else next(iter(times), None)
    is_scheduled = any(f in STATUS_KEYS and to_word(v) in SCHEDULED for _, f, v in pairs)
    end = max(now, time) if time else now
    if (time is None and is_scheduled) or any(
        folded in EXPIRY_KEYS and value not in (None, "") and parse_key_time(key, value) <= end
        for key, folded, value in pairs
    ):
        return {**HIDDEN_POST}
    return {"published_at": time.isoformat()} if time else {}
