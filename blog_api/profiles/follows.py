"""Follow and unfollow authors: `/users/me/following`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from sqlalchemy import Integer, bindparam, delete
from sqlmodel import col, select

from blog_api.accounts.auth import CanWriteAccount, CurrentUser
from blog_api.accounts.errors import SCOPE_PROBLEMS, UserNotFound
from blog_api.accounts.models import User
from blog_api.accounts.write_limits import limit_follows_and_bookmarks
from blog_api.core.errors import (
    BadRequest,
    Conflict,
    NotFound,
    ServiceUnavailable,
    TooManyRequests,
    ValidationFailed,
    problem_responses,
)
from blog_api.core.fields import PathId
from blog_api.db.list_query import ListQuery, Sort
from blog_api.db.queries import insert_row_if_missing
from blog_api.db.session import SessionDep
from blog_api.profiles.models import Follow, FollowedQuery, ProfilePage
from blog_api.profiles.users import PostCounterDep, UserFromPath, make_profiles
from blog_api.web.pagination import Page, PaginatorDep, make_page_of_ids, parse_ids

router = APIRouter(
    prefix="/users/me/following", tags=["follows"], responses=problem_responses(ServiceUnavailable)
)


class CannotFollowSelf(BadRequest):
    detail = "You can't follow yourself"


BY_ID = Sort("id", (col(User.id),))

# The authors whom the bound user `follower` follows.
FOLLOWED_IDS = select(Follow.author_id).where(
    col(Follow.user_id) == bindparam("follower", type_=Integer)
)

FOLLOWED = select(User).where(col(User.id).in_(FOLLOWED_IDS))
FOLLOWED_AUTHORS = ListQuery(FOLLOWED)


@router.get(
    "", response_model=ProfilePage, responses=problem_responses(*SCOPE_PROBLEMS, ValidationFailed)
)
async def list_followed(
    user: CurrentUser,
    params: Annotated[FollowedQuery, Query()],
    paginator: PaginatorDep,
    count_posts: PostCounterDep,
) -> Page[Any]:
    """List the followed authors in the order of their ids, or tell which of some are followed."""
    session = paginator.session
    if params.ids is None:
        page = await paginator.paginate(FOLLOWED_AUTHORS, params, BY_ID, follower=user.id)
    else:
        query = FOLLOWED.where(col(User.id).in_(parse_ids(params.ids)))
        found = await session.exec(query, params={"follower": user.id})
        page = make_page_of_ids(params.ids, found, lambda author: author.id)
    profiles = iter(await make_profiles(session, count_posts, page.results))
    return page.map(lambda _: next(profiles))


@router.get(
    "/{user_id:int}",
    status_code=204,
    responses=problem_responses(*SCOPE_PROBLEMS, UserNotFound, ValidationFailed),
)
async def check_followed(user: CurrentUser, user_id: PathId, session: SessionDep) -> None:
    """Return 204 if the user follows this author, and 404 if not."""
    query = FOLLOWED.where(col(User.id) == user_id)
    if (await session.exec(query, params={"follower": user.id})).first() is None:
        raise UserNotFound


@router.put(
    "/{user_id:int}",
    status_code=204,
    responses=problem_responses(
        *SCOPE_PROBLEMS,
        CannotFollowSelf,
        UserNotFound,
        Conflict,
        TooManyRequests,
        ValidationFailed,
    ),
    dependencies=[Depends(limit_follows_and_bookmarks)],
)
async def follow(auth: CanWriteAccount, author: UserFromPath, session: SessionDep) -> None:
    """Follow an author. Idempotent."""
    if author.id == auth.user.id:
        raise CannotFollowSelf
    await insert_row_if_missing(session, Follow, {"user_id": auth.user.id, "author_id": author.id})


@router.delete(
    "/{user_id:int}",
    status_code=204,
    responses=problem_responses(*SCOPE_PROBLEMS, NotFound, TooManyRequests, ValidationFailed),
    dependencies=[Depends(limit_follows_and_bookmarks)],
)
async def unfollow(auth: CanWriteAccount, user_id: PathId, session: SessionDep) -> None:
    """Unfollow an author. Idempotent."""
    await session.exec(
        delete(Follow).where(col(Follow.user_id) == auth.user.id, col(Follow.author_id) == user_id)
    )
