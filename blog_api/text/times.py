"""Times as blog engines write them."""

import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

MAX_TIME_LENGTH = 100
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTH = rf"(?P<month>{'|'.join(MONTHS)})[a-z]*\.?"
DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
# The year first, or a name of the month: 01/02/2020 could be two days.
DATES = (
    re.compile(r"(?P<year>\d{4})([-/.])(?P<month>\d{1,2})\2(?P<day>\d{1,2})(?!\d)", re.ASCII),
    re.compile(r"(?P<year>\d{4})年(?P<month>\d{1,2})月(?P<day>\d{1,2})日", re.ASCII),
    re.compile(r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})(?=T|\Z)", re.ASCII),
    # RFC 2822, JavaScript, and dates in English: the weekday may be missing.
    re.compile(rf"(?:[a-z]{{3,9}}\.?,? +)?{DAY}[ -]+{MONTH},?[ -]+(?P<year>\d{{4}})", re.A | re.I),
    re.compile(rf"(?:[a-z]{{3,9}}\.?,? +)?{MONTH} +{DAY},? +(?P<year>\d{{4}})", re.A | re.I),
)
TIME = re.compile(
    r"(?:[T ,]|at)*(?P<hour>\d{1,2})(?::?(?P<minute>\d{2})(?::?(?P<second>\d{2})"
    r"(?:[.,](?P<fraction>\d{1,9}))?)?)? *(?P<half>[ap]\.?m\.?(?![a-z]))?",
    re.ASCII | re.IGNORECASE,
)
# `Thu Jan  2 10:00:00 UTC 2020`, as `date` and git write it.
YEAR_LAST = re.compile(
    r"\A([a-z]{3} [a-z]{3} +\d{1,2}) ([\d:]{8}) ?([a-z]{3,4} )?(\d{4})(?=\Z| )", re.ASCII | re.I
)
# `GMT+0800 (China Standard Time)` is JavaScript's.
ZONE = re.compile(
    r" *(?:Z|(?:UTC|GMT)?(?P<sign>[+-])(?P<hours>\d{1,2}):?(?P<minutes>\d{2})?"
    r"|\[?(?P<name>[A-Za-z][\w/+-]*)\]?)?(?: *[(\[].*[)\]])?",
    re.ASCII | re.IGNORECASE,
)
AMERICAN_ZONES = {"est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8,
                  "pdt": -7}  # fmt: skip


# Within a day of the bounds, an offset could leave the range.
MIN_TIME = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)
MAX_TIME = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)


def parse_time(value: object) -> datetime:
    """Return a time with an offset: UTC if it has none, midnight if it is a day.

    Raises ValueError with a message of one line.
    """
    moment = None
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, str | date | int) and len(text := str(value)) <= MAX_TIME_LENGTH:
        with suppress(ValueError, OverflowError):
            moment = parse_text(text.strip())
    if moment is None:
        raise ValueError("must be a time such as 2030-01-31 or 2030-01-31 09:00:00 +01:00")
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not MIN_TIME <= moment <= MAX_TIME:
        raise ValueError("the time is out of range")
    return moment


def is_time(value: object) -> bool:
    try:
        parse_time(value)
    except ValueError:
        return False
    return True


def parse_text(text: str) -> datetime | None:
    """Return the time in one of the forms; raises ValueError for such as 31 February."""
    if re.fullmatch(r"\d{10}(\d{3})?", text, re.ASCII):
        # Seconds of Unix, or milliseconds of JavaScript.
        return datetime.fromtimestamp(int(text) / (1 if len(text) == 10 else 1000), UTC)
    text = YEAR_LAST.sub(r"\1 \4 \2 \3", text)
    day = next((found for form in DATES if (found := form.match(text))), None)
    if day is None:
        return None
    month = day["month"].lower()[:3]
    number = MONTHS.index(month) + 1 if month in MONTHS else int(month)
    moment = datetime(int(day["year"]), number, int(day["day"]))
    rest = text[day.end() :]
    if time := TIME.match(rest):
        hour = int(time["hour"])
        if time["half"]:
            if not 1 <= hour <= 12:
                return None
            hour = hour % 12 + 12 * (time["half"][0].lower() == "p")
        elif time["minute"] is None:
            return None
        fraction = int(f"{time['fraction'] or 0:0<6}"[:6])
        moment = moment.replace(
            hour=hour,
            minute=int(time["minute"] or 0),
            second=int(time["second"] or 0),
            microsecond=fraction,
        )
        rest = rest[time.end() :]
    zone = ZONE.fullmatch(rest)
    if not zone:
        return None
    return moment.replace(tzinfo=make_zone(zone))


def make_zone(zone: re.Match[str]) -> tzinfo:
    """Return the zone; raises ValueError if its name is unknown."""
    if zone["sign"]:
        offset = timedelta(hours=int(zone["hours"]), minutes=int(zone["minutes"] or 0))
        return timezone(offset if zone["sign"] == "+" else -offset)
    name = zone["name"] or "UTC"
    if name.lower() in AMERICAN_ZONES:
        return timezone(timedelta(hours=AMERICAN_ZONES[name.lower()]))
    try:
        return ZoneInfo(name)
    except (KeyError, OSError):
        raise ValueError(name) from None
