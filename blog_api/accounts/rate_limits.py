"""Rate limits of password checks and sign-ups, per account and per client network.

Each limit is a moving window in which failed password checks count; the table of limits is below.
A check takes as long as a hash, so checks in progress are counted too: with 10 failures a minute
allowed and 8 counted, two checks may run at once, and a third is rejected (429) until one ends. A
success then frees its place, and a failure occupies one for a minute.

The counters are in memory or in Redis. While Redis fails, each process counts in memory.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

from anyio import fail_after, move_on_after
from fastapi import Depends, Request
from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from pydantic import SecretStr
from sqlalchemy import URL

from blog_api.accounts.passwords import PasswordHasher
from blog_api.core.errors import TooManyRequests
from blog_api.core.networks import get_client_network
from blog_api.core.security import hash_token
from blog_api.core.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

log = logging.getLogger(__name__)

# For all Redis commands of one operation, and for each of them.
REDIS_TIMEOUT_SECONDS = 0.5
# After a failure, until Redis is tried again.
REDIS_PAUSE_SECONDS = 5.0
# Longer than any check. If a process dies, its checks in progress expire after two minutes.
ATTEMPT_SECONDS = 180
SWEEP_SECONDS = 60

T = TypeVar("T")

# The table of limits: name in the `RateLimit` header, setting with the rate, counted key.
PASSWORD_CHECKS = (
    ("guesses", "rate_limit_guesses", "{account}/{network}"),
    ("guesses-of-address", "rate_limit_guesses_of_address", "{network}"),
    ("guesses-at-account", "rate_limit_guesses_at_account", "{account}"),
)
SIGN_UPS = (("sign-ups", "rate_limit_sign_ups", "{network}"),)


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
    keys: Sequence[str]
    succeeded: bool = False


class RateLimitCounters:
    """Counters in one storage."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.window = MovingWindowRateLimiter(storage)

    async def require_capacity(self, *limits: Limit, cost: int = 1) -> None:
        """Raise TooManyRequests if less than `cost` is left of a limit."""
        for limit in limits:
            if not await self.window.test(limit.rate, limit.name, limit.key, cost=cost):
                raise await self.make_problem(limit)

    async def record_hit(self, limit: Limit) -> None:
        """Count one. Raises TooManyRequests if nothing is left."""
        if not await self.window.hit(limit.rate, limit.name, limit.key):
            raise await self.make_problem(limit)

    async def record_failures(self, limits: Sequence[Limit]) -> None:
        await asyncio.gather(
            *(self.window.hit(limit.rate, limit.name, limit.key) for limit in limits)
        )

    async def start_attempt(self, limits: Sequence[Limit]) -> Attempt:
        """Count an attempt in progress. Raises TooManyRequests.

        A failed attempt counts twice for a moment, in progress and as a failure, rather than not
        at all.
        """
        minute = int(time.time() // 60)
        attempt = Attempt(self, [limit.in_progress_key(minute) for limit in limits])
        started = await asyncio.gather(
            *(self.storage.incr(key, ATTEMPT_SECONDS) for key in attempt.keys)
        )
        async with AsyncExitStack() as on_rejection:
            on_rejection.push_async_callback(self.end_attempt, attempt)
            earlier = await asyncio.gather(
                *(self.storage.get(limit.in_progress_key(minute - 1)) for limit in limits)
            )
            await asyncio.gather(
                *(
                    self.require_capacity(limit, cost=now + before)
                    for limit, now, before in zip(limits, started, earlier, strict=True)
                )
            )
            on_rejection.pop_all()
        return attempt

    async def end_attempt(self, attempt: Attempt) -> None:
        """Count an attempt as ended, even if the request is cancelled."""
        # If Redis fails, the count expires.
        with suppress(StorageError), move_on_after(REDIS_TIMEOUT_SECONDS, shield=True):
            await asyncio.gather(
                *(self.storage.incr(key, ATTEMPT_SECONDS, -1) for key in attempt.keys)
            )

    async def make_problem(self, limit: Limit) -> TooManyRequests:
        """Return a 429 with the headers of draft-ietf-httpapi-ratelimit-headers-10."""
        stats = await self.window.get_window_stats(limit.rate, limit.name, limit.key)
        seconds = max(1, math.ceil(stats.reset_time - time.time()))
        policy = f'"{limit.name}";q={limit.rate.amount};w={limit.rate.get_expiry()}'
        return TooManyRequests(
            {
                "Retry-After": str(seconds),
                "RateLimit-Policy": policy,
                "RateLimit": f'"{limit.name}";r=0;t={seconds}',
            }
        )


class RateLimiter:
    """Check and count limits in Redis if it is configured and available, else in memory."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._memory = MemoryStorage()
        self._memory_counters = RateLimitCounters(self._memory)
        self._sweep_pause: asyncio.Task[None] | None = None
        self._redis_pool: ConnectionPool | None = None
        if not settings.uses_memory_rate_limits:
            self._redis_pool, storage = create_redis_storage(settings.rate_limit_storage)
            self._redis_counters = RateLimitCounters(storage)
        self._redis_paused_until = 0.0

    async def require_capacity(self, limits: Sequence[Limit]) -> None:
        """Raise TooManyRequests if nothing is left of a limit."""
        await self._run(lambda counters: counters.require_capacity(*limits))

    async def record_hit(self, limit: Limit) -> None:
        """Count one. Raises TooManyRequests if nothing is left."""
        await self._run(lambda counters: counters.record_hit(limit))

    @asynccontextmanager
    async def attempt(self, limits: Sequence[Limit]) -> AsyncIterator[Attempt]:
        """Count an attempt, and a failure unless it has succeeded. Raises TooManyRequests."""
        attempt = await self._run(lambda counters: counters.start_attempt(limits))
        try:
            yield attempt
        finally:
            if not attempt.succeeded:
                await self._run(lambda counters: counters.record_failures(limits))
            await attempt.counters.end_attempt(attempt)

    async def _run(self, operation: Callable[[RateLimitCounters], Awaitable[T]]) -> T:
        if self._redis_pool is not None and time.monotonic() >= self._redis_paused_until:
            try:
                with fail_after(REDIS_TIMEOUT_SECONDS):
                    return await operation(self._redis_counters)
            except (StorageError, TimeoutError) as error:
                self._redis_paused_until = time.monotonic() + REDIS_PAUSE_SECONDS
                log.warning("Rate limits are counted in memory because Redis failed: %r", error)
        self._pause_sweep()
        return await operation(self._memory_counters)

    def _pause_sweep(self) -> None:
        """Let `MemoryStorage` delete expired keys once a minute.

        limits 5.8 does it after every hit, in a thread for each key, unless the task in `timer`
        is running. There is no setting for it and no issue that asks for one; the loop is that
        of https://github.com/alisaifee/limits/issues/277.
        """
        timer = self._memory.timer
        if timer is not None and timer.done() and timer is not self._sweep_pause:
            pause = asyncio.create_task(asyncio.sleep(SWEEP_SECONDS))
            self._sweep_pause = self._memory.timer = pause

    async def close(self) -> None:
        if self._memory.timer is not None:
            self._memory.timer.cancel()
        if self._redis_pool is not None:
            await self._redis_pool.aclose()


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


class LoginThrottle:
    """Rate-limit password checks and sign-ups per address and account."""

    def __init__(self, passwords: PasswordHasher, limiter: RateLimiter, address: str) -> None:
        self.passwords = passwords
        self._limiter = limiter
        self._network = get_client_network(address)

    async def verify_password(
        self, password: str, password_hash: str | None, *, account: str
    ) -> tuple[bool, str | None]:
        """Verify a password like `PasswordHasher.verify()`. Raises TooManyRequests.

        `account` is the submitted name of the account, which need not exist.
        """
        limits = self._get_limits(PASSWORD_CHECKS, account)
        # Before it waits for a core: a client over its limit must not fill the queue.
        await self._limiter.require_capacity(limits)
        async with self.passwords.slot(self._network), self._limiter.attempt(limits) as attempt:
            is_right, new_hash = await self.passwords.verify(password, password_hash)
            attempt.succeeded = is_right
        return is_right, new_hash

    async def hash_password(self, password: SecretStr) -> str:
        async with self.passwords.slot(self._network):
            return await self.passwords.hash(password.get_secret_value())

    async def count_new_address(self) -> None:
        """Count a submitted new email address, taken or not. Raises TooManyRequests."""
        for limit in self._get_limits(SIGN_UPS):
            await self._limiter.record_hit(limit)

    def _get_limits(self, rules: Sequence[tuple[str, str, str]], account: str = "") -> list[Limit]:
        settings = self._limiter.settings
        if not settings.rate_limit_enabled:
            return []
        # Hashed, since Redis should not hold email addresses.
        values = {"account": hash_token(account), "network": self._network}
        return [
            Limit(name, getattr(settings, setting), key.format_map(values))
            for name, setting, key in rules
        ]


async def get_login_throttle(request: Request) -> LoginThrottle:
    state = request.app.state
    address = request.client.host if request.client else "unknown"
    return LoginThrottle(state.password_hasher, state.rate_limiter, address)


LoginThrottleDep = Annotated[LoginThrottle, Depends(get_login_throttle)]
