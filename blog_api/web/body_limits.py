"""Limits of request bodies, which are held in memory except for uploads.

A body of up to 64 KiB is passed on as it is. Of a larger one 64 KiB are read at most before its
token is verified, and its JSON is checked as it arrives: parsing 8 MiB of text takes a hundredth of
the time of 8 MiB of `{},{},…`. It counts in `BodyMemory` until the response is sent.
"""

from asyncio import timeout
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blog_api.core.errors import (
    ContentTooLarge,
    Problem,
    RequestTimeout,
    ServiceUnavailable,
    problem_response,
)
from blog_api.core.fields import MAX_SMALL_BODY_BYTES
from blog_api.web.body_memory import BodyMemory, get_network
from blog_api.web.clients import get_bearer_token
from blog_api.web.links import get_route_path

MAX_BODY_BYTES = 8 * 1024 * 1024
LARGE_BODY_SECONDS = 60.0
# Written to a file as it arrives; the limit is a setting.
UPLOAD_PATH = "/media"
# Of the maximum size; more of smaller ones.
MAX_SIMULTANEOUS_UPLOADS = 100

# An emoji may be sent as two escaped characters: the longest text has a million.
MAX_CHARACTERS = 1_100_000
UTF8_CONTINUATION = bytes(range(0x80, 0xC0))

# Python does not parse 5,000 digits.
MAX_DIGITS = 20
BODY_HEADERS = {b"content-length", b"transfer-encoding"}
TOO_MUCH_STRUCTURE = (
    "A body over 64 KiB must be JSON in UTF-8 with at most 64 KiB outside of strings"
)


class JSONSize:
    """Measure JSON, chunk by chunk: bytes outside of strings, and characters."""

    def __init__(self) -> None:
        self.structure = self.characters = 0
        self._is_in_string = self._is_escaped = False

    def add(self, chunk: bytes) -> None:
        """Raises ContentTooLarge for what would take long to parse."""
        if self._is_escaped and chunk:
            self._is_escaped, chunk = False, chunk[1:]
        backslashes = len(chunk) - len(chunk.rstrip(b"\\"))
        self._is_escaped |= backslashes % 2 == 1
        text = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
        self.characters += len(text.translate(None, UTF8_CONTINUATION)) - 5 * text.count(b"\\u")
        parts = text.split(b'"')
        quotes = len(parts) - 1
        self.structure += quotes + sum(map(len, parts[self._is_in_string :: 2]))
        self._is_in_string ^= quotes % 2 == 1
        if self.structure > MAX_SMALL_BODY_BYTES:
            raise ContentTooLarge(TOO_MUCH_STRUCTURE)
        if self.characters > MAX_CHARACTERS:
            raise ContentTooLarge(f"The body has more than {MAX_CHARACTERS:,} characters")


class BodyLimits:
    """Limit the bodies of requests.

    Without a bearer token a request body is small. `authenticate` raises the problem of an invalid
    token.
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticate: Callable[[str], Awaitable[object]],
        memory: BodyMemory,
        max_upload_bytes: int,
    ) -> None:
        self.app = app
        self.authenticate = authenticate
        self.memory = memory
        self.small = RequestBodyLimitMiddleware(app, MAX_SMALL_BODY_BYTES)
        self.large = RequestBodyLimitMiddleware(self.receive_large_body, MAX_BODY_BYTES)
        # With room for the other parts of a form.
        upload_bytes = max_upload_bytes + MAX_SMALL_BODY_BYTES
        self.upload = RequestBodyLimitMiddleware(self.admit_upload, upload_bytes)
        # On the disk.
        self.uploads = BodyMemory(MAX_SIMULTANEOUS_UPLOADS * upload_bytes)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        app = self.choose_app(scope) if scope["type"] == "http" else self.app
        return app(scope, receive, send)

    def choose_app(self, scope: Scope) -> ASGIApp:
        # Without one of these headers there is no body (RFC 9112, 6.3).
        if all(name not in BODY_HEADERS for name, _ in scope["headers"]):
            return self.app
        if not get_bearer_token(scope):
            return self.small
        is_upload = scope["method"] == "POST" and get_route_path(scope) == UPLOAD_PATH
        return self.upload if is_upload else self.large

    async def admit_upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Verify the token before the route receives the body, which it does not hold in memory."""
        size = get_content_length(scope) or self.upload.max_body_size
        with ExitStack() as reservation:
            try:
                await self.admit(scope, size, self.uploads, reservation)
            except Problem as problem:
                await problem_response(problem, scope)(scope, receive, send)
            else:
                await self.app(scope, receive, send)

    async def receive_large_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive the body before the application is called."""
        # Until the response is sent.
        with ExitStack() as reservation:
            try:
                async with timeout(LARGE_BODY_SECONDS):
                    body = await self.receive_body(scope, receive, reservation)
            except TimeoutError:
                await problem_response(RequestTimeout(), scope)(scope, receive, send)
            except Problem as problem:
                await problem_response(problem, scope)(scope, receive, send)
            except ClientDisconnect:
                return
            else:
                await self.app(scope, replay(body, receive), send)

    async def receive_body(self, scope: Scope, receive: Receive, reservation: ExitStack) -> bytes:
        """Return the body; the token is verified before more than 64 KiB are received.

        Raises InvalidToken, InactiveUser, ServiceUnavailable, ContentTooLarge and ClientDisconnect.
        """
        length = get_content_length(scope)
        if length > MAX_SMALL_BODY_BYTES:
            await self.admit(scope, length, self.memory, reservation)
        size = JSONSize()
        body = bytearray()
        more_body = True
        while more_body:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            more_body = message.get("more_body", False)
            if len(body) > MAX_SMALL_BODY_BYTES > length:
                length = MAX_BODY_BYTES
                await self.admit(scope, length, self.memory, reservation)
            size.add(message.get("body", b""))
        if len(body) > MAX_SMALL_BODY_BYTES and 0 in body[:4]:
            # UTF-16 or UTF-32, in which the structure was not counted (RFC 8259, 8.1).
            raise ContentTooLarge(TOO_MUCH_STRUCTURE)
        return bytes(body)

    async def admit(
        self, scope: Scope, size: int, memory: BodyMemory, reservation: ExitStack
    ) -> None:
        """Raises the problem of an invalid token, and ServiceUnavailable without room."""
        await self.authenticate(get_bearer_token(scope))
        network = get_network(scope)
        if not memory.has_room(network, reservation, size):
            raise ServiceUnavailable
        reservation.enter_context(memory.hold(network, reservation, size))


def get_content_length(scope: Scope) -> int:
    """Return the declared size in bytes; 0 for a chunked body."""
    value = Headers(scope=scope).get("Content-Length", "")
    return int(value) if value.isdecimal() and len(value) < MAX_DIGITS else 0


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` whose first message is the whole body."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
