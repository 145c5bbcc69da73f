"""Conditional requests (RFC 9110, 13): ETags, 304, and 412 for `If-Match`.

The ETag of a response is a digest of its body. If the response shows one row, the row's version
comes first: `"3-9f86d081884c7d659a2feaa0"`. A GET with that ETag in `If-None-Match` gets 304 while
the body is unchanged; an update with it in `If-Match` gets 412 once the row has another version,
no matter in which media type the client has read version 3.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Header, Request
from starlette import status as codes
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blog_api.core.errors import Problem
from blog_api.db.base import VersionedModel

ETAG_DIGITS = 24
# Caches may store a response, but revalidate it by its ETag each time.
NO_CACHE = b"no-cache"
PUBLIC_NO_CACHE = b"public, no-cache"
# A 304 has no body.
BODY_HEADERS = {b"content-length", b"content-type"}

# Headers of an ASGI message; names are in lower case.
RawHeaders = list[tuple[bytes, bytes]]

# The ETag of one row, with its version.
VERSIONED_ETAG = re.compile(r'"(\d{1,10})-[0-9a-f]+"', re.ASCII)


class PreconditionFailed(Problem):
    """`If-Match` names another version: read the current one and try again."""

    status = codes.HTTP_412_PRECONDITION_FAILED
    detail = "This was changed since you read it"


class Precondition:
    """ETags in `If-Match` (RFC 9110, 13.1.1)."""

    def __init__(self, headers: Sequence[str]) -> None:
        self._tags = [tag.strip() for header in headers for tag in header.split(",")]

    def check(self, row: VersionedModel) -> None:
        """Raise PreconditionFailed unless one of the ETags has the row's version."""
        if self._tags in ([], ["*"]):
            return
        found = (VERSIONED_ETAG.fullmatch(tag) for tag in self._tags)
        if not any(one and int(one[1]) == row.version for one in found):
            raise PreconditionFailed


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


def set_etag_version(request: Request, version: int) -> None:
    """Make the ETag of the response start with this version."""
    request.state.version = version


def mark_public(request: Request) -> None:
    """Allow shared caches to store the response: it is the same for every client."""
    request.state.is_public = True


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
    version: int | None = state.get("version")
    is_read = scope["method"] == "GET" and status == codes.HTTP_200_OK
    is_written = version is not None and status in (codes.HTTP_200_OK, codes.HTTP_201_CREATED)
    if not (is_read or is_written):
        return body
    given = dict(start["headers"])
    # Static files have an ETag; a response that is never stored is never revalidated.
    if b"etag" in given or given.get(b"cache-control") == b"no-store":
        return body
    digest = sha256(body.get("body", b"")).hexdigest()[:ETAG_DIGITS]
    etag = (f'"{digest}"' if version is None else f'"{version}-{digest}"').encode()
    headers: RawHeaders = [*start["headers"], (b"etag", etag)]
    is_public = is_read and state.get("is_public", False)
    if b"cache-control" not in given:
        headers.append((b"cache-control", PUBLIC_NO_CACHE if is_public else NO_CACHE))
    # The response cache stores the complete response and compares `If-None-Match` itself.
    is_cached = is_public and state.get("is_cached", False)
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
    for name, value in scope["headers"]:
        if name == b"if-none-match":
            known = {tag.strip().removeprefix(b"W/") for tag in value.split(b",")}
            if known & {b"*", etag}:
                return True
    return False
