"""Public profiles and the creation of accounts: `/users`."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Security
from sqlmodel import col, select

from blog_api.accounts.auth import get_optional_auth
from blog_api.accounts.errors import OPTIONAL_AUTH_PROBLEMS, SIGN_UP_PROBLEMS, UserNotFound
from blog_api.accounts.idempotency import NO_KEY, IdempotencyKeyNotSupported
from blog_api.accounts.models import ProfileRead, User, UserCreate, UserRead
from blog_api.accounts.names import fold_name, users_by_name
from blog_api.accounts.rate_limits import LoginThrottleDep
from blog_api.accounts.service import find_user, insert_user
from blog_api.core.errors import ServiceUnavailable, ValidationFailed, problem_responses
from blog_api.core.fields import CONTROL_CHARACTERS, MAX_SMALL_BODY_BYTES, PathId
from blog_api.db.session import SessionDep
from blog_api.profiles.models import UserQuery

router = APIRouter(
    tags=["users"],
    responses=problem_responses(ServiceUnavailable),
    max_body_size=MAX_SMALL_BODY_BYTES,
)


async def get_user(user_id: PathId, session: SessionDep) -> User:
    return await find_user(session, user_id)


UserFromPath = Annotated[User, Depends(get_user)]


@router.post(
    "/users",
    status_code=201,
    response_model=UserRead,
    responses=problem_responses(*SIGN_UP_PROBLEMS, IdempotencyKeyNotSupported),
    dependencies=[NO_KEY],
)
async def create_user(new: UserCreate, session: SessionDep, throttle: LoginThrottleDep) -> User:
    """Create an account without a session."""
    return await insert_user(session, throttle, new)


@router.get(
    "/users",
    response_model=list[ProfileRead],
    responses=problem_responses(*OPTIONAL_AUTH_PROBLEMS, ValidationFailed),
    dependencies=[Security(get_optional_auth)],
)
async def list_users(params: Annotated[UserQuery, Query()], session: SessionDep) -> Sequence[User]:
    """List public profiles in the order of their ids, or search them by name.

    `q` finds names that contain it from the beginning of a word on, and orders them by that part.
    """
    q = params.q or ""
    # No name has a control character, and Postgres rejects NUL.
    if CONTROL_CHARACTERS.search(q):
        return []
    prefix = fold_name(q)
    query = select(User).order_by(col(User.id)).offset(params.skip).limit(params.limit)
    if prefix:
        query = users_by_name(prefix, skip=params.skip, limit=params.limit)
    return (await session.exec(query)).all()


@router.get(
    "/users/{user_id:int}",
    response_model=ProfileRead,
    responses=problem_responses(*OPTIONAL_AUTH_PROBLEMS, UserNotFound, ValidationFailed),
    dependencies=[Security(get_optional_auth)],
)
async def read_user(user: UserFromPath) -> User:
    """Return the public profile of a user."""
    return user
