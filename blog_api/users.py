"""Users: who writes here."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import SecretStr
from sqlmodel import Field, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.database import Row, RowRead, SessionDep, insert, released
from blog_api.errors import (
    BODY_PROBLEMS,
    BadRequest,
    FieldError,
    NotFound,
    ServiceUnavailable,
    ValidationFailed,
    raises,
)
from blog_api.fields import (
    EMAIL_LENGTH,
    SMALL_BODY_BYTES,
    Body,
    Email,
    Name,
    NewPassword,
    PathId,
    email_key,
)
from blog_api.paging import Slicing
from blog_api.security import PasswordRefused, Passwords

router = APIRouter(
    tags=["users"], responses=raises(ServiceUnavailable), max_body_size=SMALL_BODY_BYTES
)
# Apart, since `main.py` adds what `tokens.py` knows: a bad token is refused here too.
profiles = APIRouter(tags=["users"], responses=raises(ServiceUnavailable))


class UserBase(SQLModel):
    email: Email
    name: Name


class UserCreate(Body, UserBase):
    # An address is nobody's business: a name is never made from it.
    name: Name = "Anonymous"
    password: NewPassword


class User(UserBase, Row, table=True):
    __tablename__ = "users"

    email_key: str = Field(max_length=EMAIL_LENGTH, unique=True)
    password_hash: str = Field(max_length=255)
    is_active: bool = True
    is_admin: bool = False


class UserRead(UserBase, RowRead):
    """An account, as its owner sees it."""

    is_active: bool
    is_admin: bool


class ProfileRead(SQLModel):
    """A user, as everybody sees them."""

    id: int
    name: str
    created_at: datetime


class EmailTaken(BadRequest):
    detail = "Email already registered"


class UserNotFound(NotFound):
    detail = "User not found"


async def get_passwords(request: Request) -> Passwords:
    passwords: Passwords = request.app.state.passwords
    return passwords


PasswordsDep = Annotated[Passwords, Depends(get_passwords)]


async def hash_choice(
    session: AsyncSession, passwords: Passwords, password: SecretStr, *, field: str
) -> str:
    """The hash of a password that somebody chose in `field`; raises ValidationFailed."""
    try:
        passwords.check_choice(password.get_secret_value())
    except PasswordRefused as refusal:
        error = FieldError(loc=["body", field], type="password_refused", msg=str(refusal))
        raise ValidationFailed([error]) from None
    async with released(session):
        return await passwords.hash(password.get_secret_value())


async def insert_user(session: AsyncSession, passwords: Passwords, new: UserCreate) -> User:
    """A new account; raises EmailTaken."""
    password_hash = await hash_choice(session, passwords, new.password, field="password")
    user = User.model_validate(
        new, update={"email_key": email_key(new.email), "password_hash": password_hash}
    )
    await insert(session, user, or_raise=EmailTaken)
    return user


async def get_user(user_id: PathId, session: SessionDep) -> User:
    user = await session.get(User, user_id)
    if user is None:
        raise UserNotFound
    return user


UserFromPath = Annotated[User, Depends(get_user)]


@router.post(
    "/users",
    status_code=201,
    response_model=UserRead,
    responses=raises(*BODY_PROBLEMS, EmailTaken),
)
async def create_user(new: UserCreate, session: SessionDep, passwords: PasswordsDep) -> User:
    """Open an account, without logging in."""
    return await insert_user(session, passwords, new)


@profiles.get("/users", response_model=list[ProfileRead], responses=raises(ValidationFailed))
async def list_users(slicing: Slicing, session: SessionDep) -> Sequence[User]:
    """List everybody's profile, in the order in which they came."""
    query = select(User).order_by(col(User.id)).offset(slicing.skip).limit(slicing.limit)
    return (await session.exec(query)).all()


@profiles.get(
    "/users/{user_id:int}",
    response_model=ProfileRead,
    responses=raises(UserNotFound, ValidationFailed),
)
async def read_user(user: UserFromPath) -> User:
    """Show a profile."""
    return user
