"""Random tokens, their digests, and the file with the secret key."""

import base64
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from blog_api.core.settings import check_secret_key


class InvalidKeyFile(ValueError):
    """The key file holds no valid secret key."""


def count_available_cores() -> int:
    """Return the number of cores this process may run on, or of the machine if unknown."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def generate_token() -> str:
    """Return 256 random bits in URL-safe base64."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """Return the SHA-256 digest of a token in hexadecimal; only digests are stored."""
    return hashlib.sha256(token.encode()).hexdigest()


def open_private(path: str, flags: int) -> int:
    """Open a file, for its owner alone if it is new: an `opener` for `open()`."""
    return os.open(path, flags, 0o600)


@dataclass(frozen=True)
class SecretKeys:
    """The secret key, which signs, and the one before it, which still verifies."""

    current: str
    previous: str | None = None

    @property
    def newest_first(self) -> tuple[str, ...]:
        return (self.current,) if self.previous is None else (self.current, self.previous)

    def make_digests(self, purpose: str, text: str) -> tuple[str, ...]:
        """Return the HMAC-SHA256 of a text under each key, in URL-safe base64 without padding.

        Each purpose has keys of its own, derived from the secret keys: a digest that was made for
        one purpose is worth nothing for another.
        """
        return tuple(make_digest(key, purpose, text) for key in self.newest_first)


def make_digest(key: str, purpose: str, text: str) -> str:
    derived = hmac.digest(key.encode(), f"blog-api {purpose}".encode(), "sha256")
    digest = hmac.digest(derived, text.encode(), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def read_or_create_key(path: Path) -> str:
    """Return the secret key in a file, which is created with mode 0600 if it is missing.

    Raises InvalidKeyFile. The caller holds a lock, so that two processes never create two keys.
    """
    if not path.exists():
        # Written to another file and renamed: a crash never leaves half a key.
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        with open(new, "x", opener=open_private) as file:
            file.write(secrets.token_urlsafe(32))
        new.replace(path)
    try:
        return check_secret_key(SecretStr(path.read_text("utf-8").strip())).get_secret_value()
    except ValueError as error:
        raise InvalidKeyFile(
            f"{path}: the key {error}; delete the file to create a new one"
        ) from None
