"""Random tokens, their digests, and the file with the secret key."""

import hashlib
import hmac
import os
import secrets
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
        with open(new, "x", opener=open_private) as file:
            file.write(secrets.token_urlsafe(32))
        new.replace(path)
    try:
        return check_secret_key(SecretStr(path.read_text("utf-8").strip())).get_secret_value()
    except ValueError as error:
        raise InvalidKeyFile(
            f"{path}: the key {error}; delete the file to create a new one"
        ) from None
