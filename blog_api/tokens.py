"""Tokens: how a user proves who they are."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form, Response, Security
from fastapi.security import OAuth2PasswordBearer
from pydantic import AfterValidator
from sqlalchemy import delete
from sqlmodel import Field, Relationship, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.database import Row, SessionDep, released
from blog_api.errors import (
    BODY_PROBLEMS,
    BadRequest,
    ServiceUnavailable,
    Unauthorized,
    raises,
)
from blog_api.fields import (
    EMAIL_LENGTH,
    SMALL_BODY_BYTES,
    Input,
    Name,
    Password,
    check_identifier,
    email_key,
    utc_now,
)
from blog_api.security import digest, new_token
from blog_api.users import EmailTaken, PasswordsDep, User, UserCreate, UserRead, insert_user

TOKEN_LIFE = timedelta(weeks=2)

router = APIRouter(
    tags=["tokens"], responses=raises(ServiceUnavailable), max_body_size=SMALL_BODY_BYTES
)


class Token(Row, table=True):
    """Proof of a log-in. The secret itself is with the client alone."""

    __tablename__ = "tokens"

    user_id: int = Field(foreign_key="users.id", ondelete="CASCADE", index=True)
    digest: str = Field(max_length=64, unique=True)
    expires_at: datetime = Field(default_factory=lambda: utc_now() + TOKEN_LIFE)
    user: User = Relationship(sa_relationship_kwargs={"lazy": "joined", "innerjoin": True})


class TokenRead(SQLModel):
    """A new token. It is shown this once."""

    access_token: str
    expires: datetime
    token_type: Literal["bearer"] = "bearer"


class SignUp(UserCreate):
    name: Name


class SignUpRead(UserRead):
    """A new account, and a token for it."""

    token: TokenRead


class LogIn(Input):
    """The form of RFC 6749, 4.3.2. What else it may hold is ignored (3.2)."""

    username: Annotated[
        str,
        Field(max_length=EMAIL_LENGTH, description="The email address"),
        AfterValidator(check_identifier),
    ]
    password: Password


class NotAuthenticated(Unauthorized):
    detail = "Not authenticated"


class InvalidToken(Unauthorized):
    detail = "Invalid authentication credentials"


class InactiveUser(BadRequest):
    detail = "Inactive user"


class IncorrectLogIn(BadRequest):
    detail = "Incorrect email or password"


# What every route can answer that knows who is asking, and what those add that must know.
READER_PROBLEMS = (InvalidToken, InactiveUser)
USER_PROBLEMS = (NotAuthenticated, *READER_PROBLEMS)

bearer = OAuth2PasswordBearer(tokenUrl="auth", auto_error=False)


async def get_token(
    session: SessionDep, secret: Annotated[str | None, Security(bearer)]
) -> Token | None:
    """The token that was presented, with its user; None if none was."""
    if secret is None:
        return None
    query = select(Token).where(
        col(Token.digest) == digest(secret), col(Token.expires_at) > utc_now()
    )
    token = (await session.exec(query)).first()
    if token is None:
        raise InvalidToken
    if not token.user.is_active:
        raise InactiveUser
    return token


PresentedToken = Annotated[Token | None, Depends(get_token)]


async def get_reader(token: PresentedToken) -> User | None:
    return token.user if token else None


async def get_current_token(token: PresentedToken) -> Token:
    if token is None:
        raise NotAuthenticated
    return token


CurrentToken = Annotated[Token, Depends(get_current_token)]


async def get_current_user(token: CurrentToken) -> User:
    return token.user


# Who is asking: anybody, or somebody who is logged in.
Reader = Annotated[User | None, Security(get_reader)]
CurrentUser = Annotated[User, Security(get_current_user)]


async def issue_token(session: AsyncSession, user: User) -> TokenRead:
    """A new token for a user, in place of those that have expired."""
    await session.exec(
        delete(Token).where(col(Token.user_id) == user.id, col(Token.expires_at) <= utc_now())
    )
    secret = new_token()
    token = Token(user_id=user.id, digest=digest(secret))
    session.add(token)
    return TokenRead(access_token=secret, expires=token.expires_at)


@router.post("/sign-up", response_model=SignUpRead, responses=raises(*BODY_PROBLEMS, EmailTaken))
async def sign_up(
    new: SignUp, session: SessionDep, passwords: PasswordsDep, response: Response
) -> SignUpRead:
    """Open an account and log in to it."""
    response.headers["Cache-Control"] = "no-store"
    user = await insert_user(session, passwords, new)
    token = await issue_token(session, user)
    return SignUpRead.model_validate(user, update={"token": token})


@router.post(
    "/auth",
    response_model=TokenRead,
    responses=raises(*BODY_PROBLEMS, IncorrectLogIn, InactiveUser),
)
async def log_in(
    form: Annotated[LogIn, Form()],
    session: SessionDep,
    passwords: PasswordsDep,
    response: Response,
) -> TokenRead:
    """Get a token for an email address and its password. It is good for two weeks."""
    response.headers["Cache-Control"] = "no-store"
    found = select(User).where(col(User.email_key) == email_key(form.username))
    user = (await session.exec(found)).first()
    password_hash = user.password_hash if user else None
    async with released(session):
        is_right, new_hash = await passwords.verify(form.password.get_secret_value(), password_hash)
    if user is None or not is_right:
        raise IncorrectLogIn
    # The account may have been left, closed, or given another password meanwhile.
    again = found.where(col(User.password_hash) == password_hash).with_for_update()
    user = (await session.exec(again.execution_options(populate_existing=True))).first()
    if user is None:
        raise IncorrectLogIn
    if not user.is_active:
        raise InactiveUser
    if new_hash:
        user.password_hash = new_hash
    return await issue_token(session, user)


@router.delete("/auth", status_code=204, responses=raises(*USER_PROBLEMS))
async def log_out(token: CurrentToken, session: SessionDep) -> None:
    """Revoke the token that is presented."""
    await session.exec(delete(Token).where(col(Token.id) == token.id))
