"""Large responses: their bodies count in `BodyMemory` and are sent in slices."""

from asyncio import timeout
from collections.abc import Awaitable, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blog_api.db.session import SAFE_METHODS
from blog_api.web.body_memory import BodyMemory, get_network

RawHeaders = Iterable[tuple[bytes, bytes]]

SLICE_BYTES = 64 * 1024
# A slower reader is disconnected.
SLICE_SECONDS = 30.0


class LargeResponses:
    """Send a large body in slices, and only if there is room; else `unavailable` responds.

    The server's write buffer holds two slices at most. If a client does not read one for 30
    seconds, the rest is discarded, and the server closes the connection.

    It is outside of the response cache: clients that wait for one response may be of different
    networks, and a client that reads slowly holds a body that the cache has evicted.
    """

    def __init__(self, app: ASGIApp, memory: BodyMemory, unavailable: ASGIApp) -> None:
        self.app = app
        self.memory = memory
        self.unavailable = unavailable

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        return self.app(scope, receive, ResponseSender(self, scope, receive, send).send)


class ResponseSender:
    """`send` of one request, for `LargeResponses`. A small response passes through unchanged."""

    __slots__ = ("_is_discarded", "_limits", "_receive", "_scope", "_send", "_start")

    def __init__(self, limits: LargeResponses, scope: Scope, receive: Receive, send: Send) -> None:
        self._limits, self._scope, self._receive, self._send = limits, scope, receive, send
        # Of a response that may be large: its size is known with the first part of the body.
        self._start: Message | None = None
        self._is_discarded = False

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            if is_small(message["headers"]):
                return self._send(message)
            self._start = message
            return discard()
        if len(message.get("body", b"")) > SLICE_BYTES:
            return self._send_large(message)
        if self._start is not None or message.get("more_body", False) or self._is_discarded:
            return self._send_part(message)
        return self._send(message)

    async def _send_large(self, message: Message) -> None:
        body, network = message["body"], get_network(self._scope)
        memory = self._limits.memory
        # After a write there is a commit already, which the response has to tell.
        may_replace = self._start is not None and self._scope["method"] in SAFE_METHODS
        if may_replace and not memory.has_room(network, body, len(body)):
            self._is_discarded = True
            await self._limits.unavailable(self._scope, self._receive, self._send)
            return
        with memory.hold(network, body, len(body)):
            for start in range(0, len(body), SLICE_BYTES):
                end = start + SLICE_BYTES
                more_body = end < len(body) or message.get("more_body", False)
                await self._send_part({**message, "body": body[start:end], "more_body": more_body})

    async def _send_part(self, message: Message) -> None:
        if self._is_discarded:
            return
        try:
            async with timeout(SLICE_SECONDS):
                if self._start is not None:
                    await self._send(self._start)
                    self._start = None
                await self._send(message)
        except TimeoutError:
            self._is_discarded = True


def is_small(headers: RawHeaders) -> bool:
    """Return whether a response has a declared size of at most one slice."""
    return any(name == b"content-length" and int(value) <= SLICE_BYTES for name, value in headers)


async def discard() -> None:
    """Send nothing yet."""
