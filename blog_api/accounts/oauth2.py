"""OAuth2: `/token`, with the password grant and refresh tokens (RFC 6749)."""

from datetime import timedelta
from hmac import compare_digest
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Response
from sqlmodel import Field, SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.auth import LOG_IN, SignerDep
from blog_api.accounts.errors import (
    InactiveUser,
    IncorrectCredentials,
    InvalidGrant,
    InvalidGrantRequest,
    InvalidScope,
    UnsupportedGrantType,
)
from blog_api.accounts.jwt import Claims, Signer
from blog_api.accounts.login import ScopeText, Username, find_user_by_password
from blog_api.accounts.models import TOKEN_LIFE, Token
from blog_api.accounts.rate_limits import Guard, GuardDep
from blog_api.accounts.scopes import allowed_scopes, join_scopes, resolve_scopes
from blog_api.accounts.service import delete_expired_tokens, make_token
from blog_api.core.errors import (
    BODY_PROBLEMS,
    ServiceUnavailable,
    TooManyRequests,
    raises,
)
from blog_api.core.fields import SMALL_BODY_BYTES, Input, Password, shown_as, utc_now
from blog_api.core.security import digest, new_token
from blog_api.db.session import SessionDep

JWT_LIFE = timedelta(minutes=30)


router = APIRouter(
    tags=["tokens"], responses=raises(ServiceUnavailable), max_body_size=SMALL_BODY_BYTES
)


class Grant(Input):
    """The form of RFC 6749, 4.3.2 and 6. What else it may hold is ignored (3.2)."""

    # All optional: what is missing is told in OAuth2's own words.
    grant_type: str = Field(
        default="",
        max_length=100,
        description="`password` or `refresh_token`.",
        schema_extra=shown_as("password"),
    )
    username: Username | None = None
    password: Password | None = None
    refresh_token: str | None = Field(
        default=None, max_length=200, schema_extra=shown_as("with grant_type refresh_token")
    )
    scope: ScopeText = ""


class GrantRead(SQLModel):
    """RFC 6749, 5.1. The access token is a JWT; a refresh token is good for one use."""

    access_token: str
    token_type: Literal["bearer"]
    expires_in: int = Field(description="Seconds.")
    refresh_token: str
    scope: str


def issue_jwt(signer: Signer, token: Token, handle: str, scopes: frozenset[str]) -> GrantRead:
    """A JWT, and the next refresh token of its log-in. What was the last one is spent."""
    refresh_token = f"{handle}.{new_token()}"
    token.refresh_digest = digest(refresh_token)
    now = utc_now()
    expires_at = min(now + JWT_LIFE, token.expires_at)
    # By the digest: who finds an old JWT cannot pretend to have a refresh token.
    claims = Claims(token.user_id, token.digest, scopes, expires_at)
    return GrantRead(
        access_token=signer.sign(claims),
        token_type="bearer",
        expires_in=round((expires_at - now).total_seconds()),
        refresh_token=refresh_token,
        scope=join_scopes(scopes),
    )


async def grant_by_password(
    session: AsyncSession, guard: Guard, signer: Signer, form: Grant
) -> GrantRead:
    if form.username is None or form.password is None:
        raise InvalidGrantRequest
    user = await find_user_by_password(session, guard, form.username, form.password)
    if user is None:
        raise IncorrectCredentials
    if not user.is_active:
        raise InvalidGrant(InactiveUser.detail)
    scopes = resolve_scopes(form.scope, allowed_scopes(is_admin=user.is_admin))
    await delete_expired_tokens(session, user)
    handle = new_token()
    token = make_token(user, handle, scopes, utc_now() + TOKEN_LIFE)
    session.add(token)
    return issue_jwt(signer, token, handle, scopes)


async def grant_by_refresh(session: AsyncSession, signer: Signer, form: Grant) -> GrantRead:
    """RFC 6749, 6, and RFC 9700, 4.14.2: a token that was used before revokes its log-in."""
    if form.refresh_token is None:
        raise InvalidGrantRequest
    handle = form.refresh_token.partition(".")[0]
    locked = LOG_IN.with_for_update(of=Token)
    token = (await session.exec(locked, params={"digest": digest(handle)})).first()
    if token is None:
        raise InvalidGrant
    if not compare_digest(token.refresh_digest or "", digest(form.refresh_token)):
        await session.delete(token)
        # Or the refusal would roll it back.
        await session.commit()
        raise InvalidGrant
    if not token.user.is_active:
        raise InvalidGrant(InactiveUser.detail)
    scopes = resolve_scopes(form.scope, token.scopes) if form.scope.split() else token.scopes
    return issue_jwt(signer, token, handle, scopes)


@router.post(
    "/token",
    response_model=GrantRead,
    responses=raises(
        *BODY_PROBLEMS,
        IncorrectCredentials,
        InvalidGrant,
        InvalidGrantRequest,
        InvalidScope,
        TooManyRequests,
        UnsupportedGrantType,
    ),
)
async def grant_token(
    form: Annotated[Grant, Form()],
    session: SessionDep,
    guard: GuardDep,
    signer: SignerDep,
    response: Response,
) -> GrantRead:
    """Get a JWT by OAuth2's password grant, or the next one by a refresh token."""
    response.headers["Cache-Control"] = "no-store"
    match form.grant_type:
        case "password":
            return await grant_by_password(session, guard, signer, form)
        case "refresh_token":
            return await grant_by_refresh(session, signer, form)
        case "":
            raise InvalidGrantRequest
        case _:
            raise UnsupportedGrantType
