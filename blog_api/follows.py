"""Follows: whose posts somebody wants to read."""

from fastapi import APIRouter
from sqlalchemy import Integer, UniqueConstraint, bindparam, delete
from sqlmodel import Field, col, select

from blog_api.collection import Collection, Sort
from blog_api.database import SessionDep
from blog_api.errors import (
    BadRequest,
    Conflict,
    NotFound,
    ServiceUnavailable,
    ValidationFailed,
    raises,
)
from blog_api.fields import PathId
from blog_api.paging import Page, PagesDep, Paging
from blog_api.rows import insert_if_missing
from blog_api.tables import Row
from blog_api.tokens import USER_PROBLEMS, AccountReader, AccountWriter
from blog_api.users import ProfileRead, User, UserFromPath, UserNotFound

router = APIRouter(
    prefix="/users/me/following", tags=["follows"], responses=raises(ServiceUnavailable)
)


class Follow(Row, table=True):
    """That a user follows an author."""

    __tablename__ = "follows"
    __table_args__ = (UniqueConstraint("user_id", "author_id"), {"sqlite_autoincrement": True})

    user_id: int = Field(foreign_key="users.id", ondelete="CASCADE")
    author_id: int = Field(foreign_key="users.id", ondelete="CASCADE", index=True)


class ProfilePage(Page[ProfileRead]):
    """A page of profiles, and how many there are on all pages."""


class CannotFollowSelf(BadRequest):
    detail = "You can't follow yourself"


BY_ID = Sort("id", (col(User.id),))


# Whom the user follows who is bound as `follower`.
FOLLOWED_IDS = select(Follow.author_id).where(
    col(Follow.user_id) == bindparam("follower", type_=Integer)
)
FOLLOWED = Collection(select(User).where(col(User.id).in_(FOLLOWED_IDS)))


@router.get("", response_model=ProfilePage, responses=raises(*USER_PROBLEMS, ValidationFailed))
async def list_followed(user: AccountReader, paging: Paging, pages: PagesDep) -> Page[User]:
    """List the authors whom one follows, in the order in which they came here."""
    return await pages.show(FOLLOWED, paging, BY_ID, follower=user.id)


@router.put(
    "/{user_id:int}",
    status_code=204,
    responses=raises(*USER_PROBLEMS, CannotFollowSelf, UserNotFound, Conflict, ValidationFailed),
)
async def follow(access: AccountWriter, author: UserFromPath, session: SessionDep) -> None:
    """Follow an author. Once more makes no difference."""
    if author.id == access.user.id:
        raise CannotFollowSelf
    await insert_if_missing(session, Follow, {"user_id": access.user.id, "author_id": author.id})


@router.delete(
    "/{user_id:int}", status_code=204, responses=raises(*USER_PROBLEMS, NotFound, ValidationFailed)
)
async def unfollow(access: AccountWriter, user_id: PathId, session: SessionDep) -> None:
    """Follow an author no more. Once more makes no difference."""
    await session.exec(
        delete(Follow).where(
            col(Follow.user_id) == access.user.id, col(Follow.author_id) == user_id
        )
    )
