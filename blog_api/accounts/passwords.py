"""Hash passwords, verify them, and reject weak ones."""

import base64
import secrets
from contextlib import AbstractAsyncContextManager
from functools import cache
from unicodedata import normalize

import anyio.to_thread
from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher
from pydantic import SecretStr

from blog_api.core.errors import FieldError, ValidationFailed
from blog_api.core.fair_slots import FairSlots
from blog_api.core.fields import casefold_key
from blog_api.core.security import count_available_cores
from blog_api.core.settings import Settings

# Requests that wait for a core; a hash takes about 0.1 s.
MAX_QUEUED = 100
COMMON_PASSWORD_COUNT = 3_000
# Shorter names are part of many words.
MIN_KNOWN_LENGTH = 4


class PasswordRejected(ValueError):
    """A new password is too weak; the message says why."""


class PasswordHasher:
    """Hash and verify passwords in threads, at most one for each core.

    New hashes are Argon2id with the cost in `BLOG_ARGON2_…`. Hashes of bcrypt and of other costs
    are verified too, and replaced after a successful log-in.
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
        self._cores = FairSlots(count_available_cores())
        # Verified for unknown users, so that the response takes as long as for a wrong password.
        self._dummy_hash = (
            f"$argon2id$v=19$m={settings.argon2_memory_kib},t={settings.argon2_passes},"
            f"p={settings.argon2_lanes}${random_base64(16)}${random_base64(32)}"
        )

    def check_choice(self, password: str, *, name: str, email: str | None) -> None:
        """Raise PasswordRejected if a new password is too short, too common or easy to guess.

        It must not contain the name, a word of it, or the local part of the email address.
        """
        password = normalize("NFC", password)
        if len(password) < self.min_length:
            raise PasswordRejected(f"Use at least {self.min_length} characters")
        if self.refuse_common and password.lower() in load_common_passwords():
            raise PasswordRejected("This is one of the most common passwords")
        if len(set(password)) == 1:
            raise PasswordRejected("Use more than one character")
        local_part = (email or "").rpartition("@")[0]
        known = {casefold_key(one) for one in (name, *name.split(), local_part)}
        if any(len(one) >= MIN_KNOWN_LENGTH and one in casefold_key(password) for one in known):
            raise PasswordRejected("Use no part of your name or email address")

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a core."""
        return self._cores.waiting

    def slot(self, network: str, site: str | None = None) -> AbstractAsyncContextManager[None]:
        """Wait for a core and occupy it. Raises ServiceUnavailable if too many wait already.

        Sites, and the networks of a site, take turns. A site may fill half of the queue.
        """
        return self._cores.slot(site or network, network, max_waiting=MAX_QUEUED)

    async def hash(self, password: str) -> str:
        """Hash a password, normalized. The caller holds a `slot()` if requests compete for cores.

        Keyboards differ in how they compose `й` and `é`: the hash is that of NFC.
        """
        return await anyio.to_thread.run_sync(self._hashing.hash, normalize("NFC", password))

    async def verify(self, password: str, password_hash: str | None) -> tuple[bool, str | None]:
        """Return whether the password is right, and a new hash if the old one is outdated.

        Without a hash, for an unknown user, it takes as long. The caller holds a `slot()`.
        """
        password_hash = password_hash or self._dummy_hash
        return await anyio.to_thread.run_sync(self._verify, password, password_hash)

    def _verify(self, password: str, password_hash: str) -> tuple[bool, str | None]:
        normalized = normalize("NFC", password)
        is_right, new_hash = self._verify_spelling(normalized, password_hash)
        if normalized == password:
            return is_right, new_hash
        # Older hashes are of the password as it was sent. Verified even if the first one is right,
        # so that the number of hashes depends on the password alone.
        was_right, _ = self._verify_spelling(password, password_hash)
        if was_right and not is_right:
            return True, self._hashing.hash(normalized)
        return is_right, new_hash

    def _verify_spelling(self, password: str, password_hash: str) -> tuple[bool, str | None]:
        try:
            return self._hashing.verify_and_update(password, password_hash)
        except (UnknownHashError, ValueError):
            # ValueError: bcrypt rejects passwords of more than 72 bytes.
            return False, None


@cache
def load_common_passwords() -> frozenset[str]:
    """Return the most common passwords of the list in `zxcvbn`."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(FREQUENCY_LISTS["passwords"][:COMMON_PASSWORD_COUNT])


def random_base64(size: int) -> str:
    """Return random bytes in unpadded base64, as in Argon2's hash strings."""
    return base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")


def check_new_password(
    passwords: PasswordHasher, password: SecretStr, *, name: str, email: str | None, field: str
) -> None:
    """Raise ValidationFailed, with an error for `field`, if a new password is too weak."""
    try:
        passwords.check_choice(password.get_secret_value(), name=name, email=email)
    except PasswordRejected as rejection:
        error = FieldError(loc=["body", field], type="password_refused", msg=str(rejection))
        raise ValidationFailed([error]) from None
