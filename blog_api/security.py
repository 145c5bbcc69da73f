"""Passwords, tokens, their signature and the secret key: no database and no HTTP."""

import base64
import hashlib
import os
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import anyio.to_thread
import jwt
from anyio import Semaphore
from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher

from blog_api.settings import KEY_BYTES, Settings

MAX_WAITING = 100
MOST_COMMON = 3_000

ALGORITHM = "HS256"
# RFC 9068, 2.1: so that no other kind of JWT is taken for an access token.
JWT_TYPE = "at+jwt"
ISSUER = AUDIENCE = "blog-api"
SUBJECT = re.compile(r"user:([1-9]\d*)", re.ASCII)
LOGIN = re.compile("[0-9a-f]{64}")
# Ours have about 400 characters.
JWT_LENGTH = 4_000
CLAIMS = ["iss", "aud", "sub", "exp", "iat", "jti", "sid", "scope"]


class BadKeyFile(ValueError):
    """A file that should hold the secret key, and does not."""


class PasswordRefused(ValueError):
    """A password that nobody may choose; the message says why."""


class TooBusy(Exception):
    """So many passwords wait to be hashed that one more would wait for too long."""


class BadJWT(ValueError):
    """No access token of ours, or one that has expired."""


class Passwords:
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
        self._cores = Semaphore(available_cores())
        self._waiting: Counter[str] = Counter()
        # No password has this hash, but it takes as long as any to find out.
        self._nobodys_hash = (
            f"$argon2id$v=19$m={settings.argon2_memory_kib},t={settings.argon2_passes},"
            f"p={settings.argon2_lanes}${random_base64(16)}${random_base64(32)}"
        )

    def check_choice(self, password: str) -> None:
        """Raise PasswordRefused for a password that may not be chosen."""
        if len(password) < self.min_length:
            raise PasswordRefused(f"Use at least {self.min_length} characters")
        if self.refuse_common and password.lower() in common_passwords():
            raise PasswordRefused("This is one of the most common passwords")

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return self._waiting.total()

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """A core to work on. Raises TooBusy where too many wait for one, of this client or of all.

        Half of the places are enough for one: the others' log-ins do not depend on it.
        """
        if self.waiting >= MAX_WAITING or self._waiting[client] >= MAX_WAITING // 2:
            raise TooBusy
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


@dataclass(frozen=True)
class Claims:
    """What an access token says: whose it is, of which log-in, for what and until when.

    The log-in is known by its token's digest.
    """

    user_id: int
    login: str
    scopes: frozenset[str]
    expires_at: datetime


class Signer:
    """Signs and verifies access tokens: JWT (RFC 7519) in the profile of RFC 9068."""

    def __init__(self, key: str) -> None:
        self._key = key

    def sign(self, claims: Claims) -> str:
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": f"user:{claims.user_id}",
            "exp": claims.expires_at,
            "iat": datetime.now(UTC),
            "jti": secrets.token_urlsafe(16),
            "sid": claims.login,
            "scope": join_scopes(claims.scopes),
        }
        return jwt.encode(payload, self._key, ALGORITHM, headers={"typ": JWT_TYPE})

    def verify(self, token: str) -> Claims:
        """Raises BadJWT for any other key, algorithm, type, issuer or audience, and when expired.

        A reader has to look up its log-in too: a signature cannot be revoked.
        """
        if len(token) > JWT_LENGTH:
            raise BadJWT
        try:
            decoded = jwt.decode_complete(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                # Another machine's clock may be a little ahead (RFC 7519, 4.1.6 asks for no check).
                options={"require": CLAIMS, "strict_aud": True, "verify_iat": False},
            )
            payload = decoded["payload"]
            subject = SUBJECT.fullmatch(payload["sub"])
            login = LOGIN.fullmatch(payload["sid"])
            if decoded["header"].get("typ") != JWT_TYPE or subject is None or login is None:
                raise BadJWT
            return Claims(
                user_id=int(subject[1]),
                login=login[0],
                scopes=frozenset(str(payload["scope"]).split()),
                expires_at=datetime.fromtimestamp(payload["exp"], UTC),
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            # PyJWT lets through what some headers and claims of wrong types make Python raise.
            raise BadJWT from error


def join_scopes(scopes: Collection[str]) -> str:
    """RFC 6749, 3.3: separated by spaces; their order means nothing."""
    return " ".join(sorted(scopes))


@cache
def common_passwords() -> frozenset[str]:
    """The most common passwords, as the package `zxcvbn` counts them."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(FREQUENCY_LISTS["passwords"][:MOST_COMMON])


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
