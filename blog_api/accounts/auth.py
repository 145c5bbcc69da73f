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
from blog_api.accounts.jwt import BadJWT, Signer
from blog_api.accounts.models import Token, User, UserRow
from blog_api.accounts.rate_limits import Guard
from blog_api.accounts.scopes import SCOPES, Scope, effective_scopes
from blog_api.core.errors import Conflict
from blog_api.core.security import digest
from blog_api.db.base import NOW
from blog_api.db.queries import NamedQuery, read
from blog_api.db.session import SessionDep, released
from blog_api.web.conditional import show_everybody


@dataclass(frozen=True)
class Access:
    """What was presented. A JWT can be good for less, and end sooner, than its log-in."""

    token_id: int
    user: UserRow
    scopes: frozenset[str]
    expires_at: datetime


async def get_signer(request: Request) -> Signer:
    signer: Signer = request.app.state.signer
    return signer


SignerDep = Annotated[Signer, Depends(get_signer)]


LIVE_TOKENS = select(Token).where(col(Token.expires_at) > NOW)


IS_DIGEST = col(Token.digest) == bindparam("digest", type_=String)


IS_LOG_IN = col(Token.refresh_digest).is_not(None)


LOG_IN = LIVE_TOKENS.where(IS_DIGEST, IS_LOG_IN)


# Of a token, its user's columns and its own: every request reads them, and few change any.
PRESENTED = (
    select_columns(
        *inspect(User).local_table.columns,
        col(Token.id).label("token_id"),
        col(Token.scope).label("token_scope"),
        col(Token.expires_at).label("token_expires_at"),
    )
    .join(Token, col(Token.user_id) == col(User.id))
    .where(IS_DIGEST, col(Token.expires_at) > NOW)
)


# The handle of a log-in, with which its refresh tokens begin, is no token.
OPAQUE_TOKEN = NamedQuery(PRESENTED.where(~IS_LOG_IN))


PRESENTED_LOG_IN = NamedQuery(PRESENTED.where(IS_LOG_IN))


STILL_GOOD = NamedQuery(
    select_columns(col(User.is_active))
    .join(Token)
    .where(col(Token.id) == bindparam("id", type_=Integer), col(Token.expires_at) > NOW)
)


async def find_access(session: AsyncSession, signer: Signer, secret: str) -> Access:
    """What a token is good for; raises InvalidToken."""
    if "." in secret:
        return await find_access_by_jwt(session, signer, secret)
    found = await read(session, OPAQUE_TOKEN, {"digest": digest(secret)})
    if not found:
        raise InvalidToken
    (user,) = found
    return Access(
        user.token_id,
        user,
        effective_scopes(user.token_scope, is_admin=user.is_admin),
        user.token_expires_at,
    )


async def find_access_by_jwt(session: AsyncSession, signer: Signer, secret: str) -> Access:
    try:
        claims = signer.verify(secret)
    except BadJWT:
        raise InvalidToken from None
    found = await read(session, PRESENTED_LOG_IN, {"digest": claims.login})
    if not found or found[0].id != claims.user_id:
        raise InvalidToken
    (user,) = found
    scopes = effective_scopes(user.token_scope, is_admin=user.is_admin) & claims.scopes
    return Access(user.token_id, user, scopes, min(user.token_expires_at, claims.expires_at))


class Presented(OAuth2PasswordBearer):
    """What was presented, with its user; None if nothing was."""

    # FastAPI's own gives the token alone: another dependency, whose solving each request pays for.
    # Nobody but FastAPI calls this, by the signature that it finds here, and never by the
    # parent's; for OpenAPI it has to be a child of that.
    async def __call__(  # type: ignore[override]
        self, request: Request, session: SessionDep
    ) -> Access | None:
        secret = await super().__call__(request)
        if secret is None:
            # The answer is the same for everybody who does not say who they are.
            show_everybody(request)
            return None
        access = await find_access(session, await get_signer(request), secret)
        if not access.user.is_active:
            raise InactiveUser
        return access


get_access = Presented(
    tokenUrl="token",
    refreshUrl="token",
    scopes={scope.value: text for scope, text in SCOPES.items()},
    scheme_name="OAuth2",
    description="With the email address for a username. No client id is needed.",
    auto_error=False,
)


PresentedAccess = Annotated[Access | None, Security(get_access)]


def reader_id_of(access: Access | None) -> int | None:
    """The id of a user who may read their own drafts here; None for everybody else."""
    return access.user.id if access and Scope.posts_read in access.scopes else None


async def get_current_access(access: PresentedAccess, needed: SecurityScopes) -> Access:
    if access is None:
        raise NotAuthenticated
    if not access.scopes.issuperset(needed.scopes):
        raise InsufficientScope(needed.scope_str)
    return access


async def get_current_user(access: PresentedAccess, needed: SecurityScopes) -> UserRow:
    return (await get_current_access(access, needed)).user


# Who is asking: somebody with some token; or with one that is good for this.
CurrentAccess = Annotated[Access, Security(get_current_access)]


AccountReader = Annotated[UserRow, Security(get_current_user, scopes=[Scope.users_read])]


AccountWriter = Annotated[Access, Security(get_current_access, scopes=[Scope.users_write])]


DraftReader = Annotated[UserRow, Security(get_current_user, scopes=[Scope.posts_read])]


Writer = Annotated[Access, Security(get_current_access, scopes=[Scope.posts_write])]


Admin = Annotated[UserRow, Security(get_current_user, scopes=[Scope.admin])]


@asynccontextmanager
async def released_by(session: AsyncSession, access: Access) -> AsyncIterator[None]:
    """As `released()`, and what was presented has to be good for something afterwards too.

    Raises InvalidToken and InactiveUser.
    """
    async with released(session):
        yield
    found = await read(session, STILL_GOOD, {"id": access.token_id})
    if not found:
        raise InvalidToken
    if not found[0].is_active:
        raise InactiveUser


async def delete_other_tokens(session: AsyncSession, access: Access) -> None:
    """Revoke all tokens of a user but the one presented."""
    await session.exec(
        delete(Token).where(col(Token.user_id) == access.user.id, col(Token.id) != access.token_id)
    )


async def lock_access(session: AsyncSession, access: Access, verified: str | None = None) -> User:
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
    session: AsyncSession, guard: Guard, user: UserRow, password: SecretStr
) -> str:
    """The hash by which this is the user's password.

    Raises TooManyRequests and IncorrectPassword.
    """
    password_hash: str | None = user.password_hash
    account: str | None = user.email_key
    if password_hash is None or account is None:
        # Imported, and not given any yet.
        raise IncorrectPassword
    async with released(session):
        is_right, _ = await guard.verify(
            password.get_secret_value(), password_hash, account=account
        )
    if not is_right:
        raise IncorrectPassword
    return password_hash


async def confirm_password(
    session: AsyncSession, guard: Guard, access: Access, password: SecretStr
) -> User:
    """The user who asks, locked until the request ends, if this is their password."""
    verified = await verify_password(session, guard, access.user, password)
    return await lock_access(session, access, verified)
