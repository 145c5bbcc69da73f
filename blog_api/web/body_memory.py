"""Memory of large bodies: those of requests, of responses and of exports share one maximum.

Uploads are received into files; they have a maximum of their own.

Without room for one, the response is 503. Example: a client that reads slowly holds its lists of
2 MB in memory, until there is no room for another one of its network; the others still receive
theirs.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Scope

from blog_api.core.networks import get_client_networks


class BodyMemory:
    """Bytes of the large bodies in memory, in total and by client network.

    A cached body is counted once in the total, and once for each network with clients that read it.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        # By network; the total has no network.
        self._sizes: Counter[str | None] = Counter()
        self._holders: Counter[tuple[str | None, int]] = Counter()

    @property
    def size(self) -> int:
        return self._sizes[None]

    def has_room(self, network: str, owner: object, size: int) -> bool:
        """Return whether a body fits.

        One network may use a quarter, and at most half of what is free then: otherwise clients of
        four networks could fill everything.
        """
        if self._holders[network, id(owner)]:
            return True
        free = self.max_bytes - self.size - (0 if self._holders[None, id(owner)] else size)
        return self._sizes[network] + size <= min(self.max_bytes // 4, free // 2)

    @contextmanager
    def hold(self, network: str, owner: object, size: int) -> Iterator[None]:
        """Count a body within the block. `owner` is the body, or stands for one to be received."""
        holders = [(name, id(owner)) for name in (None, network)]
        for holder in holders:
            self._sizes[holder[0]] += 0 if self._holders[holder] else size
            self._holders[holder] += 1
        try:
            yield
        finally:
            for holder in holders:
                self._holders[holder] -= 1
                if self._holders[holder]:
                    continue
                del self._holders[holder]
                self._sizes[holder[0]] -= size
                if not self._sizes[holder[0]]:
                    del self._sizes[holder[0]]


def get_network(scope: Scope) -> str:
    """Return the network of the client, a /48 for IPv6."""
    client = scope.get("client")
    networks = get_client_networks(client[0]) if client else {"network": ""}
    return networks.get("site", networks["network"])
