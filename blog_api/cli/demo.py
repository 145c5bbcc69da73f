"""The command `demo`: a small blog in an empty database.

Its rows are written by the functions that the routes use, so slugs, excerpts, counters and indexes
are those of a blog that was written over the API.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import col, exists, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.errors import EmailTaken
from blog_api.accounts.models import User, UserCreate
from blog_api.accounts.passwords import PasswordHasher
from blog_api.accounts.service import build_user, insert_account
from blog_api.cli.console import exit_with_error, print_database, run_async, run_with_database
from blog_api.cli.demo_posts import BOOKMARKS, FOLLOWS, PEOPLE, POSTS, DemoComment, DemoPost
from blog_api.comments.models import Comment, CommentCreate
from blog_api.comments.service import insert_comment
from blog_api.core.fields import utc_now
from blog_api.core.settings import Settings, load_settings
from blog_api.core.urls import get_sqlite_path
from blog_api.db.migrate import migrate
from blog_api.db.queries import insert_row_if_missing
from blog_api.db.session import Database
from blog_api.posts.bookmarks import add_bookmark
from blog_api.posts.counters import CountedPost, lock_post_for_counters
from blog_api.posts.models import Post, PostCreate
from blog_api.posts.service import insert_post, render_post
from blog_api.posts.slugs import generate_slugs
from blog_api.posts.words import MadeWords, get_word_source, make_words
from blog_api.profiles.models import Follow
from blog_api.text.markdown import Source
from blog_api.text.renderer import Renderer

# In bytes; written as twice as many hexadecimal digits, which contain no name of PEOPLE.
PASSWORD_BYTES = 10
# Between the comments on a post.
COMMENT_INTERVAL = timedelta(hours=3)
ACCOUNT_AGE = timedelta(days=60)

NOT_EMPTY = "The database has users or posts, and demo fills only an empty one"


def fill_with_demo() -> None:
    """Fill an empty database with a small blog: three people, posts, comments.

    A missing SQLite file is created and migrated first. The accounts get a random password, which
    is printed once.
    """
    settings = load_settings()
    print_database(settings)
    file = get_sqlite_path(settings.database_url)
    if file is not None and not file.exists():
        run_async(migrate(settings))
    password = generate_password(settings)
    hasher = PasswordHasher(settings)
    counts = run_with_database(settings, lambda database: create_demo(database, hasher, password))
    if counts is None:
        exit_with_error(NOT_EMPTY)
    print(f"Created {', '.join(f'{count} {name}' for name, count in counts.items())}.")
    *emails, last = (person.email for person in PEOPLE)
    print(f"Log in as {', '.join(emails)} or {last} with the password {password}")
    print("The password is not shown again.")


def generate_password(settings: Settings) -> str:
    """Return a random password: a well-known one would let anyone log in to a public server."""
    return secrets.token_hex(max(PASSWORD_BYTES, -(-settings.password_min_length // 2)))


async def create_demo(
    database: Database, hasher: PasswordHasher, password: str
) -> dict[str, int] | None:
    """Create the blog in one transaction; return the numbers of rows, or None if not empty."""
    hashes = [await hasher.hash(password) for _ in PEOPLE]
    renderer = Renderer()
    made = [await render_post(renderer, Source(post.content, post.content_type)) for post in POSTS]
    words = [
        await make_words(renderer, get_word_source({**vars(post), **values}))
        for post, values in zip(POSTS, made, strict=True)
    ]
    try:
        async with database.session(writes=True) as session:
            if not await is_empty(session):
                return None
            return await DemoBlog(session, utc_now()).create(
                password, hashes, zip(made, words, strict=True)
            )
    except EmailTaken:
        # Another process has filled the database meanwhile.
        return None


async def is_empty(session: AsyncSession) -> bool:
    """Return whether there are no users and no posts."""
    query = select(or_(exists().where(col(User.id) > 0), exists().where(col(Post.id) > 0)))
    return not (await session.exec(query)).one()


@dataclass(frozen=True)
class DemoBlog:
    """Writes the blog in a transaction. All times are relative to `now`."""

    session: AsyncSession
    now: datetime

    async def create(
        self,
        password: str,
        hashes: Sequence[str],
        made: Iterable[tuple[Mapping[str, Any], MadeWords]],
    ) -> dict[str, int]:
        """Create all rows; return their numbers by what they are."""
        users = await self.insert_people(password, hashes)
        comments = 0
        for demo, (columns, words) in zip(POSTS, made, strict=True):
            post = await self.insert_post(demo, users[demo.author], columns, words)
            locked = await lock_post_for_counters(self.session, post.id)
            for user_id in (users[name] for name in BOOKMARKS.get(demo.title, ())):
                await add_bookmark(self.session, user_id, locked)
            await self.insert_comments(post, locked, demo.comments, users)
            comments += locked.comment_count
        for follower, author in FOLLOWS:
            row = {"user_id": users[follower], "author_id": users[author]}
            await insert_row_if_missing(self.session, Follow, row)
        return {
            "users": len(users),
            "posts (one is a draft, one scheduled)": len(POSTS),
            "comments": comments,
            "follows": len(FOLLOWS),
            "bookmarks": sum(map(len, BOOKMARKS.values())),
        }

    async def insert_people(self, password: str, hashes: Sequence[str]) -> dict[str, int]:
        """Return the ids by the names."""
        users = {}
        for person, password_hash in zip(PEOPLE, hashes, strict=True):
            new = UserCreate.model_validate(
                {"email": person.email, "name": person.name, "password": password}
            )
            user = await build_user(self.session, new, password_hash)
            user.bio = person.bio
            user.created_at = self.now - ACCOUNT_AGE
            await insert_account(self.session, user)
            users[person.name] = user.id
        return users

    async def insert_post(
        self, demo: DemoPost, user_id: int, made: Mapping[str, Any], words: MadeWords
    ) -> Post:
        """Insert a post and return it."""
        published_at = None if demo.days is None else self.now + timedelta(days=demo.days)
        new = PostCreate(
            title=demo.title,
            content=demo.content,
            content_type=demo.content_type,
            tags=list(demo.tags),
            summary=demo.summary,
            cover_url=demo.cover_url,
            cover_alt=demo.cover_alt,
        )
        values = {
            "slug": "",
            "published_at": published_at,
            "given_summary": new.summary,
            "user_id": user_id,
            "created_at": min(published_at or self.now, self.now),
        }
        post = Post.model_validate(new, update={**values, **made})
        await insert_post(self.session, post, generate_slugs(post.title), words)
        return post

    async def insert_comments(
        self,
        post: Post,
        locked: CountedPost,
        comments: Sequence[DemoComment],
        users: Mapping[str, int],
        parent_id: int | None = None,
    ) -> None:
        """Insert comments with the answers below them."""
        for demo in comments:
            new = CommentCreate(content=demo.content, parent_id=parent_id)
            age = COMMENT_INTERVAL * (locked.comment_count + 1)
            values = {
                "post_id": post.id,
                "user_id": users[demo.author],
                "created_at": min(post.created_at + age, self.now),
            }
            comment = Comment.model_validate(new, update=values)
            await insert_comment(self.session, locked, comment)
            await self.insert_comments(post, locked, demo.answers, users, comment.id)
