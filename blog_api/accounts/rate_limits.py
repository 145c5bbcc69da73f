"""Limits on guessing passwords and on opening accounts."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Annotated, Any, NamedTuple, TypeVar, cast

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
from blog_api.core.security import hash_token
from blog_api.core.settings import Settings

log = logging.getLogger(__name__)


# For all that is asked of Redis at a time, and for each part of it.
REDIS_TIMEOUT_SECONDS = 0.5


# After a failure the limits are kept in memory for so long before Redis is asked again.
REDIS_PAUSE_SECONDS = 5.0


# No password takes longer to verify. An attempt whose process died is forgotten in two minutes.
ATTEMPT_SECONDS = 180


SWEEP_SECONDS = 60


T = TypeVar("T")


class Limit(NamedTuple):
    """One limit on one thing: a name for the client, how many, and of whom."""

    name: str
    rate: RateLimitItem
    of: str

    def flight_key(self, minute: int) -> str:
        """The count of attempts that began in this minute and have not ended."""
        return f"flight/{self.name}/{self.of}/{minute}"


@dataclass
class Attempt:
    """One that is under way. It failed unless it is said to have succeeded."""

    counters: "RateLimitCounters"
    keys: Sequence[str]
    succeeded: bool = False


class RateLimitCounters:
    """Counts in one storage; a failure counts from when it happened to a whole period later."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.window = MovingWindowRateLimiter(storage)

    async def check(self, limit: Limit, *, places: int = 1) -> None:
        """Raise TooManyRequests where a limit has fewer places left."""
        if not await self.window.test(limit.rate, limit.name, limit.of, cost=places):
            raise await self.refusal(limit)

    async def check_all(self, limits: Sequence[Limit]) -> None:
        await asyncio.gather(*(self.check(limit) for limit in limits))

    async def begin(self, limits: Sequence[Limit]) -> Attempt:
        """Begin an attempt, unless it and those under way may use up more than a limit has.

        One that has just failed counts twice until it has ended: better than not at all.
        """
        minute = int(time.time() // 60)
        attempt = Attempt(self, [limit.flight_key(minute) for limit in limits])
        begun = await asyncio.gather(
            *(self.storage.incr(key, ATTEMPT_SECONDS) for key in attempt.keys)
        )
        may_go_on = False
        try:
            earlier = await asyncio.gather(
                *(self.storage.get(limit.flight_key(minute - 1)) for limit in limits)
            )
            await asyncio.gather(
                *(
                    self.check(limit, places=now + before)
                    for limit, now, before in zip(limits, begun, earlier, strict=True)
                )
            )
            may_go_on = True
        finally:
            if not may_go_on:
                await self.end(attempt)
        return attempt

    async def end(self, attempt: Attempt) -> None:
        """Whatever happens meanwhile. A Redis that fails now forgets by itself what was begun."""
        with suppress(StorageError), move_on_after(REDIS_TIMEOUT_SECONDS, shield=True):
            await asyncio.gather(
                *(self.storage.incr(key, ATTEMPT_SECONDS, -1) for key in attempt.keys)
            )

    async def fail(self, limits: Sequence[Limit]) -> None:
        await asyncio.gather(
            *(self.window.hit(limit.rate, limit.name, limit.of) for limit in limits)
        )

    async def count(self, limit: Limit) -> None:
        """Count one; raises TooManyRequests where that is one too many."""
        if not await self.window.hit(limit.rate, limit.name, limit.of):
            raise await self.refusal(limit)

    async def refusal(self, limit: Limit) -> TooManyRequests:
        """With header fields of draft-ietf-httpapi-ratelimit-headers-10; times in seconds."""
        stats = await self.window.get_window_stats(limit.rate, limit.name, limit.of)
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
    """The limits of this deployment, in memory or in Redis.

    A Redis that fails is logged, and for a while each process counts for itself.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._memory = MemoryStorage()
        self._here = RateLimitCounters(self._memory)
        self._rest: asyncio.Task[None] | None = None
        self._redis: RateLimitCounters | None = None
        if not settings.uses_memory_rate_limits:
            self._redis = RateLimitCounters(connect_redis(settings.rate_limit_storage))
        self._redis_from = 0.0

    async def use(self, work: Callable[[RateLimitCounters], Awaitable[T]]) -> T:
        if self._redis is not None and time.monotonic() >= self._redis_from:
            try:
                with fail_after(REDIS_TIMEOUT_SECONDS):
                    return await work(self._redis)
            except (StorageError, TimeoutError) as error:
                self._redis_from = time.monotonic() + REDIS_PAUSE_SECONDS
                log.warning("Rate limits are kept in memory, since Redis failed: %r", error)
        self._let_memory_rest()
        return await work(self._here)

    def _let_memory_rest(self) -> None:
        """When its timer is done, the storage goes through all it has: once a minute will do."""
        timer = self._memory.timer
        if timer is not None and timer.done() and timer is not self._rest:
            self._rest = self._memory.timer = asyncio.create_task(asyncio.sleep(SWEEP_SECONDS))

    @asynccontextmanager
    async def attempt(self, limits: Sequence[Limit]) -> AsyncIterator[Attempt]:
        """Raises TooManyRequests."""
        attempt = await self.use(lambda counters: counters.begin(limits))
        try:
            yield attempt
        finally:
            if not attempt.succeeded:
                await self.use(lambda counters: counters.fail(limits))
            await attempt.counters.end(attempt)

    async def close(self) -> None:
        if self._memory.timer is not None:
            self._memory.timer.cancel()
        if self._redis is not None:
            # `limits` neither closes its client nor types it.
            client: Any = cast(RedisStorage, self._redis.storage).bridge
            await client.get_connection().aclose()


def connect_redis(url: URL) -> RedisStorage:
    """Needs the package `redis`, which the settings have looked for. It connects when used."""
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    options: dict[str, Any] = {
        "socket_timeout": REDIS_TIMEOUT_SECONDS,
        "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
        # Once more, for a connection that was closed meanwhile.
        "retry": Retry(NoBackoff(), 1),
    }
    return RedisStorage(
        url.render_as_string(hide_password=False),
        wrap_exceptions=True,
        implementation="redispy",
        key_prefix="blog-api",
        **options,
    )


def get_client_network(address: str) -> str:
    """Who counts as one: an IPv4 address, or the /64 that one household or server has of IPv6."""
    try:
        ip = ip_address(address)
    except ValueError:
        # A Unix socket, or a name that a test made up.
        return address
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is None:
            return str(ip_network((ip.packed, 64), strict=False))
        ip = ip.ipv4_mapped
    return str(ip)


class LoginThrottle:
    """Stands before the passwords: who asks, from where, and how often they were wrong."""

    def __init__(self, passwords: PasswordHasher, limits: RateLimiter, address: str) -> None:
        self.passwords = passwords
        self._limits = limits
        self._address = get_client_network(address)

    async def verify_password(
        self, password: str, password_hash: str | None, *, account: str
    ) -> tuple[bool, str | None]:
        """As `Passwords.verify()`; a wrong one counts against the account and the address.

        `account` is what was asked for, whether it exists or not. Raises TooManyRequests.
        """
        limits = self._guesses(account)
        # Before it queues, so that who is refused anyway keeps nobody waiting.
        await self._limits.use(lambda counters: counters.check_all(limits))
        async with self.passwords.slot(self._address), self._limits.attempt(limits) as attempt:
            is_right, new_hash = await self.passwords.verify(password, password_hash)
            attempt.succeeded = is_right
        return is_right, new_hash

    def _guesses(self, account: str) -> Sequence[Limit]:
        settings = self._limits.settings
        if not settings.rate_limit_enabled:
            return ()
        # The storage need not know whose addresses these are.
        account = hash_token(account)
        return (
            Limit("guesses", settings.rate_limit_guesses, f"{account}/{self._address}"),
            Limit("guesses-of-address", settings.rate_limit_guesses_of_address, self._address),
            Limit("guesses-at-account", settings.rate_limit_guesses_at_account, account),
        )

    async def hash_password(self, password: SecretStr) -> str:
        async with self.passwords.slot(self._address):
            return await self.passwords.hash(password.get_secret_value())

    async def count_new_address(self) -> None:
        """Count a new email address, whether it is free or not; raises TooManyRequests."""
        settings = self._limits.settings
        if settings.rate_limit_enabled:
            limit = Limit("sign-ups", settings.rate_limit_sign_ups, self._address)
            await self._limits.use(lambda counters: counters.count(limit))


async def get_login_throttle(request: Request) -> LoginThrottle:
    state = request.app.state
    address = request.client.host if request.client else "unknown"
    return LoginThrottle(state.password_hasher, state.rate_limiter, address)


LoginThrottleDep = Annotated[LoginThrottle, Depends(get_login_throttle)]
