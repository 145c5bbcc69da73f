"""Refresh tokens of sessions with JWT: each is used once (RFC 9700, 4.14.2).

A refresh token is `{handle}.{digest}`: the handle of its session, and an HMAC over the handle and
the number of the token. The session stores the number and the digest of the current token.

Example: two tabs of a browser refresh at the same moment. The first request rotates the token, and
the second presents the one that was current a moment ago. Within `BLOG_REFRESH_GRACE_SECONDS` it
gets the same new token, which is computed again. Later, or if the new token was used meanwhile, a
second use means that two parties have the token: the session ends.
"""

from datetime import timedelta
from hmac import compare_digest
from secrets import randbelow
from typing import Annotated

from fastapi import Depends, Request

from blog_api.accounts.models import Token
from blog_api.core.fields import utc_now
from blog_api.core.security import SecretKeys, hash_token

MAX_FIRST_NUMBER = 2**30


class RefreshTokens:
    """Issue and rotate the refresh tokens of sessions."""

    def __init__(self, keys: SecretKeys, grace: timedelta) -> None:
        self._keys = keys
        self._grace = grace

    def issue(self, session: Token, handle: str) -> str:
        """Make the next refresh token of a session, which replaces the current one."""
        number = session.refresh_number
        # From a random number on: after a downgrade, which loses it, no token comes a second time.
        session.refresh_number = randbelow(MAX_FIRST_NUMBER) if number is None else number + 1
        session.refreshed_at = utc_now()
        token, *_ = self._make_tokens(handle, session.refresh_number)
        session.refresh_digest = hash_token(token)
        return token

    def rotate(self, session: Token, handle: str, presented: str) -> str | None:
        """Return the next refresh token, or None if the session must end.

        The current token is compared with its stored digest: it may come from a version that did
        not number tokens, or from a secret key that is no longer known.
        """
        if is_current(session, presented):
            return self.issue(session, handle)
        number, rotated_at = session.refresh_number, session.refreshed_at
        if number is None or rotated_at is None or utc_now() - rotated_at >= self._grace:
            return None
        digest = hash_token(presented)
        before = self._make_tokens(handle, number - 1)
        if not any(compare_digest(digest, hash_token(one)) for one in before):
            return None
        current = (one for one in self._make_tokens(handle, number) if is_current(session, one))
        return next(current, None)

    def _make_tokens(self, handle: str, number: int) -> list[str]:
        """Return the token under each secret key, the current one first."""
        digests = self._keys.make_digests("refresh token", f"{handle} {number}")
        return [f"{handle}.{digest}" for digest in digests]


def is_current(session: Token, presented: str) -> bool:
    return compare_digest(session.refresh_digest or "", hash_token(presented))


async def get_refresh_tokens(request: Request) -> RefreshTokens:
    state = request.app.state
    grace = timedelta(seconds=state.settings.refresh_grace_seconds)
    return RefreshTokens(state.secret_keys, grace)


RefreshTokensDep = Annotated[RefreshTokens, Depends(get_refresh_tokens)]
