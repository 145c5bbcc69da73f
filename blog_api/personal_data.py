"""Personal data of the user: export and erasure.

A large account is erased in several transactions, so that no statement is long and other clients
take turns: first what the user wrote, in batches, then the account with what is left. The account
stays as it is until then, so a deletion that was interrupted can be repeated. A small account is
erased in one transaction.
"""

from collections.abc import AsyncIterable, AsyncIterator
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from sqlalchemy import delete
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.auth import (
    Auth,
    CanExport,
    CanWriteAccount,
    lock_authenticated_user,
    verify_password,
)
from blog_api.accounts.errors import PASSWORD_PROBLEMS, SCOPE_PROBLEMS, LastAdmin
from blog_api.accounts.idempotency import forget_opened_account
from blog_api.accounts.models import (
    AuthorRead,
    PasswordConfirmation,
    PersonalTokenRead,
    Token,
    User,
    UserRead,
)
from blog_api.accounts.personal_tokens import personal_tokens_of
from blog_api.accounts.rate_limits import LoginThrottleDep
from blog_api.accounts.service import lock_admins, require_other_admin
from blog_api.comments.models import Comment, CommentRead
from blog_api.comments.service import anonymize_some_comments, delete_some_posts
from blog_api.core.errors import BODY_PROBLEMS, Conflict, ServiceUnavailable, problem_responses
from blog_api.core.fields import MAX_SMALL_BODY_BYTES, ResponseModel
from blog_api.db.base import ReadModel
from blog_api.db.queries import BATCH_SIZE, iterate_rows
from blog_api.db.session import Database, SessionDep, connection_released
from blog_api.media.models import Media, MediaRead
from blog_api.media.service import commit_and_remove_files, media_of
from blog_api.media.storage import Storage
from blog_api.posts.bookmarks import remove_some_bookmarks
from blog_api.posts.excerpts import load_missing_html
from blog_api.posts.models import Bookmark, OwnPostRead, Post
from blog_api.posts.queries import is_visible_to, posts_without_html
from blog_api.profiles.models import Follow
from blog_api.web.body_limits import MAX_BODY_BYTES
from blog_api.web.body_memory import BodyMemory, get_network
from blog_api.web.conditional import PreconditionDep, PreconditionFailed
from blog_api.web.links import make_link

router = APIRouter(
    tags=["me"],
    responses=problem_responses(ServiceUnavailable),
    max_body_size=MAX_SMALL_BODY_BYTES,
)


# Each deletes a batch of what a user wrote, and returns whether more may be left. First the posts,
# with the user's comments on them.
ERASE_SOME = (delete_some_posts, anonymize_some_comments, remove_some_bookmarks)

# A post has up to 2 MB, and a client may read slowly.
POSTS_IN_MEMORY = 2


class ExportedAccount(UserRead):
    """The account."""

    type: Literal["account"] = "account"
    """Always `account`."""


class ExportedToken(PersonalTokenRead):
    """A personal token without its secret."""

    type: Literal["token"] = "token"
    """Always `token`."""


class ExportedPost(OwnPostRead):
    """A post of the user in any state."""

    type: Literal["post"] = "post"
    """Always `post`."""


class ExportedPostName(ResponseModel):
    """By what a post is known elsewhere. Null: the user does not see the post any more."""

    post_slug: str | None
    """Slug of the post."""
    post_title: str | None
    """Title of the post."""


class ExportedComment(CommentRead, ExportedPostName):
    """A comment of the user."""

    type: Literal["comment"] = "comment"
    """Always `comment`."""


class ExportedFollow(ReadModel):
    """A followed author."""

    type: Literal["follow"] = "follow"
    """Always `follow`."""
    author_id: int
    """Id of the followed author."""
    author: AuthorRead
    """The followed author."""


class ExportedBookmark(ReadModel, ExportedPostName):
    """A bookmarked post."""

    type: Literal["bookmark"] = "bookmark"
    """Always `bookmark`."""
    post_id: int
    """Id of the bookmarked post."""


class ExportedMedia(MediaRead):
    """A picture of the user."""

    type: Literal["media"] = "media"
    """Always `media`."""
    created_at: datetime
    """Time of the upload."""
    url: str
    """Address of the file."""


ExportLine = (
    ExportedAccount
    | ExportedToken
    | ExportedPost
    | ExportedComment
    | ExportedFollow
    | ExportedBookmark
    | ExportedMedia
)


async def reserve_memory(request: Request) -> AsyncIterator[None]:
    """Count an export as a body of the largest size until it is sent. Raises ServiceUnavailable."""
    memory: BodyMemory = request.app.state.body_memory
    network = get_network(request.scope)
    if not memory.has_room(network, request, MAX_BODY_BYTES):
        raise ServiceUnavailable
    with memory.hold(network, request, MAX_BODY_BYTES):
        yield


@router.get("/users/me/export", responses=problem_responses(*SCOPE_PROBLEMS))
async def export_me(
    user: CanExport, request: Request, _: Annotated[None, Depends(reserve_memory)]
) -> AsyncIterable[ExportLine]:
    """Export everything of the user as JSON Lines; `type` tells what a line is.

    The account, personal tokens, posts in all states, comments, follows, bookmarks and
    pictures.
    Requires `users:read` and `posts:read`.
    """
    database: Database = request.app.state.database
    yield ExportedAccount.model_validate(user)
    async for token in iterate_rows(database, personal_tokens_of(user), Token):
        yield ExportedToken.model_validate(token)
    posts = posts_without_html().where(col(Post.user_id) == user.id)
    async for post in iterate_rows(database, posts, Post, batch_size=POSTS_IN_MEMORY):
        await load_missing_html(database, post)
        yield ExportedPost.model_validate(post)
    comments = select(Comment).where(col(Comment.user_id) == user.id)
    async for comment in iterate_rows(database, comments, Comment):
        name = await find_post_name(database, comment.post_id, user.id)
        yield ExportedComment.model_validate(comment, update=name)
    follows = select(Follow).where(col(Follow.user_id) == user.id)
    async for follow in iterate_rows(database, follows, Follow):
        async with database.session(writes=False) as session:
            author = await session.get(User, follow.author_id)
        if author is not None:
            yield ExportedFollow.model_validate(follow, update={"author": author})
    bookmarks = select(Bookmark).where(col(Bookmark.user_id) == user.id)
    async for bookmark in iterate_rows(database, bookmarks, Bookmark):
        name = await find_post_name(database, bookmark.post_id, user.id)
        yield ExportedBookmark.model_validate(bookmark, update=name)
    async for media in iterate_rows(database, media_of(user.id), Media):
        url = make_link(request, media.url)
        yield ExportedMedia.model_validate(media, update={"url": url})


async def find_post_name(database: Database, post_id: int, user_id: int) -> dict[str, str | None]:
    """Return the slug and the title of a post that a user sees."""
    query = select(Post.slug, Post.title).where(col(Post.id) == post_id, is_visible_to(user_id))
    async with database.session(writes=False) as session:
        slug, title = (await session.exec(query)).first() or (None, None)
    return {"post_slug": slug, "post_title": title}


@router.delete(
    "/users/me",
    status_code=204,
    responses=problem_responses(*PASSWORD_PROBLEMS, *BODY_PROBLEMS, LastAdmin, PreconditionFailed),
)
async def delete_me(
    confirmation: PasswordConfirmation,
    auth: CanWriteAccount,
    session: SessionDep,
    throttle: LoginThrottleDep,
    precondition: PreconditionDep,
    request: Request,
) -> None:
    """Delete the account, its posts and its pictures.

    Comments with answers stay without content and user.
    """
    verified_hash = await verify_password(
        session, throttle, auth.user, confirmation.current_password
    )
    user = await lock_leaving_user(session, auth, verified_hash)
    precondition.check(user)
    storage: Storage | None = request.app.state.media_storage
    await erase_in_batches(session, storage, user.id)
    user = await lock_leaving_user(session, auth, verified_hash)
    await erase_account(session, storage, user.id)


async def lock_leaving_user(session: AsyncSession, auth: Auth, verified_hash: str) -> User:
    """Lock and return the user. Raises LastAdmin and the problems of a changed account."""
    # Before the own row: otherwise two administrators who leave at once deadlock.
    admins = await lock_admins(session, and_user=auth.user.id) if auth.user.is_admin else ()
    user = await lock_authenticated_user(session, auth, verified_hash)
    if user.is_admin and not admins:
        # The user became an administrator meanwhile.
        raise Conflict
    require_other_admin(admins, without=user)
    return user


async def erase_in_batches(session: AsyncSession, storage: Storage | None, user_id: int) -> None:
    """Delete what a user wrote, but for the last batch of each kind, which is not committed.

    After a commit no lock is held: lock the user again, and check again what was read before.
    """
    for erase_some in ERASE_SOME:
        while await erase_some(session, user_id):
            async with connection_released(session):
                pass
    pictures = media_of(user_id).limit(BATCH_SIZE)
    while len(media := (await session.exec(pictures)).all()) == BATCH_SIZE:
        await session.exec(delete(Media).where(col(Media.id).in_([one.id for one in media])))
        await commit_and_remove_files(session, storage, [one.name for one in media])


async def erase_account(session: AsyncSession, storage: Storage | None, user_id: int) -> None:
    """Delete a locked user with all that refers to them; commit, and delete their pictures.

    Comments with answers stay without content and user.
    """
    for erase_some in ERASE_SOME:
        while await erase_some(session, user_id):
            pass
    pictures = [media.name for media in (await session.exec(media_of(user_id))).all()]
    await forget_opened_account(session, user_id)
    await session.exec(delete(User).where(col(User.id) == user_id))
    await commit_and_remove_files(session, storage, pictures)
