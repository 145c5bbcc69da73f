"""Slots for slow work, for which clients take turns.

Example with one slot: 45 requests of one client wait, then one of another. That one is next when
the slot is free, and then the first of the 44 that are left.
"""

from asyncio import Event
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from blog_api.core.errors import ServiceUnavailable

# Clients whose last turn is remembered.
MAX_TURNS = 1_000


@dataclass(eq=False)
class Waiter:
    """A request that waits for a slot. `arrival` is the number of the last turn when it came."""

    client: tuple[Hashable, ...]
    arrival: int
    is_called: Event = field(default_factory=Event)
    has_slot: bool = False


class FairSlots:
    """Give free slots to the clients whose last turn or arrival is the longest ago.

    With `favors_new`, arrivals do not count: a new client is always next. Where clients are made up
    easily, such as addresses, they would overtake one that had a turn, again and again.
    """

    def __init__(self, slots: int, *, favors_new: bool = False) -> None:
        self._favors_new = favors_new
        self._free = slots
        self._queue: list[Waiter] = []
        # When each client last got a slot, the longest ago first.
        self._turns: dict[Hashable, int] = {}
        self._last_turn = 0

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a slot."""
        return len(self._queue)

    @asynccontextmanager
    async def slot(self, *client: Hashable, max_waiting: int | None = None) -> AsyncIterator[None]:
        """Wait for a slot and occupy it. Raises ServiceUnavailable if too many wait already.

        A client may have parts, such as a site and a network of it: sites take turns, and then the
        networks of a site. Clients of one request each are served in the order of their arrival.
        The first part may fill half of the queue.
        """
        waiter = Waiter(client, 0 if self._favors_new else self._last_turn)
        if max_waiting is not None:
            self._make_room(client[0], max_waiting)
        self._queue.append(waiter)
        self._start_next()
        try:
            await waiter.is_called.wait()
            if not waiter.has_slot:
                raise ServiceUnavailable
            yield
        finally:
            if waiter.has_slot:
                self._free += 1
                self._start_next()
            elif waiter in self._queue:
                self._queue.remove(waiter)

    def _make_room(self, client: Hashable, max_waiting: int) -> None:
        """Reject a request of the client with the most if the queue is full, or this one."""
        waiting = Counter(other.client[0] for other in self._queue)
        if waiting[client] >= max_waiting // 2:
            raise ServiceUnavailable
        if self.waiting < max_waiting:
            return
        largest, size = waiting.most_common(1)[0]
        if size <= waiting[client] + 1:
            raise ServiceUnavailable
        rejected = next(other for other in reversed(self._queue) if other.client[0] == largest)
        self._queue.remove(rejected)
        rejected.is_called.set()

    def _get_rank(self, waiter: Waiter) -> list[int]:
        return [max(self._turns.get(part, 0), waiter.arrival) for part in waiter.client]

    def _start_next(self) -> None:
        while self._free and self._queue:
            waiter = min(self._queue, key=self._get_rank)  # The first one of equals.
            self._queue.remove(waiter)
            self._free -= 1
            waiter.has_slot = True
            waiter.is_called.set()
            self._last_turn += 1
            for part in waiter.client:
                self._turns.pop(part, None)
                self._turns[part] = self._last_turn
            while len(self._turns) > MAX_TURNS:
                del self._turns[next(iter(self._turns))]
