"""Tokens: how a user proves who they are, and what for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from pydantic import SecretStr
from sqlalchemy import Integer, String, bindparam, delete, inspect
from sqlalchemy import select as select_columns
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.errors import (
    InactiveUser,
    IncorrectPassword,
    InsufficientScope,
    InvalidToken,
    NotAuthenticated,
)
from blog_api.accounts.jwt import InvalidJWT, JWTSigner
from blog_api.accounts.models import Token, User, UserRow
from blog_api.accounts.rate_limits import LoginThrottle
from blog_api.accounts.scopes import SCOPES, Scope, effective_scopes
from blog_api.core.errors import Conflict
from blog_api.core.security import hash_token
from blog_api.db.base import NOW
from blog_api.db.queries import NamedQuery, execute_query
from blog_api.db.session import SessionDep, connection_released
from blog_api.web.conditional import mark_public


@dataclass(frozen=True)
class Auth:
    """What was presented. A JWT can be good for less, and end sooner, than its log-in."""

    token_id: int
    user: UserRow
    scopes: frozenset[str]
    expires_at: datetime


async def get_signer(request: Request) -> JWTSigner:
    signer: JWTSigner = request.app.state.signer
    return signer


SignerDep = Annotated[JWTSigner, Depends(get_signer)]


UNEXPIRED_TOKENS = select(Token).where(col(Token.expires_at) > NOW)


HAS_DIGEST = col(Token.digest) == bindparam("digest", type_=String)


IS_LOGIN_SESSION = col(Token.refresh_digest).is_not(None)


LOGIN_SESSION = UNEXPIRED_TOKENS.where(HAS_DIGEST, IS_LOGIN_SESSION)


# Of a token, its user's columns and its own: every request reads them, and few change any.
AUTHENTICATION = (
    select_columns(
        *inspect(User).local_table.columns,
        col(Token.id).label("token_id"),
        col(Token.scope).label("token_scope"),
        col(Token.expires_at).label("token_expires_at"),
    )
    .join(Token, col(Token.user_id) == col(User.id))
    .where(HAS_DIGEST, col(Token.expires_at) > NOW)
)


# The handle of a log-in, with which its refresh tokens begin, is no token.
AUTHENTICATE_OPAQUE = NamedQuery(AUTHENTICATION.where(~IS_LOGIN_SESSION))


AUTHENTICATE_JWT = NamedQuery(AUTHENTICATION.where(IS_LOGIN_SESSION))


TOKEN_STATUS = NamedQuery(
    select_columns(col(User.is_active))
    .join(Token)
    .where(col(Token.id) == bindparam("id", type_=Integer), col(Token.expires_at) > NOW)
)


async def authenticate(session: AsyncSession, signer: JWTSigner, secret: str) -> Auth:
    """What a token is good for; raises InvalidToken."""
    if "." in secret:
        return await authenticate_jwt(session, signer, secret)
    found = await execute_query(session, AUTHENTICATE_OPAQUE, {"digest": hash_token(secret)})
    if not found:
        raise InvalidToken
    (user,) = found
    return Auth(
        user.token_id,
        user,
        effective_scopes(user.token_scope, is_admin=user.is_admin),
        user.token_expires_at,
    )


async def authenticate_jwt(session: AsyncSession, signer: JWTSigner, secret: str) -> Auth:
    try:
        claims = signer.verify(secret)
    except InvalidJWT:
        raise InvalidToken from None
    found = await execute_query(session, AUTHENTICATE_JWT, {"digest": claims.session_digest})
    if not found or found[0].id != claims.user_id:
        raise InvalidToken
    (user,) = found
    scopes = effective_scopes(user.token_scope, is_admin=user.is_admin) & claims.scopes
    return Auth(user.token_id, user, scopes, min(user.token_expires_at, claims.expires_at))


class BearerAuth(OAuth2PasswordBearer):
    """What was presented, with its user; None if nothing was."""

    # FastAPI's own gives the token alone: another dependency, whose solving each request pays for.
    # Nobody but FastAPI calls this, by the signature that it finds here, and never by the
    # parent's; for OpenAPI it has to be a child of that.
    async def __call__(  # type: ignore[override]
        self, request: Request, session: SessionDep
    ) -> Auth | None:
        secret = await super().__call__(request)
        if secret is None:
            # The answer is the same for everybody who does not say who they are.
            mark_public(request)
            return None
        access = await authenticate(session, await get_signer(request), secret)
        if not access.user.is_active:
            raise InactiveUser
        return access


get_optional_auth = BearerAuth(
    tokenUrl="token",
    refreshUrl="token",
    scopes={scope.value: text for scope, text in SCOPES.items()},
    scheme_name="OAuth2",
    description="With the email address for a username. No client id is needed.",
    auto_error=False,
)


OptionalAuth = Annotated[Auth | None, Security(get_optional_auth)]


def get_reader_id(access: Auth | None) -> int | None:
    """The id of a user who may read their own drafts here; None for everybody else."""
    return access.user.id if access and Scope.posts_read in access.scopes else None


async def get_auth(access: OptionalAuth, needed: SecurityScopes) -> Auth:
    if access is None:
        raise NotAuthenticated
    if not access.scopes.issuperset(needed.scopes):
        raise InsufficientScope(needed.scope_str)
    return access


async def get_current_user(access: OptionalAuth, needed: SecurityScopes) -> UserRow:
    return (await get_auth(access, needed)).user


# Who is asking: somebody with some token; or with one that is good for this.
RequiredAuth = Annotated[Auth, Security(get_auth)]


CurrentUser = Annotated[UserRow, Security(get_current_user, scopes=[Scope.users_read])]


CanWriteAccount = Annotated[Auth, Security(get_auth, scopes=[Scope.users_write])]


CanReadDrafts = Annotated[UserRow, Security(get_current_user, scopes=[Scope.posts_read])]


CanWritePosts = Annotated[Auth, Security(get_auth, scopes=[Scope.posts_write])]


Admin = Annotated[UserRow, Security(get_current_user, scopes=[Scope.admin])]


@asynccontextmanager
async def connection_released_for(session: AsyncSession, access: Auth) -> AsyncIterator[None]:
    """Release the connection as `connection_released()` does, then check the token again.

    Raises InvalidToken and InactiveUser.
    """
    async with connection_released(session):
        yield
    found = await execute_query(session, TOKEN_STATUS, {"id": access.token_id})
    if not found:
        raise InvalidToken
    if not found[0].is_active:
        raise InactiveUser


async def revoke_other_sessions(session: AsyncSession, access: Auth) -> None:
    """Revoke all tokens of a user but the one presented."""
    await session.exec(
        delete(Token).where(col(Token.user_id) == access.user.id, col(Token.id) != access.token_id)
    )


async def lock_authenticated_user(
    session: AsyncSession, access: Auth, verified: str | None = None
) -> User:
    """The user who asks, locked until the request ends.

    Raises InvalidToken where their token was revoked since it was read, and Conflict where
    `verified`, the hash that a password was verified by, is not the user's any more. Whoever
    revokes all of a user's tokens holds this lock too: nothing that those made comes after.
    """
    locked = select(User).where(col(User.id) == access.user.id).with_for_update()
    await session.exec(locked.execution_options(populate_existing=True))
    # In a statement of its own, which sees what was committed while this one waited.
    query = select(User).join(Token).where(col(Token.id) == access.token_id)
    user = (await session.exec(query)).first()
    if user is None:
        raise InvalidToken
    if verified not in (None, user.password_hash):
        raise Conflict
    return user


async def verify_password(
    session: AsyncSession, throttle: LoginThrottle, user: UserRow, password: SecretStr
) -> str:
    """The hash by which this is the user's password.

    Raises TooManyRequests and IncorrectPassword.
    """
    password_hash: str | None = user.password_hash
    account: str | None = user.email_key
    if password_hash is None or account is None:
        # Imported, and not given any yet.
        raise IncorrectPassword
    async with connection_released(session):
        is_right, _ = await throttle.verify_password(
            password.get_secret_value(), password_hash, account=account
        )
    if not is_right:
        raise IncorrectPassword
    return password_hash


async def confirm_password(
    session: AsyncSession, throttle: LoginThrottle, access: Auth, password: SecretStr
) -> User:
    """The user who asks, locked until the request ends, if this is their password."""
    verified = await verify_password(session, throttle, access.user, password)
    return await lock_authenticated_user(session, access, verified)
