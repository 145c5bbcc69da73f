"""Takeout: all that is one's own, as JSON Lines."""

from collections.abc import AsyncIterable
from typing import Literal

from fastapi import APIRouter, Request
from sqlalchemy import delete
from sqlmodel import col, select

from blog_api.accounts.auth import (
    AccountReader,
    AccountWriter,
    lock_access,
    verify_password,
)
from blog_api.accounts.errors import CONFIRMED_PROBLEMS, USER_PROBLEMS, LastAdmin
from blog_api.accounts.models import (
    PasswordConfirmation,
    PersonalTokenRead,
    Token,
    User,
    UserRead,
)
from blog_api.accounts.personal_tokens import personal_tokens
from blog_api.accounts.rate_limits import GuardDep
from blog_api.accounts.service import keep_an_admin, lock_admins
from blog_api.comments.models import Comment, CommentRead
from blog_api.comments.service import forget_comments
from blog_api.core.errors import (
    BODY_PROBLEMS,
    Conflict,
    ServiceUnavailable,
    raises,
)
from blog_api.core.fields import SMALL_BODY_BYTES
from blog_api.db.base import RowRead
from blog_api.db.queries import one_by_one
from blog_api.db.session import Database, SessionDep
from blog_api.posts.bookmarks import remove_bookmarks
from blog_api.posts.models import Bookmark, OwnPostRead, Post
from blog_api.posts.queries import listed_posts
from blog_api.profiles.models import Follow

router = APIRouter(
    tags=["me"], responses=raises(ServiceUnavailable), max_body_size=SMALL_BODY_BYTES
)


class ExportedAccount(UserRead):
    """One's account."""

    type: Literal["account"] = "account"


class ExportedToken(PersonalTokenRead):
    """A personal token, without its secret."""

    type: Literal["token"] = "token"


class ExportedPost(OwnPostRead):
    """A post of one's own, in whatever state."""

    type: Literal["post"] = "post"


class ExportedComment(CommentRead):
    """A comment of one's own."""

    type: Literal["comment"] = "comment"


class ExportedFollow(RowRead):
    """An author whom one follows."""

    type: Literal["follow"] = "follow"
    author_id: int


class ExportedBookmark(RowRead):
    """A post that one has bookmarked."""

    type: Literal["bookmark"] = "bookmark"
    post_id: int


ExportLine = (
    ExportedAccount
    | ExportedToken
    | ExportedPost
    | ExportedComment
    | ExportedFollow
    | ExportedBookmark
)


@router.get("/users/me/export", responses=raises(*USER_PROBLEMS))
async def export_me(user: AccountReader, request: Request) -> AsyncIterable[ExportLine]:
    """Everything that is one's own, as JSON Lines: the `type` of each says what it is.

    Account, personal tokens, posts in all states, comments, follows, bookmarks.
    """
    database: Database = request.app.state.database
    yield ExportedAccount.model_validate(user)
    async for token in one_by_one(database, personal_tokens(user), Token):
        yield ExportedToken.model_validate(token)
    posts = listed_posts().where(col(Post.user_id) == user.id)
    async for post in one_by_one(database, posts, Post):
        yield ExportedPost.model_validate(post)
    comments = select(Comment).where(col(Comment.user_id) == user.id)
    async for comment in one_by_one(database, comments, Comment):
        yield ExportedComment.model_validate(comment)
    follows = select(Follow).where(col(Follow.user_id) == user.id)
    async for follow in one_by_one(database, follows, Follow):
        yield ExportedFollow.model_validate(follow)
    bookmarks = select(Bookmark).where(col(Bookmark.user_id) == user.id)
    async for bookmark in one_by_one(database, bookmarks, Bookmark):
        yield ExportedBookmark.model_validate(bookmark)


@router.delete(
    "/users/me", status_code=204, responses=raises(*CONFIRMED_PROBLEMS, *BODY_PROBLEMS, LastAdmin)
)
async def delete_me(
    confirmation: PasswordConfirmation, access: AccountWriter, session: SessionDep, guard: GuardDep
) -> None:
    """Close the account. Its posts go with it; its comments stay, with no text and no name."""
    asking = access.user
    verified = await verify_password(session, guard, asking, confirmation.current_password)
    # Before their own row: two administrators who leave at once would wait for each other.
    admins = await lock_admins(session, and_user=asking.id) if asking.is_admin else ()
    user = await lock_access(session, access, verified)
    if user.is_admin and not admins:
        # Made one meanwhile.
        raise Conflict
    keep_an_admin(admins, without=user)
    await forget_comments(session, user)
    await remove_bookmarks(session, user.id)
    await session.exec(delete(User).where(col(User.id) == user.id))
