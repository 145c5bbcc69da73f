"""Addresses in the settings: of the database, of Redis, and the public one."""

import re
from importlib.util import find_spec
from ipaddress import IPv6Address
from pathlib import Path

from pydantic import HttpUrl, TypeAdapter
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

ASYNC_DRIVERS = {
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
}


# What may follow the `?` of a database URL: what the drivers take as text.
URL_PARAMETERS = {
    "sqlite": {"cache", "mode", "uri"},
    "postgresql": {"host", "port", "prepared_statement_cache_size", "ssl", "target_session_attrs"},
}


SSL_MODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}


REDIS_PORT = 6379


REDIS_URL = re.compile(
    r"rediss?://([^:@/?#\s]*:[^@/?#\s]*@)?([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[0-9]{0,9})?"
)


PUBLIC_URL = re.compile(r"https?://[^/?#@\\\s]+(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)*/?")


def parse_database_url(value: object) -> URL:
    """The URL with its async driver; libpq's `sslmode` becomes the `ssl` that asyncpg takes."""
    try:
        url = value if isinstance(value, URL) else make_url(str(value))
    except ArgumentError:
        raise ValueError("is not a database URL") from None
    if url.drivername not in ASYNC_DRIVERS:
        raise ValueError("takes postgresql://… or sqlite:///…")
    url = url.set(drivername=ASYNC_DRIVERS[url.drivername])
    if "sslmode" in url.query:
        url = url.update_query_dict({"ssl": url.query["sslmode"]})
        url = url.difference_update_query(["sslmode"])
    if url.get_backend_name() == "postgresql" and set("@#") & set(f"{url.host}{url.database}"):
        raise ValueError("has a user or password whose special characters are not percent-encoded")
    if unknown := url.query.keys() - URL_PARAMETERS[url.get_backend_name()]:
        raise ValueError(f"has parameters that are not known: {', '.join(sorted(unknown))}")
    if url.query.get("ssl", "prefer") not in SSL_MODES:
        raise ValueError(f"takes for ssl one of {', '.join(sorted(SSL_MODES))}")
    return url


def get_sqlite_path(url: URL) -> Path | None:
    """The file of a SQLite database; None in memory and on Postgres."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    if url.query.get("mode") == "memory":
        return None
    return Path(str(url.database).removeprefix("file:"))


def parse_storage_url(value: object) -> URL:
    """A storage that the package `limits` knows."""
    if isinstance(value, URL):
        return value
    storage = str(value)
    if storage != "memory://" and not REDIS_URL.fullmatch(storage):
        raise ValueError("takes memory:// or redis://[user:password@]host[:port][/number]")
    url = make_url(storage)
    if storage == "memory://":
        return url
    if find_spec("redis") is None:
        raise ValueError("needs the extra redis: pip install '.[redis]'")
    port = REDIS_PORT if url.port is None else url.port
    if not 0 < port < 65_536 or (":" in str(url.host) and not is_ipv6(str(url.host))):
        raise ValueError("has a host or a port that there is not")
    return url.set(port=port)


def check_public_url(value: str) -> str:
    """An absolute http(s) address, with neither user nor query, without the slash at its end."""
    if not PUBLIC_URL.fullmatch(value):
        raise ValueError("takes an address such as https://example.com/blog")
    return str(TypeAdapter(HttpUrl).validate_python(value)).rstrip("/")


def is_ipv6(host: str) -> bool:
    try:
        return bool(IPv6Address(host))
    except ValueError:
        return False
