"""Counters of rate limits in one storage, memory or Redis."""

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from anyio import CancelScope
from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from sqlalchemy import URL

from blog_api.core.errors import TooManyRequests

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

# For all Redis commands of one operation, and for each of them.
REDIS_TIMEOUT_SECONDS = 0.5
# Longer than any check. If a process dies, its checks in progress expire after two minutes.
ATTEMPT_SECONDS = 180


class Limit(NamedTuple):
    """A limit of one account, client network, or pair of them."""

    name: str
    rate: RateLimitItem
    key: str

    def in_progress_key(self, minute: int) -> str:
        """Return the key that counts attempts which started in a minute and have not ended."""
        return f"flight/{self.name}/{self.key}/{minute}"


@dataclass
class Attempt:
    """An attempt in progress. It counts as failed unless `succeeded` is set."""

    counters: "RateLimitCounters"
    keys: list[str]
    succeeded: bool = False


class RateLimitCounters:
    """Counters in one storage."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.window = MovingWindowRateLimiter(storage)

    async def require_capacity(self, limits: Sequence[Limit], costs: Sequence[int]) -> None:
        """Raise TooManyRequests if less than its cost is left of a limit."""
        has_capacity = await asyncio.gather(
            *(
                self.window.test(limit.rate, limit.name, limit.key, cost=cost)
                for limit, cost in zip(limits, costs, strict=True)
            )
        )
        await self._raise_first(limits, has_capacity)

    async def record_hits(self, limits: Sequence[Limit]) -> None:
        """Count one by each limit. Raises TooManyRequests if nothing was left of one."""
        has_capacity = await asyncio.gather(
            *(self.window.hit(limit.rate, limit.name, limit.key) for limit in limits)
        )
        await self._raise_first(limits, has_capacity)

    async def _raise_first(self, limits: Sequence[Limit], has_capacity: Sequence[bool]) -> None:
        for limit, is_within in zip(limits, has_capacity, strict=True):
            if not is_within:
                raise await self.make_problem(limit)

    async def start_attempt(self, limits: Sequence[Limit]) -> Attempt:
        """Count an attempt in progress. Raises TooManyRequests.

        A failed attempt counts twice for a moment, in progress and as a failure, rather than not
        at all.
        """
        minute = int(time.time() // 60)
        attempt = Attempt(self, [])

        async def start(key: str) -> int:
            count = await self.storage.incr(key, ATTEMPT_SECONDS)
            attempt.keys.append(key)
            return count

        async with AsyncExitStack() as on_rejection:
            on_rejection.push_async_callback(self.end_attempt, attempt)
            started = await asyncio.gather(
                *(start(limit.in_progress_key(minute)) for limit in limits)
            )
            earlier = await asyncio.gather(
                *(self.storage.get(limit.in_progress_key(minute - 1)) for limit in limits)
            )
            costs = [now + before for now, before in zip(started, earlier, strict=True)]
            await self.require_capacity(limits, costs)
            on_rejection.pop_all()
        return attempt

    async def end_attempt(self, attempt: Attempt) -> None:
        """Count an attempt as ended, even if the request is cancelled meanwhile."""
        with CancelScope(shield=True):
            await asyncio.shield(self._decrement(attempt.keys))

    async def _decrement(self, keys: Sequence[str]) -> None:
        # If Redis fails, the count expires.
        with suppress(StorageError, TimeoutError):
            async with asyncio.timeout(REDIS_TIMEOUT_SECONDS):
                await asyncio.gather(*(self.storage.incr(key, ATTEMPT_SECONDS, -1) for key in keys))

    async def remember(self, key: str, seconds: int) -> None:
        """Remember a key for so many seconds from now on."""
        # Incrementing alone would not extend the time.
        await self.storage.clear(key)
        await self.storage.incr(key, seconds)

    async def is_remembered(self, key: str) -> bool:
        return await self.storage.get(key) > 0

    async def make_problem(self, limit: Limit) -> TooManyRequests:
        """Return a 429 with the headers of draft-ietf-httpapi-ratelimit-headers-10."""
        stats = await self.window.get_window_stats(limit.rate, limit.name, limit.key)
        period = limit.rate.get_expiry()
        # The clock of another process may be ahead.
        seconds = min(max(1, math.ceil(stats.reset_time - time.time())), period)
        policy = f'"{limit.name}";q={limit.rate.amount};w={period}'
        return TooManyRequests(
            {
                "Retry-After": str(seconds),
                "RateLimit-Policy": policy,
                "RateLimit": f'"{limit.name}";r=0;t={seconds}',
            }
        )


def move_times(memory: MemoryStorage, seconds: float) -> None:
    """Move the times of all counters, as the clock was moved."""
    # Hits that were counted together are one object.
    hits = {id(hit): hit for hits in memory.events.values() for hit in hits}
    for hit in hits.values():
        hit.atime += seconds
        hit.expiry += seconds
    for key in memory.expirations:
        memory.expirations[key] += seconds


def create_redis_storage(url: URL) -> "tuple[ConnectionPool, RedisStorage]":
    """Return a storage and its connections, which are opened when they are needed."""
    # The package `redis` is optional; `Settings` has checked that it is installed.
    from redis.asyncio import ConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    address = url.render_as_string(hide_password=False)
    pool = ConnectionPool.from_url(
        address,
        socket_timeout=REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        # Once: a connection in the pool may have been closed by the server.
        retry=Retry(NoBackoff(), 1),
    )
    # `limits` does not close a pool of its own. The annotation of its options lacks this one.
    options: dict[str, Any] = {"connection_pool": pool}
    storage = RedisStorage(
        address,
        wrap_exceptions=True,
        implementation="redispy",
        key_prefix="blog-api",
        **options,
    )
    return pool, storage
