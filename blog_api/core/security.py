"""Random tokens, their digests, and the file with the secret key."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from blog_api.core.settings import MIN_SECRET_KEY_BYTES


class InvalidKeyFile(ValueError):
    """The key file holds no secret key that is long enough."""


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


def make_keyed_digest(key: str, text: str) -> str:
    """Return the HMAC-SHA256 of a text in hexadecimal: it cannot be guessed without the key."""
    return hmac.digest(key.encode(), text.encode(), "sha256").hex()


def read_or_create_key(path: Path) -> str:
    """Return the secret key in a file, which is created with mode 0600 if it is missing.

    Raises InvalidKeyFile. The caller holds a lock, so that two processes never create two keys.
    """
    if not path.exists():
        # Written to another file and renamed: a crash never leaves half a key.
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        new.replace(path)
    key = path.read_text().strip()
    if len(key.encode()) < MIN_SECRET_KEY_BYTES:
        raise InvalidKeyFile(
            f"{path} holds no key of {MIN_SECRET_KEY_BYTES} bytes; delete it to create a new one"
        )
    return key
