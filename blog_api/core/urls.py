"""Validate URLs: of the settings (database, Redis, public URL), and addresses that users send."""

import re
from importlib.util import find_spec
from ipaddress import IPv6Address
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pydantic import HttpUrl, TypeAdapter
from pydantic_core import PydanticCustomError
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from blog_api.core.characters import BIDI_CONTROLS, LINE_EXCLUDED
from blog_api.core.domains import to_a_labels

ASYNC_DRIVERS = {
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
}

# Query parameters of a database URL that the drivers accept as strings.
URL_PARAMETERS = {
    "sqlite": {"cache", "mode", "uri"},
    "postgresql": {"host", "port", "prepared_statement_cache_size", "ssl", "target_session_attrs"},
}

SSL_MODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

POSTGRES_PORT = 5432
REDIS_PORT = 6379
REDIS_URL = re.compile(
    r"rediss?://([^:@/?#\s]*:[^@/?#\s]*@)?([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[0-9]{0,9})?"
)

PUBLIC_URL = re.compile(r"https?://[^/?#@\\\s]+(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)*/?")

HTTP_URL = TypeAdapter(HttpUrl)
MAX_URL_LENGTH = 2_048
# Absolute, without user and password. No spaces, quotation marks, angle brackets and backslashes.
URL_EXCLUDED = LINE_EXCLUDED + BIDI_CONTROLS + r"\s\ufffd\"<>\\"
WEB_ADDRESS_PATTERN = rf"^[Hh][Tt][Tt][Pp][Ss]?://[^{URL_EXCLUDED}/?#@]+([/?#][^{URL_EXCLUDED}]*)?$"
# The digest and the suffix of an uploaded picture, and its path from the address of the service.
MEDIA_NAME_PATTERN = r"([0-9a-f]{64})\.(jpg|png|gif|webp|avif)"
MEDIA_PATH_PATTERN = f"^/media/{MEDIA_NAME_PATTERN}$"
PICTURE_ADDRESS_PATTERN = f"{MEDIA_PATH_PATTERN}|{WEB_ADDRESS_PATTERN}"


NOT_RELATIVE = re.compile(r"[a-z][a-z0-9+.-]*:|[/\\?#]|\Z", re.IGNORECASE)

# Scheme and user, hosts separated by commas, and the rest.
SEVERAL_HOSTS = re.compile(r"([^/?#]*://(?:[^@/?#]*@)?)([^@/?#]*,[^@/?#]*)(/.*)?")
HOST_AND_PORT = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?")


def parse_hosts(text: str) -> URL:
    """Parse a URL; SQLAlchemy takes several hosts, as libpq writes them, as parameters only."""
    several = SEVERAL_HOSTS.fullmatch(text)
    if several is None:
        return make_url(text)
    start, hosts, rest = several.groups()
    if not all(HOST_AND_PORT.fullmatch(host) for host in hosts.split(",")):
        raise ValueError("has an invalid host or port")
    url = make_url(f"{start}{rest or ''}")
    pairs = (host if ":" in host else f"{host}:{POSTGRES_PORT}" for host in hosts.split(","))
    return url.update_query_dict({"host": list(pairs)})


def parse_database_url(value: object) -> URL:
    """Return the URL with its async driver, and with asyncpg's `ssl` for libpq's `sslmode`."""
    try:
        url = value if isinstance(value, URL) else parse_hosts(str(value))
    except ArgumentError:
        raise ValueError("is not a database URL") from None
    if url.drivername not in ASYNC_DRIVERS:
        raise ValueError("must start with postgresql:// or sqlite:///")
    url = url.set(drivername=ASYNC_DRIVERS[url.drivername])
    if "sslmode" in url.query:
        url = url.update_query_dict({"ssl": url.query["sslmode"]})
        url = url.difference_update_query(["sslmode"])
    if url.get_backend_name() == "postgresql" and set("@#") & set(f"{url.host}{url.database}"):
        raise ValueError(
            "has special characters in the user or password that are not percent-encoded"
        )
    if unknown := url.query.keys() - URL_PARAMETERS[url.get_backend_name()]:
        raise ValueError(f"has unknown parameters: {', '.join(sorted(unknown))}")
    if url.query.get("ssl", "prefer") not in SSL_MODES:
        raise ValueError(f"has an ssl mode that is not one of {', '.join(sorted(SSL_MODES))}")
    return url


def parse_optional_database_url(value: object) -> URL | None:
    return None if value is None else parse_database_url(value)


def parse_listen_database_url(value: object) -> URL | None:
    """Return the URL of a database on Postgres."""
    url = parse_optional_database_url(value)
    if url is not None and url.get_backend_name() != "postgresql":
        raise ValueError("must start with postgresql://")
    return url


def get_sqlite_path(url: URL) -> Path | None:
    """Return the file of a SQLite database, or None in memory and on Postgres."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    if url.query.get("mode") == "memory":
        return None
    return Path(str(url.database).removeprefix("file:"))


def get_file_id(file: Path) -> tuple[int, int] | None:
    """Return the device and the inode of a file, or None if there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def parse_storage_url(value: object) -> URL:
    """Return a storage URL of the package `limits`; a Redis URL gets its default port."""
    if isinstance(value, URL):
        return value
    storage = str(value)
    if storage != "memory://" and not REDIS_URL.fullmatch(storage):
        raise ValueError("must be memory:// or redis://[user:password@]host[:port][/number]")
    url = make_url(storage)
    if storage == "memory://":
        return url
    if find_spec("redis") is None:
        raise ValueError("needs the extra redis: pip install '.[redis]'")
    port = REDIS_PORT if url.port is None else url.port
    if not 0 < port < 65_536 or (":" in str(url.host) and not is_ipv6(str(url.host))):
        raise ValueError("has an invalid host or port")
    return url.set(port=port)


SMTP_PORTS = {"smtp": 587, "smtps": 465}
HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.ASCII)


def parse_mail_url(value: object) -> URL | None:
    """Return the URL of an SMTP server with its port, or `console://`."""
    if value is None or isinstance(value, URL):
        return value
    text = str(value)
    if text == "console://":
        return make_url(text)
    parts = urlsplit(text)
    if parts.scheme not in SMTP_PORTS or not parts.hostname or parts.path.strip("/"):
        raise ValueError("must be console:// or smtp://[user:password@]host[:port] or smtps://…")
    try:
        url = make_url(text.rstrip("/")).set(drivername=parts.scheme)
        host = to_a_labels(str(url.host))
        port = SMTP_PORTS[parts.scheme] if parts.port is None else parts.port
    except (ArgumentError, ValueError):
        raise ValueError("has an invalid host or port") from None
    is_host = HOST_NAME.fullmatch(host) or is_ipv6(host)
    if url.query or not is_host or not 0 < port < 65_536:
        raise ValueError("has an invalid host or port, or characters that are not percent-encoded")
    if (url.username is None) != (url.password is None):
        raise ValueError("needs both a user and a password, or none")
    return url.set(host=host, port=port)


def check_media_url(value: str) -> str:
    """Validate the URL of a folder: `file:///` and an absolute path."""
    get_media_folder(value)
    return value


def get_media_folder(url: str) -> Path:
    """Return the folder of a `file:///…` URL."""
    parts = urlsplit(url)
    folder = Path(url2pathname(parts.path))
    if parts.scheme != "file" or parts.netloc or parts.query or parts.fragment:
        raise ValueError("must be a folder such as file:///var/lib/blog/media")
    if not folder.is_absolute() or folder == Path(folder.anchor) or "\0" in str(folder):
        raise ValueError("must be a folder such as file:///var/lib/blog/media")
    return folder


def check_public_url(value: str) -> str:
    """Return an absolute http(s) URL without a trailing slash; user and query are rejected."""
    if not PUBLIC_URL.fullmatch(value):
        raise ValueError("must be a URL such as https://example.com/blog")
    return str(HTTP_URL.validate_python(value)).rstrip("/")


def is_media_path(value: str) -> bool:
    return re.fullmatch(MEDIA_PATH_PATTERN, value) is not None


def check_picture_address(value: str) -> str:
    """Validate an absolute address of the web, or the path of an uploaded picture.

    Whether the picture exists is not checked.
    """
    if is_media_path(value):
        return value
    return check_web_address(value, or_else=", or the `url` of an uploaded picture")


def check_web_address(value: str, *, or_else: str = "") -> str:
    """Validate an absolute address of the web; it stays as it was sent."""
    try:
        if not re.fullmatch(WEB_ADDRESS_PATTERN, value):
            raise ValueError
        HTTP_URL.validate_python(value)
    except ValueError:
        raise PydanticCustomError(
            "web_address",
            "Use an absolute address that starts with http:// or https://, without user "
            f"information, spaces, quotation marks, angle brackets and backslashes{or_else}",
        ) from None
    return value


def is_ipv6(host: str) -> bool:
    try:
        return bool(IPv6Address(host))
    except ValueError:
        return False


def is_relative(address: str) -> bool:
    """Tell whether an address is relative to the file that has it."""
    return NOT_RELATIVE.match(address) is None


def is_relative_to_site(address: str) -> bool:
    """Tell whether an address is a path from the root of a site, and no uploaded picture."""
    return re.match(r"/[^/\\]", address) is not None and not is_media_path(address)
