"""Hash, verify and check passwords."""

import base64
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

import anyio.to_thread
from anyio import Semaphore
from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher
from pydantic import SecretStr

from blog_api.core.errors import (
    FieldError,
    ServiceUnavailable,
    ValidationFailed,
)
from blog_api.core.security import count_available_cores
from blog_api.core.settings import Settings

MAX_QUEUED = 100


COMMON_PASSWORD_COUNT = 3_000


class PasswordRejected(ValueError):
    """A password that nobody may choose; the message says why."""


class PasswordHasher:
    """Hashes and verifies, in threads, as many at a time as there are cores to run on.

    The cost is `BLOG_ARGON2_…`. A hash of bcrypt, or of another cost, verifies too.
    """

    def __init__(self, settings: Settings) -> None:
        self.min_length = settings.password_min_length
        self.refuse_common = settings.password_refuse_common
        argon2 = Argon2Hasher(
            time_cost=settings.argon2_passes,
            memory_cost=settings.argon2_memory_kib,
            parallelism=settings.argon2_lanes,
        )
        self._hashing = PasswordHash((argon2, BcryptHasher()))
        self._cores = Semaphore(count_available_cores())
        self._waiting: Counter[str] = Counter()
        # No password has this hash, but it takes as long as any to find out.
        self._nobodys_hash = (
            f"$argon2id$v=19$m={settings.argon2_memory_kib},t={settings.argon2_passes},"
            f"p={settings.argon2_lanes}${random_base64(16)}${random_base64(32)}"
        )

    def check_choice(self, password: str) -> None:
        """Raise PasswordRefused for a password that may not be chosen."""
        if len(password) < self.min_length:
            raise PasswordRejected(f"Use at least {self.min_length} characters")
        if self.refuse_common and password.lower() in load_common_passwords():
            raise PasswordRejected("This is one of the most common passwords")

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return self._waiting.total()

    @asynccontextmanager
    async def slot(self, client: str) -> AsyncIterator[None]:
        """Wait for a core and occupy it. Raises ServiceUnavailable if too many wait already.

        Half of the places are enough for one: the others' log-ins do not depend on it.
        """
        if self.waiting >= MAX_QUEUED or self._waiting[client] >= MAX_QUEUED // 2:
            raise ServiceUnavailable
        self._waiting[client] += 1
        try:
            await self._cores.acquire()
        finally:
            self._waiting -= Counter([client])
        try:
            yield
        finally:
            self._cores.release()

    async def hash(self, password: str) -> str:
        """Where others wait, the caller has a turn."""
        return await anyio.to_thread.run_sync(self._hashing.hash, password)

    async def verify(self, password: str, password_hash: str | None) -> tuple[bool, str | None]:
        """Whether it is the password, and a new hash where the old one is outdated.

        No hash, for a user who does not exist, takes as long as a wrong password. The caller
        has a turn.
        """
        password_hash = password_hash or self._nobodys_hash
        return await anyio.to_thread.run_sync(self._verify, password, password_hash)

    def _verify(self, password: str, password_hash: str) -> tuple[bool, str | None]:
        try:
            return self._hashing.verify_and_update(password, password_hash)
        except (UnknownHashError, ValueError):
            # A hash of no known kind; bcrypt refuses more than 72 bytes with a ValueError.
            return False, None


@cache
def load_common_passwords() -> frozenset[str]:
    """The most common passwords, as the package `zxcvbn` counts them."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(FREQUENCY_LISTS["passwords"][:COMMON_PASSWORD_COUNT])


def random_base64(size: int) -> str:
    """`size` random bytes in the unpadded base64 of Argon2's hash strings."""
    return base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")


def check_new_password(passwords: PasswordHasher, password: SecretStr, *, field: str) -> None:
    """Whether a password may be chosen, in `field`; raises ValidationFailed."""
    try:
        passwords.check_choice(password.get_secret_value())
    except PasswordRejected as refusal:
        error = FieldError(loc=["body", field], type="password_refused", msg=str(refusal))
        raise ValidationFailed([error]) from None
