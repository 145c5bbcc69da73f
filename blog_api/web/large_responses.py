"""Large responses: their bodies count in `BodyMemory` and are sent in slices."""

from asyncio import timeout
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blog_api.db.session import SAFE_METHODS
from blog_api.web.body_memory import BodyMemory, get_network

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
        start: Message | None = None
        is_discarded = False

        def send_part(message: Message) -> Awaitable[None]:
            nonlocal start
            if message["type"] == "http.response.start":
                # The size is known with the first part of the body.
                start = message
                return discard()
            is_large = len(message.get("body", b"")) > SLICE_BYTES
            if is_large or is_discarded or message.get("more_body", False):
                return send_in_slices(message, is_large)
            return send_with_start(message)

        async def send_with_start(message: Message) -> None:
            nonlocal start
            if start is not None:
                await send(start)
                start = None
            await send(message)

        async def send_in_slices(message: Message, is_large: bool) -> None:
            nonlocal is_discarded
            if is_discarded:
                return
            body = message.get("body", b"")
            if not is_large:
                await send_slice(message)
                return
            network = get_network(scope)
            # After a write there is a commit already, which the response has to tell.
            may_replace = start is not None and scope["method"] in SAFE_METHODS
            if may_replace and not self.memory.has_room(network, body, len(body)):
                is_discarded = True
                await self.unavailable(scope, receive, send)
                return
            with self.memory.hold(network, body, len(body)):
                for first in range(0, len(body), SLICE_BYTES):
                    end = first + SLICE_BYTES
                    more_body = end < len(body) or message.get("more_body", False)
                    await send_slice({**message, "body": body[first:end], "more_body": more_body})
                    if is_discarded:
                        return

        async def send_slice(message: Message) -> None:
            nonlocal is_discarded
            try:
                async with timeout(SLICE_SECONDS):
                    await send_with_start(message)
            except TimeoutError:
                is_discarded = True

        return self.app(scope, receive, send_part if scope["type"] == "http" else send)


async def discard() -> None:
    """Send nothing: not yet, or no more."""
