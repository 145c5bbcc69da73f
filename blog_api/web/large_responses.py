"""Large responses: their bodies count in `BodyMemory` and are sent in slices.

This is outside of the response cache: clients that wait for one response may be of different
networks, and a client that reads slowly holds a body that the cache has evicted.
"""

from asyncio import timeout
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blog_api.db.session import SAFE_METHODS
from blog_api.web.body_memory import BodyMemory, get_network
from blog_api.web.conditional import RawHeaders

LimitSend = Callable[[Scope, Receive, Send], Send]

SLICE_BYTES = 64 * 1024
# A slower reader is disconnected.
SLICE_SECONDS = 30.0


class LargeResponses:
    """Limit large responses where there is no response cache, which does it otherwise."""

    def __init__(self, app: ASGIApp, limit_send: LimitSend) -> None:
        self.app = app
        self.limit_send = limit_send

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self.app(scope, receive, self.limit_send(scope, receive, send))


class ResponseSender:
    """A `send` for a response that may be large. A small one passes through unchanged.

    A large body is sent in slices, and only if there is room; else `unavailable` responds. The
    server's write buffer holds two slices at most. If a client does not read one for 30 seconds,
    the rest is discarded, and the server closes the connection.
    """

    __slots__ = (
        "_is_discarded", "_memory", "_receive", "_scope", "_send", "_start", "_unavailable"
    )  # fmt: skip

    def __init__(
        self, memory: BodyMemory, unavailable: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._memory, self._unavailable = memory, unavailable
        self._scope, self._receive, self._send = scope, receive, send
        # Of a response that may be large: its size is known with the first part of the body.
        self._start: Message | None = None
        self._is_discarded = False

    def __call__(self, message: Message) -> Awaitable[None]:
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
        # After a write there is a commit already, which the response has to tell.
        may_replace = self._start is not None and self._scope["method"] in SAFE_METHODS
        if may_replace and not self._memory.has_room(network, body, len(body)):
            self._is_discarded = True
            await self._unavailable(self._scope, self._receive, self._send)
            return
        with self._memory.hold(network, body, len(body)):
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
