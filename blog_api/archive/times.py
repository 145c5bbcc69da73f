"""Times as blog engines write them."""

import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime

from blog_api.archive.record import InvalidRecord

# Jekyll's `2030-01-31 09:00:00 +0100` is not quite ISO 8601.
SPACE_BEFORE_OFFSET = re.compile(r" +(?=[+-]\d|Z\Z)")
# Astro's template has `Jul 08 2022`.
NAMED_MONTHS = ("%b %d %Y", "%b %d, %Y", "%B %d %Y", "%B %d, %Y")
MAX_TIME_LENGTH = 100


def parse_time(key: str, value: object) -> datetime:
    """Return a time with an offset: UTC if it has none, midnight if it is a day.

    Raises InvalidRecord.
    """
    moment = None
    if isinstance(value, str | date) and len(str(value)) <= MAX_TIME_LENGTH:
        moment = parse_text(str(value).strip())
    if moment is None:
        example = "2030-01-31 or 2030-01-31 09:00:00 +01:00"
        raise InvalidRecord(f"{key}: must be a time such as {example}")
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not MIN_TIME <= moment <= MAX_TIME:
        raise InvalidRecord(f"{key}: the time is out of range")
    return moment


# Within a day of the bounds, an offset could leave the range.
MIN_TIME = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)
MAX_TIME = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)


def parse_text(text: str) -> datetime | None:
    with suppress(ValueError):
        return datetime.fromisoformat(SPACE_BEFORE_OFFSET.sub("", text))
    for form in NAMED_MONTHS:
        with suppress(ValueError):
            return datetime.strptime(text, form)
    with suppress(ValueError):
        return parsedate_to_datetime(text)
    return None
