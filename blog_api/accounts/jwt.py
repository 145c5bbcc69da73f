"""Sign and verify access tokens (JWT)."""

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

import jwt

from blog_api.accounts.scopes import join_scopes

ALGORITHM = "HS256"


# RFC 9068, 2.1: so that no other kind of JWT is taken for an access token.
JWT_TYPE = "at+jwt"


ISSUER = AUDIENCE = "blog-api"


SUBJECT_PATTERN = re.compile(r"user:([1-9]\d*)", re.ASCII)


SESSION_PATTERN = re.compile("[0-9a-f]{64}")


# Ours have about 400 characters.
MAX_JWT_LENGTH = 4_000


REQUIRED_CLAIMS = ["iss", "aud", "sub", "exp", "iat", "jti", "sid", "scope"]


class InvalidJWT(ValueError):
    """No access token of ours, or one that has expired."""


@dataclass(frozen=True)
class Claims:
    """What an access token says: whose it is, of which log-in, for what and until when.

    The log-in is known by its token's digest.
    """

    user_id: int
    login: str
    scopes: frozenset[str]
    expires_at: datetime


class JWTSigner:
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
        if len(token) > MAX_JWT_LENGTH:
            raise InvalidJWT
        try:
            decoded = jwt.decode_complete(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                # Another machine's clock may be a little ahead (RFC 7519, 4.1.6 asks for no check).
                options={"require": REQUIRED_CLAIMS, "strict_aud": True, "verify_iat": False},
            )
            payload = decoded["payload"]
            subject = SUBJECT_PATTERN.fullmatch(payload["sub"])
            login = SESSION_PATTERN.fullmatch(payload["sid"])
            if decoded["header"].get("typ") != JWT_TYPE or subject is None or login is None:
                raise InvalidJWT
            return Claims(
                user_id=int(subject[1]),
                login=login[0],
                scopes=frozenset(str(payload["scope"]).split()),
                expires_at=datetime.fromtimestamp(payload["exp"], UTC),
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            # PyJWT lets through what some headers and claims of wrong types make Python raise.
            raise InvalidJWT from error
