"""Administration: accounts, posts of all states, figures."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import StrictBool
from sqlalchemy import ColumnElement, func
from sqlmodel import Field, SQLModel, and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.audit import AuditAction, record
from blog_api.database import SessionDep, insert
from blog_api.errors import (
    BODY_PROBLEMS,
    Conflict,
    ServiceUnavailable,
    ValidationFailed,
    raises,
)
from blog_api.fields import SMALL_BODY_BYTES, Body, PathId, Phrase, email_key, utc_now
from blog_api.paging import Page, PageQuery, paginate
from blog_api.posts import (
    OwnPostPage,
    OwnPostRead,
    Post,
    PostNotFound,
    find_post,
    is_published,
    keep_updated_at,
)
from blog_api.scopes import InsufficientScope, Scope
from blog_api.tokens import USER_PROBLEMS, Admin
from blog_api.users import (
    EmailTaken,
    LastAdmin,
    User,
    UserCreate,
    UserFromPath,
    UserNotFound,
    UserRead,
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


class PostState(StrEnum):
    """What a post is for its readers."""

    draft = "draft"
    scheduled = "scheduled"
    published = "published"
    taken_down = "taken-down"


class AdminPostQuery(PageQuery):
    state: PostState | None = None


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


def is_in(state: PostState) -> ColumnElement[bool]:
    """A post that was taken down is in no other state."""
    is_left = col(Post.taken_down_at).is_(None)
    match state:
        case PostState.draft:
            return and_(is_left, col(Post.published_at).is_(None))
        case PostState.scheduled:
            return and_(is_left, col(Post.published_at) > utc_now())
        case PostState.published:
            return is_published()
        case PostState.taken_down:
            return col(Post.taken_down_at).is_not(None)


def search_accounts(q: str | None) -> SelectOfScalar[User]:
    """Accounts whose address or name holds a text, in the order in which they came."""
    query = select(User).order_by(col(User.id))
    if q is None:
        return query
    return query.where(
        or_(
            col(User.email_key).contains(email_key(q), autoescape=True),
            col(User.name).icontains(q, autoescape=True),
        )
    )


def any_post(post_id: int) -> SelectOfScalar[Post]:
    return select(Post).where(col(Post.id) == post_id)


async def get_any_post(post_id: PathId, session: SessionDep) -> Post:
    """The post, whatever its state."""
    return await find_post(session, any_post(post_id))


async def get_locked_post(post_id: PathId, session: SessionDep) -> Post:
    """The post, whatever its state, locked until the request ends."""
    return await find_post(session, any_post(post_id).with_for_update(of=Post))


AnyPost = Annotated[Post, Depends(get_any_post)]
LockedPost = Annotated[Post, Depends(get_locked_post)]

ACTIONS = {
    ("is_active", True): AuditAction.activate_user,
    ("is_active", False): AuditAction.deactivate_user,
    ("is_admin", True): AuditAction.make_admin,
    ("is_admin", False): AuditAction.dismiss_admin,
}

POST_PROBLEMS = (PostNotFound, ValidationFailed)


def apply(
    session: AsyncSession, admin: User | None, user: User, changes: Mapping[str, bool]
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


@router.get("/users", response_model=AccountPage, responses=raises(ValidationFailed))
async def list_accounts(
    _: Admin, query: Annotated[AccountQuery, Query()], session: SessionDep
) -> Page[User]:
    """List all accounts, or those whose address or name holds a text."""
    return await paginate(session, search_accounts(query.q), query)


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


@router.get("/posts", response_model=OwnPostPage, responses=raises(ValidationFailed))
async def list_all_posts(
    _: Admin, query: Annotated[AdminPostQuery, Query()], session: SessionDep
) -> Page[Post]:
    """List posts of all states, or of one, the last begun first."""
    posts = select(Post).order_by(col(Post.id).desc())
    if query.state is not None:
        posts = posts.where(is_in(query.state))
    return await paginate(session, posts, query)


@router.get("/posts/{post_id:int}", response_model=OwnPostRead, responses=raises(*POST_PROBLEMS))
async def read_any_post(_: Admin, post: AnyPost) -> Post:
    """Show a post, whatever its state."""
    return post


@router.delete("/posts/{post_id:int}", status_code=204, responses=raises(*POST_PROBLEMS, Conflict))
async def delete_any_post(admin: Admin, post: LockedPost, session: SessionDep) -> None:
    """Delete anybody's post."""
    record(session, admin, AuditAction.delete_post, post_id=post.id)
    await session.delete(post)


@router.put(
    "/posts/{post_id:int}/takedown", response_model=OwnPostRead, responses=raises(*POST_PROBLEMS)
)
async def take_down_post(admin: Admin, post: LockedPost, session: SessionDep) -> Post:
    """Hide a post from everybody but its author, who cannot undo that."""
    if post.taken_down_at is None:
        post.taken_down_at = utc_now()
        keep_updated_at(post)
        record(session, admin, AuditAction.take_down_post, post_id=post.id)
    return post


@router.delete(
    "/posts/{post_id:int}/takedown", response_model=OwnPostRead, responses=raises(*POST_PROBLEMS)
)
async def restore_post(admin: Admin, post: LockedPost, session: SessionDep) -> Post:
    """Show a post again that was taken down, if its author has it published."""
    if post.taken_down_at is not None:
        post.taken_down_at = None
        keep_updated_at(post)
        record(session, admin, AuditAction.restore_post, post_id=post.id)
    return post


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
                count.filter(is_in(PostState.draft)),
                count.filter(is_in(PostState.scheduled)),
                count.filter(is_in(PostState.published)),
                count.filter(is_in(PostState.taken_down)),
            ).select_from(Post)
        )
    ).one()
    return Stats(
        users=UserStats(total=total, active=active, admins=admins),
        posts=PostStats(
            draft=draft, scheduled=scheduled, published=published, taken_down=taken_down
        ),
    )
