"""Exporting: posts for an archive, and all that is one's own as JSON Lines."""

import errno
import os
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal

from fastapi import APIRouter, Request
from sqlmodel import col, func, select

from blog_api.archives import write_jsonl
from blog_api.bookmarks import Bookmark
from blog_api.comments import Comment, CommentRead
from blog_api.database import Database, RowRead, one_by_one
from blog_api.errors import ServiceUnavailable, raises
from blog_api.follows import Follow
from blog_api.front_matter import write_markdown
from blog_api.personal_tokens import PersonalTokenRead, personal_tokens
from blog_api.posts import OwnPostRead, Post, listed_posts
from blog_api.records import PostRecord
from blog_api.tokens import USER_PROBLEMS, AccountReader, Token
from blog_api.users import User, UserRead
from blog_api.wxr import WXRWriter

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


def author_key(user: User) -> str:
    """By what an import knows an author again, here or on another instance."""
    return user.import_key or f"user:{user.id}:{user.created_at:%Y%m%d%H%M%S%f}"


def record_of(post: Post) -> PostRecord:
    """A post, as an archive holds it."""
    key = author_key(post.user)
    return PostRecord.model_construct(
        slug=post.slug,
        title=post.title,
        author=post.user_name,
        author_key=None if key == post.user_name else key,
        published_at=post.published_at,
        taken_down_at=post.taken_down_at,
        tags=post.tags,
        content=post.content,
    )


async def count_posts(database: Database) -> int:
    async with database.session(writes=False) as session:
        return (await session.exec(select(func.count()).select_from(Post))).one()


class CannotWrite(Exception):
    """A post that a file or folder does not take; the message says why."""


Write = Callable[[PostRecord, str], None]


def wary(write: Callable[[PostRecord, str], object]) -> Write:
    """The same, but that what goes wrong with a file is told from what does with the database."""

    def write_or_tell(record: PostRecord, content_html: str) -> None:
        try:
            write(record, content_html)
        except OSError as error:
            raise CannotWrite(str(error)) from error

    return write_or_tell


@contextmanager
def new_archive(path: Path, *, title: str, link: str) -> Iterator[Write]:
    """A function that adds a post and its HTML: to a folder where the path has no suffix, to WXR
    (`.xml`), or else to JSON Lines.

    A file stands in its place when all is written, and not before. Raises OSError.
    """
    if not path.suffix or path.is_dir():
        path.mkdir(exist_ok=True)
        if any(path.iterdir()):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        yield wary(lambda record, _: write_markdown(path, record))
        return
    with NamedTemporaryFile(
        "w", encoding="utf-8", newline="", dir=path.parent, delete=False
    ) as file:
        written = Path(file.name)
        try:
            if path.suffix.lower() == ".xml":
                with WXRWriter(file, title=title, link=link) as wxr:
                    yield wary(wxr.write)
            else:
                yield wary(lambda record, _: write_jsonl(file, record))
            file.close()
            written.replace(path)
        finally:
            written.unlink(missing_ok=True)
