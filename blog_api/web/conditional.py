"""Conditional requests (RFC 9110, 13): versions, ETags, `If-Match`, 304."""

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


# Whoever keeps an answer asks again, and learns by the ETag that it is still so.
NO_CACHE = b"no-cache"


PUBLIC_NO_CACHE = b"public, no-cache"


# What an answer without a body does not have.
BODY_HEADERS = {b"content-length", b"content-type"}


# The header fields of a message, their names in lower case.
RawHeaders = list[tuple[bytes, bytes]]


# A strong ETag of ours: of a row with a version, that comes first.
VERSIONED_ETAG = re.compile(r'"(\d{1,10})-[0-9a-f]+"', re.ASCII)


class PreconditionFailed(Problem):
    """`If-Match` names another version: read it again, and decide anew."""

    status = codes.HTTP_412_PRECONDITION_FAILED
    detail = "This was changed since you read it"


class Precondition:
    """What a client knows of what it changes (RFC 9110, 13.1.1)."""

    def __init__(self, headers: Sequence[str]) -> None:
        self._tags = [tag.strip() for header in headers for tag in header.split(",")]

    def check(self, row: VersionedModel) -> None:
        """Raise PreconditionFailed where the client has read another version, or none of ours."""
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
            description="ETags of what was read: 412 where it was changed since.",
        ),
    ] = None,
) -> Precondition:
    # Several fields of this name are one list (RFC 9110, 5.3).
    return Precondition(request.headers.getlist("If-Match"))


PreconditionDep = Annotated[Precondition, Depends(get_precondition)]


def set_etag_version(request: Request, version: int) -> None:
    """Let the ETag of the answer begin with the version of what it shows."""
    request.state.version = version


def mark_public(request: Request) -> None:
    """Let the answer be one for everybody, which may be kept."""
    request.state.is_public = True


class ConditionalRequests:
    """Give each answer that is made as a whole a strong ETag; a GET that knows it gets 304."""

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
    """Put an ETag into the start of an answer; returns what is left of its body."""
    status, state = start["status"], scope["state"]
    version: int | None = state.get("version")
    is_read = scope["method"] == "GET" and status == codes.HTTP_200_OK
    is_written = version is not None and status in (codes.HTTP_200_OK, codes.HTTP_201_CREATED)
    if not (is_read or is_written):
        return body
    given = dict(start["headers"])
    # Files have one of their own; what must not be kept need not be known again.
    if b"etag" in given or given.get(b"cache-control") == b"no-store":
        return body
    digest = sha256(body.get("body", b"")).hexdigest()[:ETAG_DIGITS]
    etag = (f'"{digest}"' if version is None else f'"{version}-{digest}"').encode()
    headers: RawHeaders = [*start["headers"], (b"etag", etag)]
    is_public = is_read and state.get("is_public", False)
    if b"cache-control" not in given:
        headers.append((b"cache-control", PUBLIC_NO_CACHE if is_public else NO_CACHE))
    # What is kept outside of here is kept whole, and judged there.
    is_cached = is_public and state.get("is_cached", False)
    if not is_read or is_cached or not matches_if_none_match(scope, etag):
        start["headers"] = headers
        return body
    start["status"] = codes.HTTP_304_NOT_MODIFIED
    start["headers"] = remove_body_headers(headers)
    return {**body, "body": b""}


def remove_body_headers(headers: RawHeaders) -> RawHeaders:
    """What an answer says of itself to a client that has it."""
    return [line for line in headers if line[0] not in BODY_HEADERS]


def matches_if_none_match(scope: Scope, etag: bytes) -> bool:
    """Whether the client has the answer with this ETag (RFC 9110, 13.1.2).

    `If-Modified-Since` is not asked: a feed changes too when an older post goes.
    """
    for name, value in scope["headers"]:
        if name == b"if-none-match":
            known = {tag.strip().removeprefix(b"W/") for tag in value.split(b",")}
            if known & {b"*", etag}:
                return True
    return False
