"""The state of the model, and what the service has to return for it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import ClassVar

import anyio.from_thread
from fastapi import FastAPI
from httpx import AsyncClient, Response
from hypothesis import note
from hypothesis.stateful import RuleBasedStateMachine
from sqlmodel import delete

from blog_api.core.settings import Settings
from blog_api.db.base import TableBase
from tests.support.blog_model import Comment, Fields, Post, User, Versioned, merge_spellings
from tests.support.clients import bearer


class BlogState(RuleBasedStateMachine):
    app: ClassVar[FastAPI]
    client: ClassVar[AsyncClient]

    def __init__(self) -> None:
        super().__init__()
        # All that were ever created, in order of their ids.
        self.users: list[User] = []
        self.posts: list[Post] = []
        self.comments: list[Comment] = []
        self.slugs: dict[str, Post] = {}
        # Former slugs under which a post was public.
        self.public_slugs: set[str] = set()
        # Each key with the rank of its tag in order of creation.
        self.tags: dict[str, int] = {}
        self.changed_posts: list[Post] = []
        self.random = Random(0)
        anyio.from_thread.run(self.empty_database)

    async def empty_database(self) -> None:
        async with self.app.state.database.session(writes=True) as session:
            for table in reversed(TableBase.metadata.sorted_tables):
                await session.exec(delete(table))

    def request(
        self,
        user: User | None,
        method: str,
        path: str,
        *,
        expect: int,
        json: Fields | None = None,
        if_match: str | None = None,
    ) -> Response:
        headers = bearer(user.token) if user else {}
        if if_match is not None:
            headers["If-Match"] = if_match
        send = partial(self.client.request, method, path, json=json, headers=headers)
        response = anyio.from_thread.run(send)
        details = "" if json is None else f" {json}"
        details += "" if if_match is None else f" If-Match: {if_match}"
        note(f"  {user or 'anonymous'}: {method} {path}{details}: {response.status_code}")
        assert response.status_code == expect, (response.status_code, response.text)
        return response

    @property
    def current_users(self) -> list[User]:
        return [user for user in self.users if not user.is_removed]

    @property
    def authors(self) -> list[User]:
        # Draws favor the front of a list: reversed, so that a user seldom meets themselves.
        return self.users[::-1]

    @property
    def readers(self) -> list[User | None]:
        return [None, *self.current_users]

    @property
    def weighted_posts(self) -> list[Post]:
        """All posts; the current ones are drawn more often."""
        return [post for post in self.posts for _ in range(1 if post.is_removed else 6)]

    @property
    def weighted_comments(self) -> list[Comment]:
        """All comments; the current ones are drawn more often, placeholders less."""
        return [
            comment
            for comment in self.comments
            for _ in range(1 if comment.is_removed else 6 if comment.content else 2)
        ]

    def answers_to(self, comment: Comment) -> list[Comment]:
        """Return the direct answers."""
        return [one for one in self.comments if one.parent is comment and not one.is_removed]

    def answers_below(self, comment: Comment) -> Iterator[Comment]:
        """Yield all answers, each followed by the answers to it."""
        for answer in self.answers_to(comment):
            yield answer
            yield from self.answers_below(answer)

    def is_listed(self, comment: Comment, reader: User | None) -> bool:
        """Return whether the user sees a comment or a placeholder on a post that they may see."""
        if comment.is_removed:
            return False
        if comment.is_public or comment.post.author is reader:
            return True
        is_own = comment.is_waiting and comment.is_own(reader)
        return is_own or any(self.is_listed(one, reader) for one in self.answers_to(comment))

    def is_visible(self, comment: Comment, reader: User | None) -> bool:
        if reader is not None and comment.author is reader and not comment.is_removed:
            return True
        return comment.post.is_visible_to(reader) and self.is_listed(comment, reader)

    def is_text_visible(self, comment: Comment, reader: User | None) -> bool:
        is_text = comment.content is not None and self.is_visible(comment, reader)
        return is_text and (not comment.is_waiting or comment.is_own(reader))

    def must_wait(self, user: User, post: Post) -> bool:
        """Return whether a text of the user on the post has to wait for approval."""
        is_trusted = post.author is user or any(
            one.is_trust and one.author is user and one.post.author is post.author
            for one in self.comments
            if not one.is_removed
        )
        return self.approves_comments and not is_trusted

    @property
    def approves_comments(self) -> bool:
        settings: Settings = self.app.state.settings
        return settings.comments == "approved"

    def expected_post(self, post: Post) -> Fields:
        comments = [one for one in self.comments if one.post is post and not one.is_removed]
        return {
            "id": post.id,
            "slug": post.slug,
            "title": post.title,
            "content": post.content,
            "content_type": post.content_type,
            "created_at": post.created_at,
            "updated_at": post.updated_at,
            "published_at": post.published_at,
            "user_id": post.author.id,
            "user_name": post.author.name,
            "author": post.author.as_author(),
            "tags": merge_spellings(post.tags),
            "comment_count": sum(one.is_public for one in comments),
            "bookmark_count": sum(post in user.bookmarks for user in self.current_users),
        }

    def expected_comment(self, comment: Comment, reader: User | None) -> Fields:
        if comment.is_waiting and not comment.is_own(reader):
            # The same as a deleted one.
            comment = replace(
                comment,
                author=None,
                content=None,
                is_waiting=False,
                updated_at=comment.created_at,
            )
        return {
            "id": comment.id,
            "post_id": comment.post.id,
            "parent_id": comment.parent and comment.parent.id,
            "depth": comment.depth,
            "user_id": comment.author and comment.author.id,
            "user_name": comment.author and comment.author.name,
            "author": comment.author and comment.author.as_author(),
            "content": comment.content,
            "is_deleted": comment.content is None,
            "is_approved": not comment.is_waiting,
            "answer_count": sum(
                self.is_listed(one, None)
                for one in self.comments
                if one.parent is not None and one.parent.id == comment.id
            ),
            "created_at": comment.created_at,
            "updated_at": comment.updated_at,
        }

    def check_version(self, entity: Versioned, response: Response) -> None:
        """Check that the ETag begins with the version; other ETags may have the same version."""
        etag = response.headers["ETag"]
        assert etag.startswith(f'"{entity.version}-')
        entity.etags[entity.version] = etag

    def record_new_version(self, entity: Versioned, shown: Fields) -> None:
        entity.version += 1
        assert entity.updated_at < shown["updated_at"] <= datetime.now(UTC)
        entity.updated_at = shown["updated_at"]

    def make_if_match(self, entity: Versioned, kind: str | None) -> tuple[str | None, bool]:
        """Return a value of `If-Match`, and whether it matches."""
        fresh = entity.etags[entity.version]
        stale = next((etag for etag in entity.etags.values() if etag != fresh), '"0badcafe"')
        values = {
            None: (None, True),
            "*": ("*", True),
            "fresh": (fresh, True),
            "stale": (stale, False),
            "one of two": (f"{stale}, {fresh}", True),
        }
        return values[kind]
