"""Sign up, log in and log out with opaque tokens: `/sign-up` and `/auth`."""

from typing import Annotated

from fastapi import APIRouter, Form, Response
from pydantic import AfterValidator, SecretStr
from sqlalchemy import delete
from sqlmodel import Field, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.addresses import find_by_email, mailbox_key
from blog_api.accounts.auth import RequiredAuth
from blog_api.accounts.bans import BansDep
from blog_api.accounts.errors import (
    AUTH_PROBLEMS,
    SIGN_UP_PROBLEMS,
    InactiveUser,
    IncorrectLogIn,
    InvalidScope,
    RepeatedParameter,
)
from blog_api.accounts.forms import UNIQUE_PARAMETERS, FormRoute
from blog_api.accounts.idempotency import NO_KEY, IdempotencyKeyNotSupported
from blog_api.accounts.mailer import MailerDep
from blog_api.accounts.models import SignUp, SignUpRead, Token, TokenRead, User
from blog_api.accounts.rate_limits import LoginThrottle, LoginThrottleDep
from blog_api.accounts.scopes import DEFAULT_SCOPES, allowed_scopes, resolve_scopes
from blog_api.accounts.service import (
    SIGN_UP_IS_OPEN,
    build_session,
    delete_expired_tokens,
    insert_user,
)
from blog_api.core.characters import IDENTIFIER_PATTERN
from blog_api.core.errors import (
    BODY_PROBLEMS,
    ServiceUnavailable,
    TooManyRequests,
    problem_responses,
)
from blog_api.core.fields import (
    MAX_EMAIL_LENGTH,
    MAX_SMALL_BODY_BYTES,
    Password,
    RequestModel,
    SchemaDefaults,
    check_identifier,
)
from blog_api.core.security import generate_token
from blog_api.db.session import SessionDep, connection_released
from blog_api.web.clients import Client, ClientDep

router = APIRouter(
    tags=["tokens"],
    responses=problem_responses(ServiceUnavailable),
    max_body_size=MAX_SMALL_BODY_BYTES,
    route_class=FormRoute,
)

Username = Annotated[
    str,
    Field(max_length=MAX_EMAIL_LENGTH),
    SchemaDefaults("Email address.", "ann@example.com", pattern=IDENTIFIER_PATTERN),
    AfterValidator(check_identifier),
]

ScopeText = Annotated[
    str,
    Field(max_length=200),
    SchemaDefaults(
        "Scopes separated by spaces. Default: all except `admin`.", "posts:read posts:write"
    ),
]


class LogIn(RequestModel):
    """The log-in form. Unknown fields are ignored, repeated ones rejected."""

    username: Username
    password: Password
    scope: ScopeText = ""


async def authenticate_by_password(
    session: AsyncSession, throttle: LoginThrottle, username: str, password: SecretStr
) -> User | None:
    """Return the user with this email address and password, locked, or None.

    Takes as long if the user does not exist. Raises TooManyRequests.
    """
    # Twice: another log-in may replace an outdated hash while this one is verified.
    for _ in range(2):
        user = await find_by_email(session, username)
        password_hash = user.password_hash if user else None
        async with connection_released(session):
            is_right, new_hash = await throttle.verify_password(
                password.get_secret_value(), password_hash, account=mailbox_key(username)
            )
        if user is None or not is_right:
            return None
        # The account may have been deleted, or its address or password changed meanwhile.
        again = (
            select(User)
            .where(
                col(User.id) == user.id,
                col(User.email) == user.email,
                col(User.password_hash) == password_hash,
            )
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        user = (await session.exec(again)).first()
        if user is not None:
            user.password_hash = new_hash or user.password_hash
            return user
    return None


async def issue_token(
    session: AsyncSession, user: User, scopes: frozenset[str], client: Client
) -> TokenRead:
    """Create an opaque token and delete the expired ones."""
    await delete_expired_tokens(session, user)
    secret = generate_token()
    token = build_session(user, secret, scopes, client)
    session.add(token)
    return TokenRead(access_token=secret, expires=token.expires_at, token_type="bearer")


@router.post(
    "/sign-up",
    response_model=SignUpRead,
    responses=problem_responses(*SIGN_UP_PROBLEMS, IdempotencyKeyNotSupported),
    dependencies=[SIGN_UP_IS_OPEN, NO_KEY],
)
async def sign_up(
    new: SignUp,
    session: SessionDep,
    throttle: LoginThrottleDep,
    mailer: MailerDep,
    bans: BansDep,
    client: ClientDep,
    response: Response,
) -> SignUpRead:
    """Create an account and a session."""
    response.headers["Cache-Control"] = "no-store"
    user = await insert_user(session, throttle, mailer, bans, new)
    token = await issue_token(session, user, DEFAULT_SCOPES, client)
    return SignUpRead.model_validate(user, update={"token": token})


@router.post(
    "/auth",
    response_model=TokenRead,
    responses=problem_responses(
        *BODY_PROBLEMS,
        IdempotencyKeyNotSupported,
        IncorrectLogIn,
        InactiveUser,
        InvalidScope,
        RepeatedParameter,
        TooManyRequests,
    ),
    dependencies=[NO_KEY, UNIQUE_PARAMETERS],
)
async def log_in(
    form: Annotated[LogIn, Form()],
    session: SessionDep,
    throttle: LoginThrottleDep,
    client: ClientDep,
    response: Response,
) -> TokenRead:
    """Create a session. Its opaque token expires in two weeks."""
    response.headers["Cache-Control"] = "no-store"
    user = await authenticate_by_password(session, throttle, form.username, form.password)
    if user is None:
        raise IncorrectLogIn
    if not user.is_active:
        raise InactiveUser
    scopes = resolve_scopes(form.scope, allowed_scopes(is_admin=user.is_admin))
    return await issue_token(session, user, scopes, client)


@router.delete("/auth", status_code=204, responses=problem_responses(*AUTH_PROBLEMS))
async def log_out(auth: RequiredAuth, session: SessionDep) -> None:
    """Revoke the token of this request; with a JWT, its session and all tokens of it."""
    await session.exec(delete(Token).where(col(Token.id) == auth.token_id))
