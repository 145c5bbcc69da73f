"""OAuth2 password and refresh token grants: `/token` (RFC 6749)."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Response
from sqlmodel import Field
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.auth import JWT_SESSION, SignerDep
from blog_api.accounts.errors import (
    InactiveUser,
    IncorrectCredentials,
    InvalidGrant,
    InvalidGrantRequest,
    InvalidScope,
    RepeatedParameter,
    UnsupportedGrantType,
)
from blog_api.accounts.forms import UNIQUE_PARAMETERS, FormRoute
from blog_api.accounts.idempotency import NO_KEY, IdempotencyKeyNotSupported
from blog_api.accounts.jwt import Claims, JWTSigner
from blog_api.accounts.login import ScopeText, Username, authenticate_by_password
from blog_api.accounts.models import Token
from blog_api.accounts.rate_limits import LoginThrottle, LoginThrottleDep
from blog_api.accounts.refresh_tokens import RefreshTokens, RefreshTokensDep
from blog_api.accounts.scopes import allowed_scopes, join_scopes, resolve_scopes
from blog_api.accounts.service import build_session, delete_expired_tokens
from blog_api.core.errors import (
    BODY_PROBLEMS,
    ServiceUnavailable,
    TooManyRequests,
    problem_responses,
)
from blog_api.core.fields import (
    MAX_SMALL_BODY_BYTES,
    Password,
    RequestModel,
    ResponseModel,
    schema_example,
    utc_now,
)
from blog_api.core.security import generate_token, hash_token
from blog_api.db.session import SessionDep, commit_and_release
from blog_api.web.clients import Client, ClientDep

JWT_LIFETIME = timedelta(minutes=30)

router = APIRouter(
    tags=["tokens"],
    responses=problem_responses(ServiceUnavailable),
    max_body_size=MAX_SMALL_BODY_BYTES,
    route_class=FormRoute,
)


class Grant(RequestModel):
    """The form of RFC 6749, 4.3.2 and 6. Unknown fields are ignored (3.2)."""

    # All optional: a missing field is an error of OAuth2, not a 422.
    grant_type: str = Field(
        default="",
        max_length=100,
        description="`password` or `refresh_token`.",
        schema_extra=schema_example("password"),
    )
    username: Username | None = Field(default=None, description="With `grant_type=password`.")
    password: Password | None = Field(default=None, description="With `grant_type=password`.")
    refresh_token: str | None = Field(
        default=None,
        max_length=200,
        description="With `grant_type=refresh_token`.",
        schema_extra=schema_example("with grant_type refresh_token"),
    )
    scope: ScopeText = ""


class GrantRead(ResponseModel):
    """Tokens (RFC 6749, 5.1). The access token is a JWT; the refresh token can be used once."""

    access_token: str
    """The JWT, to send as `Authorization: Bearer`."""
    token_type: Literal["bearer"]
    """Always `bearer`."""
    expires_in: int
    """Lifetime of the access token in seconds."""
    refresh_token: str
    """The next refresh token."""
    scope: str
    """Granted scopes separated by spaces."""


def issue_jwt(
    signer: JWTSigner, token: Token, refresh_token: str, scopes: frozenset[str]
) -> GrantRead:
    """Issue a JWT, with the refresh token of its session."""
    now = utc_now()
    expires_at = min(now + JWT_LIFETIME, token.expires_at)
    # The JWT carries the digest: the handle itself would begin a refresh token.
    claims = Claims(token.user_id, token.digest, scopes, expires_at)
    return GrantRead(
        access_token=signer.sign(claims),
        token_type="bearer",
        expires_in=round((expires_at - now).total_seconds()),
        refresh_token=refresh_token,
        scope=join_scopes(scopes),
    )


async def grant_by_password(
    session: AsyncSession,
    throttle: LoginThrottle,
    signer: JWTSigner,
    refresh_tokens: RefreshTokens,
    client: Client,
    form: Grant,
) -> GrantRead:
    if form.username is None or form.password is None:
        raise InvalidGrantRequest
    user = await authenticate_by_password(session, throttle, form.username, form.password)
    if user is None:
        raise IncorrectCredentials
    if not user.is_active:
        raise InvalidGrant(InactiveUser.detail)
    scopes = resolve_scopes(form.scope, allowed_scopes(is_admin=user.is_admin))
    await delete_expired_tokens(session, user)
    handle = generate_token()
    token = build_session(user, handle, scopes, client)
    session.add(token)
    return issue_jwt(signer, token, refresh_tokens.issue(token, handle), scopes)


async def grant_by_refresh(
    session: AsyncSession, signer: JWTSigner, refresh_tokens: RefreshTokens, form: Grant
) -> GrantRead:
    """Rotate a refresh token (RFC 6749, 6)."""
    if form.refresh_token is None:
        raise InvalidGrantRequest
    handle = form.refresh_token.partition(".")[0]
    locked = JWT_SESSION.with_for_update(of=Token)
    token = (await session.exec(locked, params={"digest": hash_token(handle)})).first()
    if token is None:
        raise InvalidGrant
    refresh_token = refresh_tokens.rotate(token, handle, form.refresh_token)
    if refresh_token is None:
        await session.delete(token)
        # Raising would roll it back.
        await commit_and_release(session)
        raise InvalidGrant
    if not token.user.is_active:
        raise InvalidGrant(InactiveUser.detail)
    scopes = resolve_scopes(form.scope, token.scopes) if form.scope.strip(" ") else token.scopes
    return issue_jwt(signer, token, refresh_token, scopes)


@router.post(
    "/token",
    response_model=GrantRead,
    responses=problem_responses(
        *BODY_PROBLEMS,
        IdempotencyKeyNotSupported,
        IncorrectCredentials,
        InvalidGrant,
        InvalidGrantRequest,
        InvalidScope,
        RepeatedParameter,
        TooManyRequests,
        UnsupportedGrantType,
    ),
    dependencies=[NO_KEY, UNIQUE_PARAMETERS],
)
async def grant_token(
    form: Annotated[Grant, Form()],
    session: SessionDep,
    throttle: LoginThrottleDep,
    signer: SignerDep,
    refresh_tokens: RefreshTokensDep,
    client: ClientDep,
    response: Response,
) -> GrantRead:
    """Issue a JWT by the password grant or by a refresh token."""
    response.headers["Cache-Control"] = "no-store"
    match form.grant_type:
        case "password":
            return await grant_by_password(session, throttle, signer, refresh_tokens, client, form)
        case "refresh_token":
            return await grant_by_refresh(session, signer, refresh_tokens, form)
        case "":
            raise InvalidGrantRequest
        case _:
            raise UnsupportedGrantType
