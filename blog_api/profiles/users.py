"""Public profiles and the creation of accounts: `/users`."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.auth import SAME_FOR_ALL
from blog_api.accounts.bans import BansDep
from blog_api.accounts.errors import OPTIONAL_AUTH_PROBLEMS, SIGN_UP_PROBLEMS, UserNotFound
from blog_api.accounts.idempotency import NO_KEY, IdempotencyKeyNotSupported
from blog_api.accounts.mailer import MailerDep
from blog_api.accounts.models import ProfileRead, User, UserCreate, UserRead
from blog_api.accounts.names import fold_name, users_by_name
from blog_api.accounts.rate_limits import LoginThrottleDep
from blog_api.accounts.service import (
    SIGN_UP_IS_OPEN,
    find_user,
    find_user_by_key,
    find_user_by_username,
    insert_user,
)
from blog_api.accounts.usernames import MAX_USERNAME_LENGTH, PathUsername, UserKey
from blog_api.core.characters import CONTROL_CHARACTERS
from blog_api.core.errors import ServiceUnavailable, ValidationFailed, problem_responses
from blog_api.core.fields import MAX_SMALL_BODY_BYTES, PathId
from blog_api.db.session import SessionDep
from blog_api.profiles.models import PostCounter, UserQuery
from blog_api.web.pagination import make_page_of_ids, parse_ids

router = APIRouter(
    tags=["users"],
    responses=problem_responses(ServiceUnavailable),
    max_body_size=MAX_SMALL_BODY_BYTES,
)


async def get_user(user_id: PathId, session: SessionDep) -> User:
    return await find_user(session, user_id)


UserFromPath = Annotated[User, Depends(get_user)]


async def get_user_by_key(
    user_id: Annotated[
        UserKey, Path(max_length=MAX_USERNAME_LENGTH, description="Id or username of the user.")
    ],
    session: SessionDep,
) -> User:
    return await find_user_by_key(session, user_id)


UserFromKey = Annotated[User, Depends(get_user_by_key)]


async def get_post_counter(request: Request) -> PostCounter:
    counter: PostCounter = request.app.state.count_posts
    return counter


PostCounterDep = Annotated[PostCounter, Depends(get_post_counter)]


async def make_profiles(
    session: AsyncSession, count_posts: PostCounter, users: Sequence[User]
) -> list[ProfileRead]:
    """Return the public profiles of users, with the numbers of their published posts."""
    counts = await count_posts(session, [user.id for user in users]) if users else {}
    return [
        ProfileRead.model_validate(user, update={"post_count": counts.get(user.id, 0)})
        for user in users
    ]


@router.post(
    "/users",
    status_code=201,
    response_model=UserRead,
    responses=problem_responses(*SIGN_UP_PROBLEMS, IdempotencyKeyNotSupported),
    dependencies=[SIGN_UP_IS_OPEN, NO_KEY],
)
async def create_user(
    new: UserCreate,
    session: SessionDep,
    throttle: LoginThrottleDep,
    mailer: MailerDep,
    bans: BansDep,
) -> User:
    """Create an account without a session."""
    return await insert_user(session, throttle, mailer, bans, new)


@router.get(
    "/users",
    response_model=list[ProfileRead],
    responses=problem_responses(*OPTIONAL_AUTH_PROBLEMS, ValidationFailed),
    dependencies=[SAME_FOR_ALL],
)
async def list_users(
    params: Annotated[UserQuery, Query()], session: SessionDep, count_posts: PostCounterDep
) -> Sequence[ProfileRead]:
    """List public profiles in the order of their ids, or search them by name.

    Authors of imported comments who have no posts are left out. `q` finds names that contain it
    from the beginning of a word on, with or without accents, and orders them by that part.
    """
    return await make_profiles(session, count_posts, await find_users(session, params))


async def find_users(session: AsyncSession, params: UserQuery) -> Sequence[User]:
    if params.ids is not None:
        found = await session.exec(select(User).where(col(User.id).in_(parse_ids(params.ids))))
        return make_page_of_ids(params.ids, found, lambda user: user.id).results
    q = params.q or ""
    # No name has a control character, and Postgres rejects NUL.
    if CONTROL_CHARACTERS.search(q):
        return []
    text = fold_name(q)
    query = select(User).where(col(User.is_listed)).order_by(col(User.id))
    query = query.offset(params.skip).limit(params.limit)
    if text:
        query = users_by_name(text, skip=params.skip, limit=params.limit)
    return (await session.exec(query)).all()


@router.get(
    "/users/{user_id:int}",
    response_model=ProfileRead,
    responses=problem_responses(*OPTIONAL_AUTH_PROBLEMS, UserNotFound, ValidationFailed),
    dependencies=[SAME_FOR_ALL],
)
async def read_user(
    user: UserFromPath, session: SessionDep, count_posts: PostCounterDep
) -> ProfileRead:
    """Return the public profile of a user."""
    (profile,) = await make_profiles(session, count_posts, [user])
    return profile


@router.get(
    "/users/username/{username}",
    response_model=ProfileRead,
    responses=problem_responses(*OPTIONAL_AUTH_PROBLEMS, UserNotFound, ValidationFailed),
    dependencies=[SAME_FOR_ALL],
)
async def read_user_by_username(
    username: PathUsername, session: SessionDep, count_posts: PostCounterDep
) -> ProfileRead:
    """Return the public profile of the user who has this username."""
    user = await find_user_by_username(session, username)
    (profile,) = await make_profiles(session, count_posts, [user])
    return profile
