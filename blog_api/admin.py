"""Administration: accounts and figures."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import StrictBool
from sqlalchemy import delete, func
from sqlmodel import Field, SQLModel, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.audit import AuditAction, record
from blog_api.collection import Collection, Sort
from blog_api.database import SessionDep
from blog_api.errors import (
    BODY_PROBLEMS,
    ServiceUnavailable,
    ValidationFailed,
    raises,
)
from blog_api.fields import SMALL_BODY_BYTES, Body, PathId, Phrase, fold
from blog_api.moderation import STATES, PostState
from blog_api.paging import Page, PageQuery, PagesDep
from blog_api.posts import Post
from blog_api.rows import flush, insert
from blog_api.scopes import InsufficientScope, Scope
from blog_api.tokens import USER_PROBLEMS, Admin, Token
from blog_api.users import (
    EmailTaken,
    LastAdmin,
    User,
    UserCreate,
    UserFromPath,
    UserNotFound,
    UserRead,
    UserRow,
    find_user,
    keep_an_admin,
    lock_admins,
    make_user,
    users_of_address,
)

router = APIRouter(
    prefix="/admin",
    tags=["admin"],
    responses=raises(ServiceUnavailable, *USER_PROBLEMS),
    max_body_size=SMALL_BODY_BYTES,
)


class AccountUpdate(Body):
    """What changes of an account; what is left out stays."""

    # Only what is sent is used; a factory keeps the default out of OpenAPI.
    is_active: StrictBool = Field(default_factory=bool)
    is_admin: StrictBool = Field(default_factory=bool)


class AccountQuery(PageQuery):
    q: Phrase | None = Field(default=None, description="Part of the address or the name.")


class AccountPage(Page[UserRead]):
    """A page of accounts, and how many there are on all pages."""


class UserStats(SQLModel):
    """How many users there are."""

    total: int
    active: int
    admins: int = Field(description="Those who are active.")


class PostStats(SQLModel):
    """How many posts there are in each state."""

    draft: int
    scheduled: int
    published: int
    taken_down: int


class Stats(SQLModel):
    """How much there is of everything."""

    users: UserStats
    posts: PostStats


def search_accounts(q: str | None) -> SelectOfScalar[User]:
    """Accounts whose address or name holds a text."""
    query = select(User)
    if q is None:
        return query
    return query.where(
        or_(
            col(User.email_key).contains(fold(q), autoescape=True),
            col(User.name).icontains(q, autoescape=True),
        )
    )


BY_ID = Sort("id", (col(User.id),))

ACTIONS = {
    ("is_active", True): AuditAction.activate_user,
    ("is_active", False): AuditAction.deactivate_user,
    ("is_admin", True): AuditAction.make_admin,
    ("is_admin", False): AuditAction.dismiss_admin,
}


def apply(
    session: AsyncSession, admin: UserRow | None, user: User, changes: Mapping[str, bool]
) -> None:
    """Change an account; each change leaves a line, and what is so already none."""
    for field, value in changes.items():
        if getattr(user, field) != value:
            setattr(user, field, value)
            record(session, admin, ACTIONS[field, value], user_id=user.id)


async def make_admin(session: AsyncSession, email: str) -> None:
    """Let an account administrate, on the word of whoever runs the service."""
    user = (await session.exec(users_of_address(email).with_for_update())).one()
    apply(session, None, user, {"is_active": True, "is_admin": True})


async def create_admin(session: AsyncSession, new: UserCreate, password_hash: str) -> User:
    """A new account that administrates; raises EmailTaken."""
    user = make_user(new, password_hash)
    user.is_admin = True
    await insert(session, user, or_raise=EmailTaken)
    record(session, None, AuditAction.make_admin, user_id=user.id)
    return user


async def give_password(
    session: AsyncSession, user_id: int, email: str, password_hash: str
) -> None:
    """Let a user log in, on the word of whoever runs the service; raises EmailTaken.

    Whatever the user, or somebody for them, has logged in to before is revoked.
    """
    user = await find_user(session, user_id)
    user.sqlmodel_update({"email": email, "email_key": fold(email), "password_hash": password_hash})
    await flush(session, or_raise=EmailTaken)
    await session.exec(delete(Token).where(col(Token.user_id) == user_id))
    record(session, None, AuditAction.set_password, user_id=user_id)


@router.get("/users", response_model=AccountPage, responses=raises(ValidationFailed))
async def list_accounts(
    _: Admin, query: Annotated[AccountQuery, Query()], pages: PagesDep
) -> Page[User]:
    """List all accounts, or those whose address or name holds a text."""
    return await pages.show(Collection(search_accounts(query.q)), query, BY_ID)


@router.get(
    "/users/{user_id:int}",
    response_model=UserRead,
    responses=raises(UserNotFound, ValidationFailed),
)
async def read_account(_: Admin, user: UserFromPath) -> User:
    """Show an account."""
    return user


@router.patch(
    "/users/{user_id:int}",
    response_model=UserRead,
    # Those of the router with them: a status that stands here replaces its own there.
    responses=raises(*BODY_PROBLEMS, *USER_PROBLEMS, UserNotFound, LastAdmin),
)
async def update_account(
    changes: AccountUpdate, admin: Admin, user_id: PathId, session: SessionDep
) -> User:
    """Activate or deactivate an account, make its user an administrator or dismiss them."""
    values = changes.model_dump(exclude_unset=True)
    users = await lock_admins(session, and_user=user_id)
    # Another administrator may have dismissed this one meanwhile.
    if not any(user.id == admin.id and user.is_admin and user.is_active for user in users):
        raise InsufficientScope(Scope.admin)
    user = next((user for user in users if user.id == user_id), None)
    if user is None:
        raise UserNotFound
    if False in values.values():
        keep_an_admin(users, without=user)
    apply(session, admin, user, values)
    await session.flush()
    return user


@router.get("/stats")
async def read_stats(_: Admin, session: SessionDep) -> Stats:
    """Count users and posts."""
    count = func.count()
    is_active = col(User.is_active)
    total, active, admins = (
        await session.exec(
            select(
                count,
                count.filter(is_active),
                count.filter(is_active, col(User.is_admin)),
            ).select_from(User)
        )
    ).one()
    draft, scheduled, published, taken_down = (
        await session.exec(
            select(
                count.filter(STATES[PostState.draft]),
                count.filter(STATES[PostState.scheduled]),
                count.filter(STATES[PostState.published]),
                count.filter(STATES[PostState.taken_down]),
            ).select_from(Post)
        )
    ).one()
    return Stats(
        users=UserStats(total=total, active=active, admins=admins),
        posts=PostStats(
            draft=draft, scheduled=scheduled, published=published, taken_down=taken_down
        ),
    )
