"""Personal tokens for scripts and apps: `/users/me/tokens`."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.accounts.auth import (
    UNEXPIRED_TOKENS,
    AuthenticatedUser,
    CanWriteAccount,
    CurrentUser,
    confirm_password,
    lock_authenticated_user,
    revoke_other_sessions,
)
from blog_api.accounts.errors import (
    MAX_PERSONAL_TOKENS,
    PASSWORD_PROBLEMS,
    SCOPE_PROBLEMS,
    InsufficientScope,
    TokenNotFound,
    TooManyTokens,
)
from blog_api.accounts.idempotency import NO_KEY, IdempotencyKeyNotSupported
from blog_api.accounts.mailer import MailerDep
from blog_api.accounts.models import (
    NewPersonalTokenRead,
    PersonalTokenCreate,
    PersonalTokenPage,
    Token,
)
from blog_api.accounts.rate_limits import LoginThrottleDep
from blog_api.accounts.scopes import DEFAULT_SCOPES, allowed_scopes, join_scopes
from blog_api.accounts.service import build_token, delete_expired_tokens
from blog_api.accounts.write_limits import limit_tokens
from blog_api.core.errors import (
    BODY_PROBLEMS,
    Conflict,
    FieldError,
    ServiceUnavailable,
    ValidationFailed,
    problem_responses,
)
from blog_api.core.fields import MAX_SMALL_BODY_BYTES, PathId, utc_now
from blog_api.core.security import generate_token
from blog_api.db.list_query import ListQuery, Sort
from blog_api.db.session import SessionDep
from blog_api.mail.models import MailKind
from blog_api.web.pagination import Page, PageParams, PaginatorDep

MAX_LIFETIME = timedelta(days=366)

DEFAULT_LIFETIME = timedelta(days=90)

router = APIRouter(
    prefix="/users/me/tokens",
    tags=["personal tokens"],
    responses=problem_responses(ServiceUnavailable),
    max_body_size=MAX_SMALL_BODY_BYTES,
)

NEWEST_FIRST = Sort("-id", (col(Token.id),), is_descending=True)


def personal_tokens_of(user: AuthenticatedUser) -> SelectOfScalar[Token]:
    """Select the unexpired personal tokens of a user."""
    return UNEXPIRED_TOKENS.where(col(Token.user_id) == user.id, col(Token.name).is_not(None))


async def get_personal_token(token_id: PathId, auth: CanWriteAccount, session: SessionDep) -> Token:
    query = personal_tokens_of(auth.user).where(col(Token.id) == token_id)
    token = (await session.exec(query)).first()
    if token is None:
        raise TokenNotFound
    return token


TokenFromPath = Annotated[Token, Depends(get_personal_token)]


def make_expiry_error(message: str) -> ValidationFailed:
    error = FieldError(loc=["body", "expires_at"], type="expiry_refused", msg=message)
    return ValidationFailed([error])


@router.get(
    "",
    response_model=PersonalTokenPage,
    responses=problem_responses(*SCOPE_PROBLEMS, ValidationFailed),
)
async def list_personal_tokens(
    user: CurrentUser, params: PageParams, paginator: PaginatorDep
) -> Page[Token]:
    """List the user's personal tokens without their secrets, newest first."""
    return await paginator.paginate(ListQuery(personal_tokens_of(user)), params, NEWEST_FIRST)


@router.post(
    "",
    status_code=201,
    response_model=NewPersonalTokenRead,
    responses=problem_responses(
        *BODY_PROBLEMS, *PASSWORD_PROBLEMS, IdempotencyKeyNotSupported, TooManyTokens
    ),
    dependencies=[Depends(limit_tokens), NO_KEY],
)
async def create_personal_token(
    new: PersonalTokenCreate,
    auth: CanWriteAccount,
    session: SessionDep,
    throttle: LoginThrottleDep,
    mailer: MailerDep,
    response: Response,
) -> NewPersonalTokenRead:
    """Create a personal token.

    Without `current_password` it has at most the scopes and the lifetime of the token of this
    request.
    """
    response.headers["Cache-Control"] = "no-store"
    allowed, latest = auth.scopes, auth.expires_at
    expires_at = new.expires_at or auth.expires_at
    if new.current_password is not None:
        user = await confirm_password(session, throttle, auth, new.current_password)
        allowed, latest = allowed_scopes(is_admin=user.is_admin), utc_now() + MAX_LIFETIME
        expires_at = new.expires_at or utc_now() + DEFAULT_LIFETIME
    else:
        user = await lock_authenticated_user(session, auth)
    scopes = frozenset(new.scopes or auth.scopes & DEFAULT_SCOPES)
    if not scopes <= allowed:
        raise InsufficientScope(join_scopes(scopes - allowed))
    if expires_at <= utc_now():
        raise make_expiry_error("This is in the past")
    if expires_at > latest:
        raise make_expiry_error(
            "A token lives a year at most, and no longer than the one presented unless "
            "current_password is sent"
        )
    await delete_expired_tokens(session, user)
    # Exact, since the user is locked.
    existing = select(func.count()).select_from(personal_tokens_of(auth.user).subquery())
    if (await session.exec(existing)).one() >= MAX_PERSONAL_TOKENS:
        raise TooManyTokens
    secret = generate_token()
    token = build_token(user, secret, scopes, expires_at, name=new.name)
    session.add(token)
    mailer.notify(MailKind.token_created, user)
    await session.flush()
    return NewPersonalTokenRead.model_validate(
        token, update={"access_token": secret, "token_type": "bearer"}
    )


@router.delete("", status_code=204, responses=problem_responses(*SCOPE_PROBLEMS, TokenNotFound))
async def revoke_other_tokens(auth: CanWriteAccount, session: SessionDep, request: Request) -> None:
    """Revoke all sessions and personal tokens except the token of this request."""
    if request.state.slash_at_end:
        # `/users/me/tokens/` is most likely a single token whose id is missing.
        raise TokenNotFound
    await lock_authenticated_user(session, auth)
    await revoke_other_sessions(session, auth)


@router.delete(
    "/{token_id:int}",
    status_code=204,
    responses=problem_responses(*SCOPE_PROBLEMS, TokenNotFound, Conflict, ValidationFailed),
)
async def revoke_personal_token(token: TokenFromPath, session: SessionDep) -> None:
    """Revoke a personal token."""
    await session.delete(token)
