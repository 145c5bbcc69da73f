"""Settings: `BLOG_*` in the environment or in `.env`, read once, validated and frozen."""

import json
import os
import re
import secrets
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from email_validator import EmailNotValidError, validate_email
from limits import RateLimitItem
from limits import parse as parse_limit
from pydantic import (
    AfterValidator,
    Field,
    HttpUrl,
    PlainValidator,
    SecretStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError
from sqlalchemy import URL

from blog_api.core.domains import to_a_labels
from blog_api.core.fields import check_line
from blog_api.core.urls import (
    check_media_url,
    check_public_url,
    check_web_address,
    get_media_folder,
    get_sqlite_path,
    parse_database_url,
    parse_listen_database_url,
    parse_mail_url,
    parse_optional_database_url,
    parse_storage_url,
)

ENV_PREFIX = "BLOG_"
ENV_FILE = ".env"
SQLITE = "sqlite"
MIN_SECRET_KEY_BYTES = 32

RATE_PATTERN = re.compile(r"[1-9]\d{0,5}/([1-9]\d{0,3} ?)?(second|minute|hour|day)s?", re.ASCII)

# Set by Kubernetes in every pod that has a Service named `blog` in its namespace.
KUBERNETES_VARIABLE = re.compile(r"BLOG_(SERVICE|PORT)_.*|BLOG_PORT=(tcp|udp|sctp)://.*")

# Minimum memory in KiB for a number of passes: OWASP Password Storage Cheat Sheet, Argon2id.
ARGON2_FLOORS = ((47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5))


def check_origin(origin: str) -> str:
    """Validate an origin as browsers send it (scheme, host and port), or `*`."""
    if origin != "*" and (
        "@" in origin or str(TypeAdapter(HttpUrl).validate_python(origin)) != f"{origin}/"
    ):
        raise ValueError("must be origins such as https://example.com, or *")
    return origin


def check_post_url(value: str) -> str:
    """Validate a URL template with `{slug}` or `{id}`."""
    for name in ("slug", "id"):
        if f"{{{name}}}" in value:
            url = TypeAdapter(HttpUrl).validate_python(value.replace(f"{{{name}}}", "1"))
            if url.username or url.password:
                raise ValueError("must not contain a password: feeds show it")
            return value
    raise ValueError("must be a URL with {slug} or {id}, such as https://example.com/{slug}")


def check_host(host: str) -> str:
    """Validate a host name without a port; `*.` matches subdomains, `*` every host."""
    if not re.fullmatch(r"\*|(\*\.)?[A-Za-z0-9._-]+", host):
        raise ValueError("must be host names such as example.com or *.example.com, or *")
    return host


def check_iframe_host(host: str) -> str:
    """Validate a host name and return its A-labels, as addresses have them."""
    name = to_a_labels(host)
    if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z][a-z0-9-]*", name):
        raise ValueError("must be host names such as www.youtube-nocookie.com, without a port")
    return name


def check_network(network: str) -> str:
    """Validate an IP address or network."""
    try:
        return str(ip_network(network)) if "/" in network else str(ip_address(network))
    except ValueError:
        raise ValueError("must be addresses or networks such as 10.0.0.1 or 10.0.0.0/8") from None


def check_secret_key(value: SecretStr) -> SecretStr:
    """Validate the length: HMAC-SHA256 needs a key as long as its output (RFC 7518, 3.2)."""
    key = value.get_secret_value()
    if len(key.encode()) < MIN_SECRET_KEY_BYTES:
        raise ValueError(f"must have at least {MIN_SECRET_KEY_BYTES} bytes")
    if len(set(key)) == 1:
        raise ValueError("must not be one repeated character")
    return value


def parse_rate_limit(value: object) -> RateLimitItem:
    """Parse the notation of the package `limits`, such as `10/minute`."""
    if isinstance(value, RateLimitItem):
        return value
    if not RATE_PATTERN.fullmatch(str(value)):
        raise ValueError("must be a limit such as 10/minute or 100/12 hours")
    return parse_limit(str(value))


def format_rate_limit(limit: RateLimitItem) -> str:
    times = "" if limit.multiples == 1 else f"{limit.multiples} "
    return f"{limit.amount}/{times}{limit.GRANULARITY.name}"


def check_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error:
        raise ValueError("is not a regular expression") from None
    return value


def check_mail_from(value: str) -> str:
    """Return the address in ASCII, which every server understands."""
    try:
        address = validate_email(value, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError:
        raise ValueError("must be an email address such as blog@example.com") from None
    # The type of the package is optional; without SMTPUTF8 it is always there.
    return str(address.ascii_email)


def check_link_template(value: str) -> str:
    """Validate an address with `{token}` in its fragment, which is sent to no server."""
    address, _, fragment = value.partition("#")
    if "{token}" not in fragment or "{token}" in address:
        raise ValueError(
            "must have {token} after a #, such as https://example.com/password#{token}: "
            "elsewhere it would appear in logs"
        )
    check_web_address(value.replace("{token}", "1"))
    return value


LinkTemplate = Annotated[str, AfterValidator(check_link_template)]
RateLimit = Annotated[RateLimitItem, NoDecode, PlainValidator(parse_rate_limit)]


class Settings(BaseSettings):
    """Settings of a deployment; the field `name` is set by `BLOG_NAME`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", frozen=True
    )

    database_url: Annotated[URL, NoDecode, PlainValidator(parse_database_url)] = Field(
        default="sqlite+aiosqlite:///blog.db", validate_default=True
    )
    copy_to: Annotated[URL | None, NoDecode, PlainValidator(parse_optional_database_url)] = None
    # Without PgBouncer, which does not pass notifications on.
    listen_database_url: Annotated[
        URL | None, NoDecode, PlainValidator(parse_listen_database_url)
    ] = None
    pool_size: int = Field(default=5, ge=1, le=100)
    shutdown_seconds: int = Field(default=8, ge=2, le=600)
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: bool = True
    secret_key: Annotated[SecretStr, AfterValidator(check_secret_key)] | None = None
    secret_key_previous: Annotated[SecretStr, AfterValidator(check_secret_key)] | None = None
    refresh_grace_seconds: int = Field(default=10, ge=0, le=300)

    password_min_length: int = Field(default=8, ge=8, le=128)
    password_refuse_common: bool = True
    argon2_memory_kib: int = Field(default=65_536, ge=8, le=4_194_304)
    argon2_passes: int = Field(default=3, ge=1, le=100)
    # Each lane is a thread: more lanes speed up one login, and slow down concurrent requests.
    argon2_lanes: int = Field(default=1, ge=1, le=64)

    title: Annotated[str, AfterValidator(check_line)] = Field(
        default="Blog API", min_length=1, max_length=100
    )
    public_url: Annotated[str, AfterValidator(check_public_url)] | None = None
    post_url: Annotated[str, AfterValidator(check_post_url)] | None = None
    iframe_hosts: tuple[Annotated[str, AfterValidator(check_iframe_host)], ...] = Field(
        default=(), examples=["www.youtube-nocookie.com"]
    )
    cors_origins: tuple[Annotated[str, AfterValidator(check_origin)], ...] = Field(
        default=(), examples=["https://example.com"]
    )
    cors_origin_pattern: Annotated[str, AfterValidator(check_pattern)] | None = None
    cors_credentials: bool = False
    cors_max_age: int = Field(default=600, ge=0, le=86_400)
    trusted_hosts: tuple[Annotated[str, AfterValidator(check_host)], ...] = Field(
        default=("*",), min_length=1, examples=["example.com"]
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(check_network)], ...] = Field(
        default=(), examples=["10.0.0.0/8"]
    )

    # On SQLite `console://`: see `set_default_mail_url()`.
    mail_url: Annotated[URL | None, NoDecode, PlainValidator(parse_mail_url)] = None
    mail_from: Annotated[str, AfterValidator(check_mail_from)] | None = None
    password_reset_url: LinkTemplate | None = None
    email_verification_url: LinkTemplate | None = None
    email_undo_url: LinkTemplate | None = None
    require_verified_email: bool = False

    sign_up: Literal["open", "closed"] = "open"
    new_users_are_authors: bool = True
    comments: Literal["open", "approved", "closed"] = "open"

    rate_limit_enabled: bool = True
    rate_limit_storage: Annotated[URL, NoDecode, PlainValidator(parse_storage_url)] = Field(
        default="memory://", validate_default=True
    )
    rate_limit_guesses: RateLimit = Field(default="10/minute", validate_default=True)
    rate_limit_guesses_of_address: RateLimit = Field(default="30/minute", validate_default=True)
    rate_limit_guesses_at_account: RateLimit = Field(default="100/hour", validate_default=True)
    rate_limit_log_ins: RateLimit = Field(default="100/minute", validate_default=True)
    rate_limit_sign_ups: RateLimit = Field(default="20/hour", validate_default=True)
    # The window is shorter than the lifetime of a code: a user who exceeds the limit has already
    # received a code that is still valid.
    rate_limit_mails: RateLimit = Field(default="5/15 minutes", validate_default=True)
    rate_limit_writes: RateLimit = Field(default="60/minute", validate_default=True)
    rate_limit_tokens: RateLimit = Field(default="20/hour", validate_default=True)
    cache_bytes: int = Field(default=32 * 1024 * 1024, ge=0)
    # The smallest quarter has room for one body of the largest size.
    body_memory_bytes: int = Field(default=128 * 1024 * 1024, ge=32 * 1024 * 1024)

    media_url: Annotated[str, AfterValidator(check_media_url)] | None = None
    media_max_bytes: int = Field(default=10 * 1024 * 1024, ge=1, le=1024**3)
    media_quota_bytes: int = Field(default=200 * 1024 * 1024, ge=0, le=2**50)

    @property
    def media_folder(self) -> Path | None:
        """Folder of uploaded pictures: that of the URL, or one beside the SQLite file."""
        if self.media_url is not None:
            return get_media_folder(self.media_url)
        file = get_sqlite_path(self.database_url)
        return None if file is None else file.with_name(f"{file.name}.media")

    @property
    def public_path(self) -> str:
        """Path of the public URL, without a trailing slash."""
        return urlsplit(self.public_url or "").path

    @property
    def uses_memory_rate_limits(self) -> bool:
        return self.rate_limit_storage.drivername == "memory"

    @property
    def is_sqlite(self) -> bool:
        return self.database_url.get_backend_name() == "sqlite"

    @property
    def is_in_memory(self) -> bool:
        return self.is_sqlite and get_sqlite_path(self.database_url) is None

    @model_validator(mode="before")
    @classmethod
    def set_default_mail_url(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Print mails on SQLite, unless the variable is set and empty: no source has that value."""
        is_sqlite = str(values.get("database_url", SQLITE)).startswith(SQLITE)
        if is_sqlite and f"{ENV_PREFIX}MAIL_URL" not in read_variables():
            return {"mail_url": "console://", **values}
        return values

    @model_validator(mode="after")
    def check_combinations(self) -> Self:
        if not self.is_sqlite and self.secret_key is None:
            raise ValueError(
                "BLOG_SECRET_KEY: is required on Postgres; make one with "
                "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        if not self.is_in_memory and not any(
            self.argon2_memory_kib >= memory and self.argon2_passes >= passes
            for memory, passes in ARGON2_FLOORS
        ):
            raise ValueError(
                "BLOG_ARGON2_MEMORY_KIB: is weaker with BLOG_ARGON2_PASSES than OWASP's minimum, "
                "such as 19456 KiB with 2 passes"
            )
        if self.is_sqlite and self.listen_database_url is not None:
            raise ValueError("BLOG_LISTEN_DATABASE_URL: is for Postgres only")
        if self.mail_url is None and self.require_verified_email:
            raise ValueError("BLOG_REQUIRE_VERIFIED_EMAIL: needs BLOG_MAIL_URL")
        if self.mail_from is None and self.mail_url and self.mail_url.host:
            raise ValueError("BLOG_MAIL_FROM: is required with an SMTP server")
        pages = (self.public_url, self.post_url, *self.cors_origins)
        if own := {urlsplit(page or "").hostname for page in pages} & {*self.iframe_hosts}:
            raise ValueError(f"BLOG_IFRAME_HOSTS: frames from {own.pop()} could change the blog")
        if self.cors_credentials and self.allows_any_origin:
            raise ValueError("BLOG_CORS_CREDENTIALS: requires a list of origins, not all origins")
        return self

    @property
    def allows_any_origin(self) -> bool:
        """Return whether CORS allows an arbitrary origin, tried with a random one."""
        origin = f"https://{secrets.token_hex(16)}.invalid"
        pattern = self.cors_origin_pattern
        return "*" in self.cors_origins or bool(pattern and re.fullmatch(pattern, origin))

    def describe(self) -> Iterator[tuple[str, str]]:
        """Yield the environment variable and the value of each setting; secrets are masked."""
        for field in type(self).model_fields:
            value = getattr(self, field)
            if isinstance(value, URL):
                shown = value.render_as_string(hide_password=True)
            elif isinstance(value, tuple):
                shown = json.dumps(value)
            elif isinstance(value, RateLimitItem):
                shown = format_rate_limit(value)
            else:
                shown = "" if value is None else str(value)
            yield f"{ENV_PREFIX}{field.upper()}", shown


# Options of the command line that are no settings.
SERVE_OPTIONS = ("host", "port", "workers", "reload")


def read_variables(env_file: str = ENV_FILE) -> dict[str, str | None]:
    """Return the variables of the environment and of `.env`, with their names in upper case."""
    variables = {**dotenv_values(env_file), **os.environ}
    return {name.upper(): value for name, value in variables.items()}


def find_unknown_settings(env_file: str = ENV_FILE) -> list[str]:
    """Return the `BLOG_*` variables that are no setting, most likely misspelled."""
    known = {f"{ENV_PREFIX}{field}".upper() for field in Settings.model_fields}
    return sorted(
        name
        for name, value in read_variables(env_file).items()
        if name.startswith(ENV_PREFIX)
        and name not in known
        and not KUBERNETES_VARIABLE.fullmatch(name)
        and not KUBERNETES_VARIABLE.fullmatch(f"{name}={value}")
    )


def describe_unknown(name: str) -> str:
    """Return the error for an unknown setting, with what it may have meant."""
    option = name.removeprefix(ENV_PREFIX).lower()
    if option in SERVE_OPTIONS:
        return f"{name}: unknown setting; did you mean the option --{option} of blog-api serve?"
    known = [f"{ENV_PREFIX}{field}".upper() for field in Settings.model_fields]
    similar = get_close_matches(name, known, n=1, cutoff=0.8)
    return f"{name}: unknown setting" + "".join(f"; did you mean {one}?" for one in similar)


def load_settings() -> Settings:
    """Return the settings, or exit with status 2 and a line for each invalid one."""
    try:
        if unknown := find_unknown_settings():
            exit_with_errors(*map(describe_unknown, unknown))
        return Settings()
    except ValidationError as error:
        # The first error of each setting: a list can have several per item.
        found = {one["loc"][:1]: one["msg"] for one in reversed(error.errors())}
        exit_with_errors(*(format_error(loc, message) for loc, message in found.items()))
    except SettingsError as error:
        # A list that is not JSON; the message has the name of the field, and not its value.
        field = str(error).partition('"')[2].partition('"')[0]
        exit_with_errors(
            format_error(
                (field,), f"must be a JSON list, such as {json.dumps(get_examples(field))}"
            )
        )
    except (OSError, UnicodeDecodeError) as error:
        exit_with_errors(f"{ENV_FILE}: {error}")


def get_examples(field: str) -> list[str]:
    return Settings.model_fields[field].examples or []


def format_error(loc: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"{ENV_PREFIX}{str(loc[0]).upper()}: {message}" if loc else message


def exit_with_errors(*lines: str) -> NoReturn:
    for line in lines:
        print(f"blog-api: {line}", file=sys.stderr)
    raise SystemExit(2)
