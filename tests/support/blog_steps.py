"""Steps that change the service and its model alike, and check the response."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from tests.support.blog_checks import BlogChecks
from tests.support.blog_model import (
    NOW,
    TAGS,
    TITLES,
    Comment,
    Entity,
    Fields,
    Post,
    User,
    assert_fields,
    is_slug_of,
    parse_times,
)
from tests.support.clients import PASSWORD

MAX_USERS = 4
MAX_DEPTH = 8


def resolve_now(body: Fields) -> Fields:
    if body.get("published_at") == NOW:
        return body | {"published_at": datetime.now(UTC).isoformat()}
    return body


def set_marked(marked: list[Any], entity: Entity, is_wanted: bool) -> None:
    """Add the entity to the list, or remove it. Idempotent."""
    if is_wanted and entity not in marked:
        marked.append(entity)
    elif not is_wanted and entity in marked:
        marked.remove(entity)


class BlogSteps(BlogChecks):
    # Accounts.

    def sign_up(self, name: str) -> None:
        taken = {user.email for user in self.current_users}
        emails = [f"{number}@example.com" for number in range(MAX_USERS)]
        email = next(email for email in emails if email not in taken)
        body = {"email": email, "name": name, "password": PASSWORD}
        account = parse_times(self.request(None, "POST", "/sign-up", json=body, expect=200).json())
        assert account["id"] > max((user.id for user in self.users), default=0)
        self.users.append(
            User(
                id=account["id"],
                email=email,
                token=account["token"]["access_token"],
                name=name,
                username=account["username"],
                created_at=account["created_at"],
            )
        )

    def delete_account(self, user: User) -> None:
        body = {"current_password": PASSWORD}
        self.request(user, "DELETE", "/users/me", json=body, expect=204)
        self.request(user, "GET", "/users/me", expect=401)
        user.is_removed = True
        for post in self.posts:
            if post.author is user:
                self.remove_post(post)
        # Answers before the comments that they answer.
        for comment in reversed(self.comments):
            if comment.author is user and not comment.is_removed:
                self.remove_comment(comment)
        for other in self.users:
            other.following = [author for author in other.following if author is not user]

    # Posts.

    def edit_post(
        self, post: Post, user: User, method: str, body: Fields, kind: str | None
    ) -> None:
        body = resolve_now(body)
        if_match, is_match = self.make_if_match(post, kind)
        error = self.find_post_error(post, user, is_match)
        path = f"/posts/{post.id}"
        response = self.request(
            user, method, path, json=body, if_match=if_match, expect=error or 200
        )
        self.changed_posts = [post]
        if error:
            return
        shown = parse_times(response.json())
        self.leave_slug(post)
        before = post.sent_values
        old_title = post.title
        for name, value in parse_times(body).items():
            setattr(post, name, value)
        if TITLES[post.title] != TITLES[old_title]:
            self.record_slug(post, shown["slug"])
        self.record_tags(post)
        if before != post.sent_values:
            self.record_new_version(post, shown)
        self.check_version(post, response)
        assert_fields(shown, self.expected_post(post))

    def record_slug(self, post: Post, slug: str) -> None:
        """Check the slug that a post got for its title, and record it."""
        plain = TITLES[post.title]
        own = [one for one, of in self.slugs.items() if of is post and is_slug_of(one, post.title)]
        if plain in own or plain not in self.slugs:
            assert slug == plain
        elif own:
            assert slug in own
        else:
            assert is_slug_of(slug, post.title)
            assert slug not in self.slugs
        self.slugs[slug] = post
        post.slug = slug

    def leave_slug(self, post: Post) -> None:
        """Record that the post was public under its slug, before it is changed or removed."""
        if post.is_published:
            self.public_slugs.add(post.slug)

    def record_tags(self, post: Post) -> None:
        rank = len(self.tags)
        for tag in post.tags:
            self.tags.setdefault(TAGS[tag], rank)

    def find_post_error(self, post: Post, user: User, is_match: bool) -> int | None:
        """Return the status of the error if the user may not change the post."""
        if not post.is_visible_to(user):
            return 404
        if post.author is not user:
            return 403
        return None if is_match else 412

    def remove_post(self, post: Post) -> None:
        self.leave_slug(post)
        post.is_removed = True
        for slug, of in list(self.slugs.items()):
            if of is post and slug not in self.public_slugs:
                del self.slugs[slug]
        for comment in self.comments:
            comment.is_removed |= comment.post is post
        for user in self.users:
            with suppress(ValueError):
                user.bookmarks.remove(post)

    # Comments.

    def write_comment(
        self, user: User, post: Post, parent: Comment | None, content: str
    ) -> Comment | None:
        """Comment on a post, or answer a comment; None if that is rejected."""
        expect = 201
        if not post.is_visible_to(user):
            expect = 404
        elif parent is not None:
            if parent.post is not post or not self.is_text_visible(parent, user):
                expect = 404
            elif parent.depth == MAX_DEPTH:
                expect = 400
        body: Fields = {"content": content}
        if parent is not None:
            body["parent_id"] = parent.id
        path = f"/posts/{post.id}/comments"
        response = self.request(user, "POST", path, json=body, expect=expect)
        self.changed_posts = [post]
        if expect != 201:
            return None
        shown = parse_times(response.json())
        assert shown["id"] > max((comment.id for comment in self.comments), default=0)
        comment = Comment(
            id=shown["id"],
            created_at=shown["created_at"],
            updated_at=shown["created_at"],
            post=post,
            parent=parent,
            author=user,
            content=content,
            is_waiting=self.must_wait(user, post),
        )
        self.comments.append(comment)
        self.check_version(comment, response)
        assert_fields(shown, self.expected_comment(comment, user))
        return comment

    def find_comment_error(
        self, comment: Comment, user: User, owners: Iterable[User | None], is_match: bool
    ) -> int | None:
        """Return the status of the error if the user may not change the comment."""
        if not self.is_text_visible(comment, user):
            return 404
        if user not in owners:
            return 403
        return None if is_match else 412

    def remove_comment(self, comment: Comment) -> None:
        if self.answers_to(comment):
            self.make_placeholder(comment)
            return
        removed: Comment | None = comment
        while removed is not None:
            removed.is_removed = True
            removed = removed.parent
            # A placeholder is removed with its last answer.
            if removed and (removed.content is not None or self.answers_to(removed)):
                return

    def make_placeholder(self, comment: Comment) -> None:
        """Remove author and content. Whether the version changes is not part of the contract."""
        comment.author = comment.content = None
        comment.is_waiting = comment.is_trust = False
        reader = comment.post.author
        response = self.request(reader, "GET", f"/comments/{comment.id}", expect=200)
        updated_at = parse_times(response.json())["updated_at"]
        version = int(response.headers["ETag"].strip('"').partition("-")[0])
        assert updated_at >= comment.updated_at
        assert version >= comment.version
        comment.updated_at, comment.version = updated_at, version
        self.check_version(comment, response)

    def choose_user(self, author: User | None, other: User | None) -> User:
        """Return the other user if there is one; else the author, or the last user."""
        if other is not None:
            return other
        return author if author in self.current_users else self.current_users[-1]
