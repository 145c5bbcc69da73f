"""Conditional requests (RFC 9110, 13): ETags, 304, and 412 for `If-Match`.

The ETag of a response is a digest of its body. If the response shows one row, the row's version
and a digest of its table and id come first: `"3-2c26b46b68ff-9f86d081884c7d659a2feaa0"`. A GET with
that ETag in `If-None-Match` gets 304 while the body is unchanged; an update with it in `If-Match`
gets 412 once the row has another version, no matter in which media type the client has read
version 3. `ETagCondition` compares all ETags. It accepts the changes that compressing proxies make.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from starlette import status as codes
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blog_api.core.errors import Problem
from blog_api.db.base import TableModel, VersionedModel, identify_row

ETAG_DIGITS = 24
IF_NONE_MATCH = b"if-none-match"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Caches may store a response, but revalidate it by its ETag each time.
NO_CACHE = b"no-cache"
PUBLIC_NO_CACHE = b"public, no-cache"
# A 304 has no body.
BODY_HEADERS = {b"content-length", b"content-type"}

# Headers of an ASGI message; names are in lower case.
RawHeaders = list[tuple[bytes, bytes]]

# The ETag of one row, with its version and its identity.
VERSIONED_ETAG = re.compile(r'"(\d{1,20}-(?P<identity>[0-9a-f]{12}))-[0-9a-f]{24}"', re.ASCII)
# A compressing proxy weakens an ETag (nginx) or appends a suffix (Apache).
RECEIVED_ETAG = re.compile(r'(?:W/)?("[^"]*?)(?:-(?:gzip|br|zstd|deflate))?"')


class PreconditionFailed(Problem):
    """`If-Match` names another version: read the current one and try again."""

    status = codes.HTTP_412_PRECONDITION_FAILED
    detail = "This was changed since you read it"


class ETagCondition:
    """ETags in `If-Match` or `If-None-Match`, without the marks of compressing proxies.

    `If-Match` requires a strong comparison (RFC 9110, 13.1.1). Accepting a weakened ETag is a
    deviation: nginx sends nothing else. It is safe because the version in the ETag is compared.
    """

    def __init__(self, headers: Sequence[str]) -> None:
        tags = {tag.strip() for header in headers for tag in header.split(",")}
        self.is_present = bool(headers)
        self.is_wildcard = "*" in tags
        found = (RECEIVED_ETAG.fullmatch(tag) for tag in tags)
        self._tags = {f'{one[1]}"' for one in found if one}

    def matches(self, etag: str) -> bool:
        """Return whether one of the ETags is this one."""
        return self.is_wildcard or etag in self._tags

    def matches_row(self, validator: str) -> bool:
        """Return whether one of the ETags begins with this version and identity."""
        found = (VERSIONED_ETAG.fullmatch(tag) for tag in self._tags)
        return self.is_wildcard or any(one and one[1] == validator for one in found)


class Precondition:
    """`If-Match` of a request that changes something."""

    def __init__(self, headers: Sequence[str]) -> None:
        self._condition = ETagCondition(headers)

    def check(self, row: TableModel) -> None:
        """Raise PreconditionFailed unless one of the ETags has the row's version."""
        if self._condition.is_present and not self._condition.matches_row(make_validator(row)):
            raise PreconditionFailed


def make_validator(row: TableModel) -> str:
    """Return the start of the row's ETags."""
    version = row.version if isinstance(row, VersionedModel) else count_microseconds(row.updated_at)
    return format_validator(type(row), row.id, version)


def format_validator(table: type[TableModel], row_id: int, version: int) -> str:
    return f"{version}-{identify_row(str(table.__tablename__), row_id)}"


def count_microseconds(time: datetime) -> int:
    """Return a time as the version of a row without one."""
    return (time - EPOCH) // timedelta(microseconds=1)


async def get_precondition(
    request: Request,
    _: Annotated[
        str | None,
        Header(
            alias="If-Match",
            max_length=1_000,
            description="ETag of the version to change. If it is not the current one: 412.",
        ),
    ] = None,
) -> Precondition:
    # The header may be repeated (RFC 9110, 5.3).
    return Precondition(request.headers.getlist("If-Match"))


PreconditionDep = Annotated[Precondition, Depends(get_precondition)]


def set_etag_row(request: Request, row: TableModel) -> None:
    """Make the ETag of the response start with the version and the identity of this row."""
    request.state.validator = make_validator(row)


def set_etag_version(
    request: Request, table: type[TableModel], row_id: int, version: int | datetime
) -> None:
    """Do the same for a row that was read without its class."""
    number = version if isinstance(version, int) else count_microseconds(version)
    request.state.validator = format_validator(table, row_id, number)


def mark_public(request: Request) -> None:
    """Allow shared caches to store the response: it is the same for every anonymous client."""
    request.state.is_public = True


def mark_shared(request: Request) -> None:
    """Allow the response cache to send the response to signed-in clients too."""
    request.state.is_shared = True


def mark_independent(request: Request) -> None:
    """Let the response stay in the cache while other rows than that of its ETag are updated.

    The tables of those rows declare `Invalidates.ROWS`.
    """
    request.state.is_independent = True


def mark_rows(request: Request, table: str, ids: Iterable[int]) -> None:
    """Let a list stay in the cache while counters of other rows than those that it shows change."""
    request.state.rows = tuple(identify_row(table, one) for one in ids)


def make_etag(validator: str | None, body: bytes | memoryview) -> str:
    digest = sha256(body).hexdigest()[:ETAG_DIGITS]
    return f'"{digest}"' if validator is None else f'"{validator}-{digest}"'


def set_etag_headers(request: Request, response: Response) -> None:
    """Add the headers that `ConditionalRequests` would add to a response that shows one row."""
    validator: str | None = getattr(request.state, "validator", None)
    if validator is not None:
        response.headers["ETag"] = make_etag(validator, response.body)
        response.headers.setdefault("Cache-Control", NO_CACHE.decode())


class ConditionalRequests:
    """Add strong ETags to responses that are not streamed, and respond with 304."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start: Message | None = None

        async def send_with_etag(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                if not message.get("more_body", False):
                    message = add_etag(scope, start, message)
                await send(start)
                start = None
            await send(message)

        await self.app(scope, receive, send_with_etag)


def add_etag(scope: Scope, start: Message, body: Message) -> Message:
    """Add an ETag to `start` if the response may have one; return the body to send."""
    status, state = start["status"], scope["state"]
    validator: str | None = state.get("validator")
    is_read = scope["method"] == "GET" and status == codes.HTTP_200_OK
    is_written = validator is not None and status in (codes.HTTP_200_OK, codes.HTTP_201_CREATED)
    if not (is_read or is_written):
        return body
    given = dict(start["headers"])
    # Static files have an ETag; a response that is never stored is never revalidated.
    if b"etag" in given or given.get(b"cache-control") == b"no-store":
        return body
    etag = make_etag(validator, body.get("body", b"")).encode()
    headers: RawHeaders = [*start["headers"], (b"etag", etag)]
    is_public = is_read and state.get("is_public", False)
    if b"cache-control" not in given:
        headers.append((b"cache-control", PUBLIC_NO_CACHE if is_public else NO_CACHE))
    # The response cache stores the complete response and compares `If-None-Match` itself.
    is_cached = state.get("is_cached", False) and (is_public or state.get("is_shared", False))
    if not is_read or is_cached or not matches_if_none_match(scope, etag):
        start["headers"] = headers
        return body
    start["status"] = codes.HTTP_304_NOT_MODIFIED
    start["headers"] = remove_body_headers(headers)
    return {**body, "body": b""}


def remove_body_headers(headers: RawHeaders) -> RawHeaders:
    return [line for line in headers if line[0] not in BODY_HEADERS]


def matches_if_none_match(scope: Scope, etag: bytes) -> bool:
    """Compare an ETag with `If-None-Match` (RFC 9110, 13.1.2).

    `If-Modified-Since` is ignored: deleting a post changes a feed but no date in it.
    """
    headers = [value.decode("latin-1") for name, value in scope["headers"] if name == IF_NONE_MATCH]
    return bool(headers) and ETagCondition(headers).matches(etag.decode("latin-1"))
