"""Rate limits per account and per client network; the table of limits is below.

Each limit is a moving window. Failed password checks count, and successful ones by limits of their
own. A check takes as long as a hash, so checks in progress are counted as failed: with 10 failures
a minute allowed and 8 counted, two checks may run at once, and a third is rejected (429) until one
ends. A success then frees its place, and a failure occupies one for a minute.

Strangers cannot lock a user out: a network from which the account logged in recently, and a request
with a token, have limits of their own.

The counters are in memory or in Redis. While Redis fails, each process counts in memory.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar

from fastapi import Depends, Request
from limits import RateLimitItem
from limits.aio.storage import MemoryStorage
from limits.errors import StorageError
from pydantic import SecretStr

from blog_api.accounts.counters import (
    REDIS_TIMEOUT_SECONDS,
    Attempt,
    Limit,
    RateLimitCounters,
    create_redis_storage,
    move_times,
)
from blog_api.accounts.passwords import PasswordHasher
from blog_api.core.errors import TooManyRequests
from blog_api.core.networks import get_client_networks
from blog_api.core.security import SecretKeys, hash_token
from blog_api.core.settings import Settings
from blog_api.web.clients import ClientDep

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

log = logging.getLogger(__name__)

# After a failure, until Redis is tried again.
REDIS_PAUSE_SECONDS = 5.0
SWEEP_SECONDS = 60
MAX_CLOCK_DRIFT_SECONDS = 1.0
# Of each kind in memory, about 50 MB at most in practice. The oldest are deleted.
MAX_COUNTERS_IN_MEMORY = 50_000
# After a log-in, a network counts as known to the account.
KNOWN_NETWORK_SECONDS = 30 * 24 * 60 * 60
# One client may have all 65,536 networks of a /48: together they have wider limits.
SITE_FACTOR = 10
# A family or an office has several mailboxes.
MAILS_FACTOR = 4

T = TypeVar("T")


class Rule(NamedTuple):
    """A row of the table of limits.

    The name in the `RateLimit` header, the setting with the rate, the counted key, and a factor of
    the rate. `{network}` is an IPv4 address or a /64 of IPv6, `{site}` a /48 of IPv6.
    """

    name: str
    setting: str
    key: str
    factor: int = 1


class PasswordRules(NamedTuple):
    """Limits of password checks that fail, and of those that succeed."""

    failures: tuple[Rule, ...]
    successes: tuple[Rule, ...]


GUESSES_OF_ADDRESS = (
    Rule("guesses", "rate_limit_guesses", "{account}/{network}"),
    Rule("guesses-of-address", "rate_limit_guesses_of_address", "{network}"),
    Rule("guesses-of-site", "rate_limit_guesses_of_address", "{site}", SITE_FACTOR),
)
LOG_INS = (
    Rule("log-ins", "rate_limit_log_ins", "{account}"),
    Rule("log-ins-of-address", "rate_limit_log_ins", "{network}"),
    Rule("log-ins-of-site", "rate_limit_log_ins", "{site}", SITE_FACTOR),
)
FROM_UNKNOWN_NETWORK = PasswordRules(
    failures=(
        *GUESSES_OF_ADDRESS,
        Rule("guesses-at-account", "rate_limit_guesses_at_account", "{account}"),
    ),
    successes=LOG_INS,
)
FROM_KNOWN_NETWORK = PasswordRules(
    failures=(
        *GUESSES_OF_ADDRESS,
        Rule("guesses-from-network", "rate_limit_guesses_at_account", "{account}/{network}"),
    ),
    successes=LOG_INS,
)
# By account, since one token can create others.
WITH_TOKEN = PasswordRules(
    failures=(
        Rule("guesses-with-token", "rate_limit_guesses", "{account}"),
        Rule("guesses-with-tokens", "rate_limit_guesses_at_account", "{account}"),
    ),
    successes=(Rule("checks-with-token", "rate_limit_log_ins", "{account}"),),
)
SIGN_UPS = (
    Rule("sign-ups", "rate_limit_sign_ups", "{network}"),
    Rule("sign-ups-of-site", "rate_limit_sign_ups", "{site}", SITE_FACTOR),
)
MAILS = (
    Rule("mails", "rate_limit_mails", "{network}", MAILS_FACTOR),
    Rule("mails-of-site", "rate_limit_mails", "{site}", MAILS_FACTOR * SITE_FACTOR),
)
REVOCATIONS = (
    Rule("revocations", "rate_limit_log_ins", "{network}"),
    Rule("revocations-of-site", "rate_limit_log_ins", "{site}", SITE_FACTOR),
)
PASSWORD_CHANGES = Rule("password-changes", "rate_limit_tokens", "{account}")
CODES = (
    Rule("codes", "rate_limit_guesses_of_address", "{network}"),
    Rule("codes-of-site", "rate_limit_guesses_of_address", "{site}", SITE_FACTOR),
)
# Apart, so that mails of one kind do not use up the limit of the other.
RESETS_TO_ADDRESS = Rule("resets-to-address", "rate_limit_mails", "{account}")
VERIFICATIONS_TO_ADDRESS = Rule("verifications-to-address", "rate_limit_mails", "{account}")
POSTS = Rule("posts", "rate_limit_writes", "{account}")
COMMENTS = Rule("comments", "rate_limit_writes", "{account}")
FOLLOWS_AND_BOOKMARKS = Rule("follows-and-bookmarks", "rate_limit_writes", "{account}")
PROFILE_CHANGES = Rule("profile-changes", "rate_limit_writes", "{account}")
ACCOUNTS = Rule("accounts", "rate_limit_writes", "{account}")
PREVIEWS = Rule("previews", "rate_limit_writes", "{account}")
UPLOADS = Rule("uploads", "rate_limit_writes", "{account}")
TOKENS = Rule("tokens", "rate_limit_tokens", "{account}")


class RateLimiter:
    """Check and count limits in Redis if it is configured and available, else in memory."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._memory = MemoryStorage()
        self._memory_counters = RateLimitCounters(self._memory)
        self._clock_offset = time.time() - time.monotonic()
        self._sweep_pause: asyncio.Task[None] | None = None
        self._redis_pool: ConnectionPool | None = None
        if not settings.uses_memory_rate_limits:
            self._redis_pool, storage = create_redis_storage(settings.rate_limit_storage)
            self._redis_counters = RateLimitCounters(storage)
        self._redis_paused_until = 0.0

    def make_limits(self, rules: Sequence[Rule], **values: str) -> list[Limit]:
        """Return the limits of these rules; those of a site only if it is given."""
        if not self.settings.rate_limit_enabled:
            return []
        return [
            Limit(
                rule.name,
                multiply_rate(getattr(self.settings, rule.setting), rule.factor),
                rule.key.format_map(values),
            )
            for rule in rules
            if "site" in values or "{site}" not in rule.key
        ]

    async def require_capacity(self, limits: Sequence[Limit]) -> None:
        """Raise TooManyRequests if nothing is left of a limit."""
        await self._run(lambda counters: counters.require_capacity(limits, [1] * len(limits)))

    async def record_hits(self, limits: Sequence[Limit]) -> None:
        """Count one by each limit. Raises TooManyRequests if nothing was left of one."""
        if limits:
            await self._run(lambda counters: counters.record_hits(limits))

    @asynccontextmanager
    async def attempt(self, limits: Sequence[Limit]) -> AsyncIterator[Attempt]:
        """Count an attempt, and a failure unless it has succeeded. Raises TooManyRequests."""
        attempt = await self._run(lambda counters: counters.start_attempt(limits))
        try:
            yield attempt
        finally:
            try:
                if not attempt.succeeded:
                    # Another process may have counted at the same time without Redis.
                    with suppress(TooManyRequests):
                        await self.record_hits(limits)
            finally:
                await attempt.counters.end_attempt(attempt)

    async def remember(self, key: str, seconds: int) -> None:
        if self.settings.rate_limit_enabled:
            await self._run(lambda counters: counters.remember(key, seconds))

    async def is_remembered(self, key: str) -> bool:
        return self.settings.rate_limit_enabled and await self._run(
            lambda counters: counters.is_remembered(key)
        )

    async def _run(self, operation: Callable[[RateLimitCounters], Awaitable[T]]) -> T:
        if self._redis_pool is not None and time.monotonic() >= self._redis_paused_until:
            try:
                # Not anyio's `fail_after()`: it lets CancelledError escape if redis-py's own
                # `asyncio.timeout()` expires in the same iteration of the event loop.
                async with asyncio.timeout(REDIS_TIMEOUT_SECONDS):
                    return await operation(self._redis_counters)
            except (StorageError, TimeoutError) as error:
                self._redis_paused_until = time.monotonic() + REDIS_PAUSE_SECONDS
                log.warning("Rate limits are counted in memory because Redis failed: %r", error)
        self._follow_clock()
        self._bound_memory()
        return await operation(self._memory_counters)

    def _follow_clock(self) -> None:
        """Move the counters with a clock that was set back: they would stay for as long."""
        offset = time.time() - time.monotonic()
        if offset < self._clock_offset - MAX_CLOCK_DRIFT_SECONDS:
            move_times(self._memory, offset - self._clock_offset)
            self._clock_offset = offset
        self._clock_offset = max(self._clock_offset, offset)

    def _bound_memory(self) -> None:
        """Let `MemoryStorage` delete expired keys once a minute, and delete the oldest of too many.

        limits 5.8 sweeps after every hit, in a thread for each key, unless the task in `timer` is
        running. There is no setting for it and no issue that asks for one; the loop is that of
        https://github.com/alisaifee/limits/issues/277.
        """
        memory = self._memory
        if memory.timer is None or not (memory.timer.done() or memory.timer is self._sweep_pause):
            # A sweep fails if keys disappear meanwhile.
            return
        for counters in (memory.events, memory.expirations):
            for key in list(islice(counters, max(0, len(counters) - MAX_COUNTERS_IN_MEMORY))):
                for values in (memory.events, memory.storage, memory.expirations, memory.locks):
                    values.pop(key, None)
        if memory.timer is not self._sweep_pause:
            self._sweep_pause = memory.timer = asyncio.create_task(asyncio.sleep(SWEEP_SECONDS))

    async def close(self) -> None:
        if self._memory.timer is not None:
            self._memory.timer.cancel()
        if self._redis_pool is not None:
            await self._redis_pool.aclose()


def multiply_rate(rate: RateLimitItem, factor: int) -> RateLimitItem:
    return type(rate)(rate.amount * factor, rate.multiples)


class LoginThrottle:
    """Rate-limit password checks and sign-ups per address and account."""

    def __init__(
        self, passwords: PasswordHasher, limiter: RateLimiter, keys: SecretKeys, address: str
    ) -> None:
        self.passwords = passwords
        self._limiter = limiter
        self._keys = keys
        self._client = get_client_networks(address)

    async def verify_password(
        self, password: str, password_hash: str | None, *, account: str, has_token: bool = False
    ) -> tuple[bool, str | None]:
        """Verify a password like `PasswordHasher.verify()`. Raises TooManyRequests.

        `account` is the submitted name of the account, which need not exist. `has_token` is whether
        the request has a token of it.
        """
        if has_token:
            rules = WITH_TOKEN
        else:
            is_known = await self._is_known_network(account, password_hash)
            rules = FROM_KNOWN_NETWORK if is_known else FROM_UNKNOWN_NETWORK
        # Hashed, since Redis should not hold email addresses.
        values = {"account": hash_token(account), **self._client}
        failures = self._limiter.make_limits(rules.failures, **values)
        successes = self._limiter.make_limits(rules.successes, **values)
        # Before it waits for a core: a client over its limit must not fill the queue.
        await self._limiter.require_capacity([*failures, *successes])
        async with self.passwords.slot(**self._client), self._limiter.attempt(failures) as attempt:
            is_right, new_hash = await self.passwords.verify(password, password_hash)
            attempt.succeeded = is_right
        if is_right:
            await self._limiter.record_hits(successes)
            await self.remember_network(account, new_hash or password_hash)
        return is_right, new_hash

    async def remember_network(self, account: str, password_hash: str | None) -> None:
        """Remember that the user of an account knew the password in this network."""
        key, *_ = self._known_network_keys(account, password_hash)
        await self._limiter.remember(key, KNOWN_NETWORK_SECONDS)

    async def _is_known_network(self, account: str, password_hash: str | None) -> bool:
        for key in self._known_network_keys(account, password_hash):
            if await self._limiter.is_remembered(key):
                return True
        return False

    def _known_network_keys(self, account: str, password_hash: str | None) -> list[str]:
        # With another password, the networks of someone who knew the last one are unknown.
        text = f"{self._client['network']} of {account} with {password_hash}"
        return [f"known/{one}" for one in self._keys.make_digests("known network", text)]

    async def hash_password(self, password: SecretStr) -> str:
        async with self.passwords.slot(**self._client):
            return await self.passwords.hash(password.get_secret_value())

    async def count_mail(self, rule: Rule, *, account: str) -> bool:
        """Count a requested mail; return whether it may be sent. Raises TooManyRequests.

        `account` is the mailbox. Its limit is no error: it would tell that others asked as well.
        """
        await self.count_request(MAILS)
        values = {"account": hash_token(account)}
        try:
            to_address = self._limiter.make_limits([rule], **values)
            await self._limiter.record_hits(to_address)
        except TooManyRequests:
            return False
        return True

    async def count_request(self, rules: Sequence[Rule]) -> None:
        """Count a request of the client. Raises TooManyRequests."""
        await self._limiter.record_hits(self._limiter.make_limits(rules, **self._client))


async def get_login_throttle(request: Request, client: ClientDep) -> LoginThrottle:
    state = request.app.state
    return LoginThrottle(
        state.password_hasher, state.rate_limiter, state.secret_keys, client.address
    )


LoginThrottleDep = Annotated[LoginThrottle, Depends(get_login_throttle)]
