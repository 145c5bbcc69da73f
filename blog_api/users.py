"""Users: who writes here."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import SecretStr
from sqlalchemy import Row as RowOfColumns
from sqlalchemy import false
from sqlmodel import Field, SQLModel, and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.characters import CONTROL
from blog_api.database import SessionDep, released
from blog_api.errors import (
    BODY_PROBLEMS,
    BadRequest,
    Conflict,
    FieldError,
    NotFound,
    ServiceUnavailable,
    TooManyRequests,
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
    fold,
)
from blog_api.paging import SliceQuery
from blog_api.rate_limits import Guard, GuardDep
from blog_api.rows import insert
from blog_api.security import PasswordRefused, Passwords
from blog_api.tables import Row, RowRead

router = APIRouter(
    tags=["users"], responses=raises(ServiceUnavailable), max_body_size=SMALL_BODY_BYTES
)
# Apart, since `main.py` adds what `tokens.py` knows: a bad token is refused here too.
profiles = APIRouter(tags=["users"], responses=raises(ServiceUnavailable))


class UserBase(SQLModel):
    name: Name


class UserCreate(Body, UserBase):
    """A new account."""

    email: Email
    # An address is nobody's business: a name is never made from it.
    name: Name = "Anonymous"
    password: NewPassword


class User(UserBase, Row, table=True):
    __tablename__ = "users"

    # Who was imported as an author has neither, until `blog-api set-password`.
    email: str | None = Field(default=None, max_length=EMAIL_LENGTH)
    email_key: str | None = Field(default=None, max_length=EMAIL_LENGTH, unique=True)
    password_hash: str | None = Field(default=None, max_length=255)
    # By this an import knows its authors again. A name would make anybody their namesake.
    import_key: str | None = Field(default=None, max_length=255, unique=True)
    is_active: bool = True
    is_admin: bool = False


# A user who is read and not changed: a row of what is known of them.
UserRow = RowOfColumns[*tuple[Any, ...]]


class UserRead(UserBase, RowRead):
    """An account, as its owner sees it."""

    email: str | None = Field(description="Null: an imported author who does not log in yet.")
    is_active: bool
    is_admin: bool


class ProfileRead(SQLModel):
    """A user, as everybody sees them."""

    id: int
    name: str
    created_at: datetime


class UserQuery(SliceQuery):
    """Which profiles."""

    q: str | None = Field(
        default=None,
        max_length=100,
        description="Part of the name.",
    )


class EmailTaken(BadRequest):
    detail = "Email already registered"


class LastAdmin(Conflict):
    detail = "The last active administrator stays one"


class UserNotFound(NotFound):
    detail = "User not found"


SIGN_UP_PROBLEMS = (*BODY_PROBLEMS, EmailTaken, TooManyRequests)


def check_choice(passwords: Passwords, password: SecretStr, *, field: str) -> None:
    """Whether a password may be chosen, in `field`; raises ValidationFailed."""
    try:
        passwords.check_choice(password.get_secret_value())
    except PasswordRefused as refusal:
        error = FieldError(loc=["body", field], type="password_refused", msg=str(refusal))
        raise ValidationFailed([error]) from None


def make_user(new: UserCreate, password_hash: str) -> User:
    return User.model_validate(
        new, update={"email_key": fold(new.email), "password_hash": password_hash}
    )


async def insert_user(session: AsyncSession, guard: Guard, new: UserCreate) -> User:
    """A new account; raises EmailTaken, and TooManyRequests for one too many from an address."""
    check_choice(guard.passwords, new.password, field="password")
    async with released(session):
        await guard.count_address()
        password_hash = await guard.hash(new.password)
    user = make_user(new, password_hash)
    await insert(session, user, or_raise=EmailTaken)
    return user


def users_of_address(email: str) -> SelectOfScalar[User]:
    """The one user with this address, however it is spelt."""
    return select(User).where(col(User.email_key) == fold(email))


async def lock_admins(session: AsyncSession, *, and_user: int) -> Sequence[User]:
    """Those who administrate, and one more user, who all stay as they are until the request ends.

    In the order of their ids, so that no two requests wait for each other.
    """
    administrates = and_(col(User.is_admin), col(User.is_active))
    query = (
        select(User)
        .where(or_(administrates, col(User.id) == and_user))
        .order_by(col(User.id))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return (await session.exec(query)).all()


def keep_an_admin(users: Sequence[User], without: User) -> None:
    """Raise LastAdmin where of these users none but one administrates."""
    if [user.id for user in users if user.is_admin and user.is_active] == [without.id]:
        raise LastAdmin


async def find_user(session: AsyncSession, user_id: int) -> User:
    """Whoever has this id; raises UserNotFound."""
    user = await session.get(User, user_id)
    if user is None:
        raise UserNotFound
    return user


async def get_user(user_id: PathId, session: SessionDep) -> User:
    return await find_user(session, user_id)


UserFromPath = Annotated[User, Depends(get_user)]


@router.post(
    "/users",
    status_code=201,
    response_model=UserRead,
    responses=raises(*SIGN_UP_PROBLEMS),
)
async def create_user(new: UserCreate, session: SessionDep, guard: GuardDep) -> User:
    """Open an account, without logging in."""
    return await insert_user(session, guard, new)


@profiles.get("/users", response_model=list[ProfileRead], responses=raises(ValidationFailed))
async def list_users(slicing: Annotated[UserQuery, Query()], session: SessionDep) -> Sequence[User]:
    """List everybody's profile, or those whose name holds a text, in the order in which they
    came."""
    query = select(User).order_by(col(User.id)).offset(slicing.skip).limit(slicing.limit)
    if slicing.q:
        # What no name holds need not be looked for, and part of it is no text for Postgres.
        is_possible = not CONTROL.search(slicing.q)
        has_it = col(User.name).icontains(slicing.q, autoescape=True) if is_possible else false()
        query = query.where(has_it)
    return (await session.exec(query)).all()


@profiles.get(
    "/users/{user_id:int}",
    response_model=ProfileRead,
    responses=raises(UserNotFound, ValidationFailed),
)
async def read_user(user: UserFromPath) -> User:
    """Show a profile."""
    return user
