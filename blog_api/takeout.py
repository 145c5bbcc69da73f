"""Takeout: all that is one's own, as JSON Lines."""

from collections.abc import AsyncIterable
from typing import Literal

from fastapi import APIRouter, Request
from sqlmodel import col, select

from blog_api.bookmarks import Bookmark
from blog_api.comments import Comment, CommentRead
from blog_api.database import Database
from blog_api.errors import ServiceUnavailable, raises
from blog_api.follows import Follow
from blog_api.personal_tokens import PersonalTokenRead, personal_tokens
from blog_api.posts import OwnPostRead, Post, listed_posts
from blog_api.rows import one_by_one
from blog_api.tables import RowRead
from blog_api.tokens import USER_PROBLEMS, AccountReader, Token
from blog_api.users import UserRead

router = APIRouter(tags=["me"], responses=raises(ServiceUnavailable))


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
