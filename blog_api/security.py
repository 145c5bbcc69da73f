"""Passwords, tokens and the secret key: no database and no HTTP."""

import base64
import hashlib
import os
import secrets
from pathlib import Path

import anyio.to_thread
from anyio import CapacityLimiter
from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher

from blog_api.settings import KEY_BYTES, Settings

MAX_WAITING = 100


class BadKeyFile(ValueError):
    """A file that should hold the secret key, and does not."""


class PasswordRefused(ValueError):
    """A password that nobody may choose; the message says why."""


class TooBusy(Exception):
    """So many passwords wait to be hashed that one more would wait for too long."""


class Passwords:
    """Hashes and verifies, in threads, as many at a time as there are cores to run on.

    Raises TooBusy where already a hundred wait.

    The cost is `BLOG_ARGON2_…`. A hash of bcrypt, or of another cost, verifies too.
    """

    def __init__(self, settings: Settings) -> None:
        self.min_length = settings.password_min_length
        argon2 = Argon2Hasher(
            time_cost=settings.argon2_passes,
            memory_cost=settings.argon2_memory_kib,
            parallelism=settings.argon2_lanes,
        )
        self._hashing = PasswordHash((argon2, BcryptHasher()))
        self._limiter = CapacityLimiter(available_cores())
        # No password has this hash, but it takes as long as any to find out.
        self._nobodys_hash = (
            f"$argon2id$v=19$m={settings.argon2_memory_kib},t={settings.argon2_passes},"
            f"p={settings.argon2_lanes}${random_base64(16)}${random_base64(32)}"
        )

    def check_choice(self, password: str) -> None:
        """Raise PasswordRefused for a password that may not be chosen."""
        if len(password) < self.min_length:
            raise PasswordRefused(f"Use at least {self.min_length} characters")

    async def hash(self, password: str) -> str:
        self._check_queue()
        return await anyio.to_thread.run_sync(self._hashing.hash, password, limiter=self._limiter)

    async def verify(self, password: str, password_hash: str | None) -> tuple[bool, str | None]:
        """Whether it is the password, and a new hash where the old one is outdated.

        No hash, for a user who does not exist, takes as long as a wrong password.
        """
        self._check_queue()
        return await anyio.to_thread.run_sync(
            self._verify, password, password_hash or self._nobodys_hash, limiter=self._limiter
        )

    def _check_queue(self) -> None:
        if self._limiter.statistics().tasks_waiting >= MAX_WAITING:
            raise TooBusy

    def _verify(self, password: str, password_hash: str) -> tuple[bool, str | None]:
        try:
            return self._hashing.verify_and_update(password, password_hash)
        except (UnknownHashError, ValueError):
            # A hash of no known kind; bcrypt refuses more than 72 bytes with a ValueError.
            return False, None


def available_cores() -> int:
    """The cores that this process may run on; all of them where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def random_base64(size: int) -> str:
    """`size` random bytes in the unpadded base64 of Argon2's hash strings."""
    return base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")


def new_token() -> str:
    """256 random bits that fit a header."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What the database keeps of a token: SHA-256 in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_or_make_key(path: Path) -> str:
    """The secret key in a file that its owner alone may read; made if there is none.

    The caller holds a lock, so that two processes never make two keys. Raises BadKeyFile for
    a file that holds no key.
    """
    if not path.exists():
        # Written aside and renamed: a crash leaves either no key or a whole one.
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        new.replace(path)
    key = path.read_text().strip()
    if len(key.encode()) < KEY_BYTES:
        raise BadKeyFile(f"{path} holds no key of {KEY_BYTES} bytes; without it a new one is made")
    return key
