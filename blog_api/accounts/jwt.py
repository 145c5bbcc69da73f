"""Sign and verify access tokens (JWT)."""

import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import jwt

from blog_api.accounts.scopes import join_scopes
from blog_api.core.security import SecretKeys

ALGORITHM = "HS256"
# RFC 9068, 2.1: a JWT made for another purpose is not an access token.
JWT_TYPE = "at+jwt"
ISSUER = AUDIENCE = "blog-api"
SUBJECT_PATTERN = re.compile(r"user:([1-9]\d*)", re.ASCII)
SESSION_PATTERN = re.compile("[0-9a-f]{64}")
# Access tokens have about 400 characters.
MAX_JWT_LENGTH = 4_000
# Tokens whose signature is not verified again until others replace them: about 1 MB.
MAX_VERIFIED = 1_000
REQUIRED_CLAIMS = ["iss", "aud", "sub", "exp", "iat", "jti", "sid", "scope"]


class InvalidJWT(ValueError):
    """Not an access token of this service, or an expired one."""


@dataclass(frozen=True)
class Claims:
    """Claims of an access token; the session is identified by the digest of its token."""

    user_id: int
    session_digest: str
    scopes: frozenset[str]
    expires_at: datetime


class JWTSigner:
    """Sign and verify access tokens: JWT (RFC 7519) with the profile of RFC 9068."""

    def __init__(self, keys: SecretKeys) -> None:
        self._keys = keys
        self._read_verified = lru_cache(MAX_VERIFIED)(self._read)

    def sign(self, claims: Claims) -> str:
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": f"user:{claims.user_id}",
            "exp": claims.expires_at,
            "iat": datetime.now(UTC),
            "jti": secrets.token_urlsafe(16),
            "sid": claims.session_digest,
            "scope": join_scopes(claims.scopes),
        }
        return jwt.encode(payload, self._keys.current, ALGORITHM, headers={"typ": JWT_TYPE})

    def verify(self, token: str) -> Claims:
        """Return the claims. Raises InvalidJWT.

        The caller must look up the session too: it may be revoked, a signature cannot.
        """
        if len(token) > MAX_JWT_LENGTH:
            raise InvalidJWT
        claims = self._read_verified(token)
        if claims.expires_at <= datetime.now(UTC):
            raise InvalidJWT
        return claims

    def _read(self, token: str) -> Claims:
        try:
            decoded = self._decode(token)
            payload = decoded["payload"]
            subject = SUBJECT_PATTERN.fullmatch(payload["sub"])
            session = SESSION_PATTERN.fullmatch(payload["sid"])
            if decoded["header"].get("typ") != JWT_TYPE or subject is None or session is None:
                raise InvalidJWT
            return Claims(
                user_id=int(subject[1]),
                session_digest=session[0],
                scopes=frozenset(str(payload["scope"]).split()),
                expires_at=datetime.fromtimestamp(payload["exp"], UTC),
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            # PyJWT does not catch what Python raises for some headers and claims of wrong types.
            raise InvalidJWT from error

    def _decode(self, token: str) -> dict[str, Any]:
        """Verify the signature with the current key, then with the previous one."""
        *earlier, last = self._keys.newest_first
        for key in earlier:
            with suppress(jwt.InvalidSignatureError):
                return decode(token, key)
        return decode(token, last)


def decode(token: str, key: str) -> dict[str, Any]:
    return jwt.decode_complete(
        token,
        key,
        algorithms=[ALGORITHM],
        audience=AUDIENCE,
        issuer=ISSUER,
        # The clock of another server may be ahead; RFC 7519, 4.1.6 requires no check.
        options={"require": REQUIRED_CLAIMS, "strict_aud": True, "verify_iat": False},
    )
