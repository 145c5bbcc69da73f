"""A TCP proxy that loses responses after the server has sent them."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class LossyProxy:
    """Forward requests with `Connection: close`, and lose a share of the responses.

    The client of a lost response sees the connection close without a byte.
    """

    server_port: int
    share: float
    lost: int = 0
    address: str = ""
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.server_port)
        request = asyncio.ensure_future(self._forward_request(reader, to_server))
        # A worker that is killed resets its connections.
        with suppress(ConnectionError):
            response = await from_server.read()
            if response and self.chance.random() < self.share:
                self.lost += 1
            else:
                writer.write(response)
                await writer.drain()
        request.cancel()
        to_server.close()
        writer.close()

    async def _forward_request(
        self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter
    ) -> None:
        with suppress(ConnectionError):
            while part := await reader.read(2**16):
                to_server.write(part)
                await to_server.drain()


@asynccontextmanager
async def lossy_proxy(server_port: int, share: float) -> AsyncIterator[LossyProxy]:
    """Yield a proxy that listens on a free port."""
    proxy = LossyProxy(server_port, share)
    async with await asyncio.start_server(proxy.forward, "127.0.0.1", 0) as listener:
        proxy.address = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield proxy
