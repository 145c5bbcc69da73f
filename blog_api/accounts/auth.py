"""Authentication: who sends a request, and with which permissions.

A route declares what it needs by the type of a parameter: `OptionalAuth` (anonymous or any token),
`RequiredAuth` (any token), `CurrentUser`, `CanReadAccount`, `CanWriteAccount`, `CanReadDrafts`,
`CanWrite` (comments, deletion of one's own posts), `CanWritePosts` (authors only), `Moderator`
(approval of comments) and `Admin` (a token with that scope).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from pydantic import SecretStr
from sqlalchemy import Integer, String, bindparam, delete
from sqlalchemy import select as select_columns
from sqlmodel import col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.addresses import mailbox_key
from blog_api.accounts.errors import (
    EmailNotVerified,
    InactiveUser,
    IncorrectPassword,
    InsufficientScope,
    InvalidToken,
    NotAnAuthor,
    NotAuthenticated,
)
from blog_api.accounts.jwt import InvalidJWT, JWTSigner
from blog_api.accounts.models import Token, User
from blog_api.accounts.rate_limits import LoginThrottle
from blog_api.accounts.scopes import SCOPES, Scope, effective_scopes
from blog_api.core.errors import Conflict
from blog_api.core.security import SecretKeys, hash_token
from blog_api.core.settings import Settings
from blog_api.db.base import NOW
from blog_api.db.queries import NamedQuery, execute_query
from blog_api.db.session import SessionDep, connection_released
from blog_api.web.conditional import mark_public, mark_shared


@dataclass(frozen=True, slots=True)
class AuthenticatedUser:
    """The user of a token, as read with the token."""

    id: int
    name: str
    username: str
    bio: str | None
    avatar_url: str | None
    email: str | None
    verified_email: str | None
    verified_at: datetime | None
    pending_email: str | None
    password_hash: str | None
    is_active: bool
    is_admin: bool
    is_author: bool
    created_at: datetime
    updated_at: datetime

    @property
    def email_verified_at(self) -> datetime | None:
        return self.verified_at if self.verified_email == self.email else None


@dataclass(frozen=True, slots=True)
class Auth:
    """An authenticated request: the user, the token and its effective scopes.

    A JWT may have fewer scopes and expire sooner than its session.
    """

    token_id: int
    user: AuthenticatedUser
    scopes: frozenset[str]
    expires_at: datetime


async def get_signer(request: Request) -> JWTSigner:
    signer: JWTSigner = request.app.state.signer
    return signer


async def get_secret_keys(request: Request) -> SecretKeys:
    keys: SecretKeys = request.app.state.secret_keys
    return keys


SecretKeysDep = Annotated[SecretKeys, Depends(get_secret_keys)]
SignerDep = Annotated[JWTSigner, Depends(get_signer)]

UNEXPIRED_TOKENS = select(Token).where(col(Token.expires_at) > NOW)
HAS_DIGEST = col(Token.digest) == bindparam("digest", type_=String)
IS_JWT_SESSION = col(Token.refresh_digest).is_not(None)
JWT_SESSION = UNEXPIRED_TOKENS.where(HAS_DIGEST, IS_JWT_SESSION)

USER_FIELDS = [field.name for field in fields(AuthenticatedUser)]
AUTHENTICATION = (
    select_columns(
        *(getattr(User, name) for name in USER_FIELDS),
        col(Token.id).label("token_id"),
        col(Token.scope).label("token_scope"),
        col(Token.expires_at).label("token_expires_at"),
    )
    .join(Token, col(Token.user_id) == col(User.id))
    .where(HAS_DIGEST, col(Token.expires_at) > NOW)
)
# The handle of a session with JWT begins its refresh tokens; it is no access token itself.
OPAQUE_TOKEN_BY_DIGEST = NamedQuery(AUTHENTICATION.where(~IS_JWT_SESSION))
JWT_SESSION_BY_DIGEST = NamedQuery(AUTHENTICATION.where(IS_JWT_SESSION))
MAY_WRITE_POSTS = or_(col(User.is_author), col(User.is_admin)).label("may_write_posts")
TOKEN_STATUS = NamedQuery(
    select_columns(col(User.is_active), MAY_WRITE_POSTS)
    .join(Token)
    .where(col(Token.id) == bindparam("id", type_=Integer), col(Token.expires_at) > NOW)
)


def make_auth(row: dict[str, Any]) -> Auth:
    return Auth(
        token_id=row["token_id"],
        user=AuthenticatedUser(**{name: row[name] for name in USER_FIELDS}),
        scopes=effective_scopes(row["token_scope"], is_admin=row["is_admin"]),
        expires_at=row["token_expires_at"],
    )


async def authenticate(session: AsyncSession, signer: JWTSigner, secret: str) -> Auth:
    """Look up a token. Raises InvalidToken and InactiveUser."""
    if "." in secret:
        auth = await authenticate_jwt(session, signer, secret)
    else:
        values = {"digest": hash_token(secret)}
        found = await execute_query(session, OPAQUE_TOKEN_BY_DIGEST, values)
        if not found:
            raise InvalidToken
        auth = make_auth(found[0])
    if not auth.user.is_active:
        raise InactiveUser
    return auth


async def authenticate_jwt(session: AsyncSession, signer: JWTSigner, secret: str) -> Auth:
    """Verify a JWT and look up its session: a signature alone cannot be revoked."""
    try:
        claims = signer.verify(secret)
    except InvalidJWT:
        raise InvalidToken from None
    found = await execute_query(session, JWT_SESSION_BY_DIGEST, {"digest": claims.session_digest})
    if not found or found[0]["id"] != claims.user_id:
        raise InvalidToken
    auth = make_auth(found[0])
    expires_at = min(auth.expires_at, claims.expires_at)
    return replace(auth, scopes=auth.scopes & claims.scopes, expires_at=expires_at)


oauth2_scheme = OAuth2PasswordBearer(
    tokenUrl="token",
    refreshUrl="token",
    scopes={scope.value: text for scope, text in SCOPES.items()},
    scheme_name="OAuth2",
    description="The username is the email address. No client id is needed.",
    auto_error=False,
)


async def get_optional_auth(
    token: Annotated[str | None, Security(oauth2_scheme)],
    session: SessionDep,
    signer: SignerDep,
    request: Request,
) -> Auth | None:
    """Authenticate the request if it has a token. Raises InvalidToken and InactiveUser.

    FastAPI calls this once for each set of scopes; the response cache has looked up the token of a
    public read before.
    """
    if token is None:
        # All anonymous clients get the same response.
        mark_public(request)
        return None
    auth: Auth | None = getattr(request.state, "auth", None)
    if auth is None:
        auth = request.state.auth = await authenticate(session, signer, token)
        request.app.state.token_uses.record(auth.token_id)
    return auth


OptionalAuth = Annotated[Auth | None, Security(get_optional_auth)]


async def verify_token(_auth: OptionalAuth, request: Request) -> None:
    """Reject a bad token; the response is the same for all readers."""
    mark_shared(request)


SAME_FOR_ALL = Security(verify_token)


def get_reader_id(auth: Auth | None) -> int | None:
    """Return the id of a user who may read their own drafts, otherwise None."""
    return auth.user.id if auth and Scope.posts_read in auth.scopes else None


async def get_auth(auth: OptionalAuth, needed: SecurityScopes) -> Auth:
    """Require a token with all scopes. Raises NotAuthenticated and InsufficientScope."""
    if auth is None:
        raise NotAuthenticated
    if not auth.scopes.issuperset(needed.scopes):
        raise InsufficientScope(needed.scope_str)
    return auth


async def get_writer(auth: Annotated[Auth, Security(get_auth)], request: Request) -> Auth:
    """Require a verified address, if the settings do so. Raises EmailNotVerified."""
    settings: Settings = request.app.state.settings
    is_trusted = auth.user.is_admin or auth.user.email_verified_at is not None
    if settings.require_verified_email and not is_trusted:
        raise EmailNotVerified
    return auth


async def get_author(auth: Annotated[Auth, Security(get_writer)]) -> Auth:
    """Require an author or an administrator. Raises NotAnAuthor."""
    if not (auth.user.is_author or auth.user.is_admin):
        raise NotAnAuthor
    return auth


async def get_moderator(auth: OptionalAuth, request: Request) -> Auth:
    """Require the scope of administrators, or else that of users who write.

    Raises NotAuthenticated, InsufficientScope and EmailNotVerified.
    """
    if auth is not None and Scope.admin in auth.scopes:
        return auth
    return await get_writer(await get_auth(auth, SecurityScopes([Scope.posts_write])), request)


async def get_current_user(auth: OptionalAuth, needed: SecurityScopes) -> AuthenticatedUser:
    return (await get_auth(auth, needed)).user


RequiredAuth = Annotated[Auth, Security(get_auth)]
CanReadAccount = Annotated[Auth, Security(get_auth, scopes=[Scope.users_read])]
CurrentUser = Annotated[AuthenticatedUser, Security(get_current_user, scopes=[Scope.users_read])]
CanExport = Annotated[
    AuthenticatedUser, Security(get_current_user, scopes=[Scope.users_read, Scope.posts_read])
]
CanWriteAccount = Annotated[Auth, Security(get_auth, scopes=[Scope.users_write])]
CanReadDrafts = Annotated[AuthenticatedUser, Security(get_current_user, scopes=[Scope.posts_read])]
CanWrite = Annotated[Auth, Security(get_writer, scopes=[Scope.posts_write])]
CanWritePosts = Annotated[Auth, Security(get_author, scopes=[Scope.posts_write])]
# A token with `admin` or with `posts:write`.
Moderator = Annotated[Auth, Security(get_moderator)]
AdminAuth = Annotated[Auth, Security(get_auth, scopes=[Scope.admin])]
Admin = Annotated[AuthenticatedUser, Security(get_current_user, scopes=[Scope.admin])]


@asynccontextmanager
async def connection_released_for(session: AsyncSession, auth: Auth) -> AsyncIterator[None]:
    """Release the connection of an author or administrator as `connection_released()` does.

    Then check the token and the permission again. Raises InvalidToken, InactiveUser and
    NotAnAuthor. Dismissal revokes the tokens of an administrator.
    """
    async with connection_released(session):
        yield
    found = await execute_query(session, TOKEN_STATUS, {"id": auth.token_id})
    if not found:
        raise InvalidToken
    if not found[0]["is_active"]:
        raise InactiveUser
    if not found[0]["may_write_posts"]:
        raise NotAnAuthor


async def revoke_other_sessions(session: AsyncSession, auth: Auth) -> None:
    """Revoke all tokens of the user but the one of this request."""
    await session.exec(
        delete(Token).where(col(Token.user_id) == auth.user.id, col(Token.id) != auth.token_id)
    )


async def lock_authenticated_user(
    session: AsyncSession, auth: Auth, verified_hash: str | None = None
) -> User:
    """Lock and return the user, and check again what was read before the lock.

    Raises InvalidToken if the token was revoked meanwhile, InactiveUser, and Conflict if
    `verified_hash`, which the password was verified against, is no longer the user's. Revoking all
    tokens of a user takes this lock too, so that no token outlives it.
    """
    locked = select(User).where(col(User.id) == auth.user.id).with_for_update()
    await session.exec(locked.execution_options(populate_existing=True))
    # A second statement sees what was committed while the first waited for the lock.
    query = select(User).join(Token).where(col(Token.id) == auth.token_id)
    user = (await session.exec(query)).first()
    if user is None:
        raise InvalidToken
    if not user.is_active:
        raise InactiveUser
    if verified_hash not in (None, user.password_hash):
        raise Conflict
    return user


async def verify_password(
    session: AsyncSession, throttle: LoginThrottle, user: AuthenticatedUser, password: SecretStr
) -> str:
    """Verify the user's password with the connection released; return the verified hash.

    Raises TooManyRequests and IncorrectPassword.
    """
    if user.password_hash is None or user.email is None:
        # An imported author without a password.
        raise IncorrectPassword
    async with connection_released(session):
        is_right, _ = await throttle.verify_password(
            password.get_secret_value(),
            user.password_hash,
            account=mailbox_key(user.email),
            has_token=True,
        )
    if not is_right:
        raise IncorrectPassword
    return user.password_hash


async def confirm_password(
    session: AsyncSession, throttle: LoginThrottle, auth: Auth, password: SecretStr
) -> User:
    """Verify the user's password, then lock and return the user."""
    verified_hash = await verify_password(session, throttle, auth.user, password)
    return await lock_authenticated_user(session, auth, verified_hash)
