"""Passwords, tokens, their signature and the secret key: no database and no HTTP."""

import hashlib
import os
import secrets
from pathlib import Path

from blog_api.core.settings import MIN_SECRET_KEY_BYTES


class InvalidKeyFile(ValueError):
    """A file that should hold the secret key, and does not."""


def count_available_cores() -> int:
    """The cores that this process may run on; all of them where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def generate_token() -> str:
    """256 random bits that fit a header."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """What the database keeps of a token: SHA-256 in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_or_create_key(path: Path) -> str:
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
    if len(key.encode()) < MIN_SECRET_KEY_BYTES:
        raise InvalidKeyFile(
            f"{path} holds no key of {MIN_SECRET_KEY_BYTES} bytes; without it a new one is made"
        )
    return key
