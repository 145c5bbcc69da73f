"""One's own account: `/users/me`."""

from fastapi import APIRouter
from pydantic import SecretStr
from sqlalchemy import delete
from sqlmodel import Field, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.database import SessionDep, flush, released
from blog_api.errors import (
    BODY_PROBLEMS,
    BadRequest,
    ServiceUnavailable,
    ValidationFailed,
    field_missing,
    raises,
)
from blog_api.fields import SMALL_BODY_BYTES, Body, Email, Name, NewPassword, Password, email_key
from blog_api.security import Passwords
from blog_api.tokens import USER_PROBLEMS, CurrentToken, CurrentUser, InvalidToken, Token
from blog_api.users import EmailTaken, PasswordsDep, User, UserRead, hash_choice

router = APIRouter(
    tags=["me"], responses=raises(ServiceUnavailable), max_body_size=SMALL_BODY_BYTES
)


class UserUpdate(Body):
    # Only what is sent is used; a factory keeps the default out of OpenAPI, where generated
    # clients would find and send it.
    name: Name = Field(default_factory=str)
    email: Email = Field(default_factory=str)
    current_password: Password | None = Field(
        default=None, description="Needed where the email address changes."
    )


class PasswordUpdate(Body):
    current_password: Password
    new_password: NewPassword


class Leave(Body):
    current_password: Password


class IncorrectPassword(BadRequest):
    detail = "Incorrect password"


CONFIRMED_PROBLEMS = (*BODY_PROBLEMS, *USER_PROBLEMS, IncorrectPassword)


async def confirm_password(
    session: AsyncSession, passwords: Passwords, token: Token, password: SecretStr
) -> User:
    """The token's user, locked until the request ends, if this is the password.

    Raises IncorrectPassword, and InvalidToken where the password changed or the token was
    revoked while this one was verified.
    """
    password_hash = token.user.password_hash
    async with released(session):
        is_right, _ = await passwords.verify(password.get_secret_value(), password_hash)
    if not is_right:
        raise IncorrectPassword
    again = (
        select(User)
        .join(Token)
        .where(col(Token.id) == token.id, col(User.password_hash) == password_hash)
        .with_for_update(of=User)
        .execution_options(populate_existing=True)
    )
    user = (await session.exec(again)).first()
    if user is None:
        raise InvalidToken
    return user


@router.get("/users/me", response_model=UserRead, responses=raises(*USER_PROBLEMS))
async def read_me(user: CurrentUser) -> User:
    """Show the account of the user who asks."""
    return user


@router.patch(
    "/users/me", response_model=UserRead, responses=raises(*CONFIRMED_PROBLEMS, EmailTaken)
)
async def update_me(
    changes: UserUpdate, token: CurrentToken, session: SessionDep, passwords: PasswordsDep
) -> User:
    """Change the name, or, with the current password, the email address."""
    user = token.user
    values = changes.model_dump(exclude_unset=True, exclude={"current_password"})
    if "email" in values:
        if changes.current_password is None:
            raise ValidationFailed([field_missing("body", "current_password")])
        user = await confirm_password(session, passwords, token, changes.current_password)
        user.email_key = email_key(changes.email)
    user.sqlmodel_update(values)
    await flush(session, or_raise=EmailTaken)
    return user


@router.put("/users/me/password", status_code=204, responses=raises(*CONFIRMED_PROBLEMS))
async def change_password(
    change: PasswordUpdate, token: CurrentToken, session: SessionDep, passwords: PasswordsDep
) -> None:
    """Choose another password. All tokens but the one presented are revoked."""
    new_hash = await hash_choice(session, passwords, change.new_password, field="new_password")
    user = await confirm_password(session, passwords, token, change.current_password)
    user.password_hash = new_hash
    others = delete(Token).where(col(Token.user_id) == user.id, col(Token.id) != token.id)
    await session.exec(others)


@router.delete("/users/me", status_code=204, responses=raises(*CONFIRMED_PROBLEMS))
async def leave(
    confirmation: Leave, token: CurrentToken, session: SessionDep, passwords: PasswordsDep
) -> None:
    """Close the account. Its posts go with it."""
    user = await confirm_password(session, passwords, token, confirmation.current_password)
    await session.exec(delete(User).where(col(User.id) == user.id))
