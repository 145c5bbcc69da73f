"""Random steps that change the blog and its model alike; some responses are checked after each."""

import sys
from datetime import UTC, datetime
from random import Random
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.support.blog_checks import BY_CURSOR, BY_NUMBER, ON_ONE_PAGE, SORTS
from tests.support.blog_model import (
    Comment,
    Fields,
    Post,
    User,
    assert_fields,
    comment_texts,
    draw_from,
    if_match_kinds,
    names,
    parse_times,
    post_bodies,
    post_updates,
    publication_times,
    titles,
)
from tests.support.blog_steps import MAX_DEPTH, MAX_USERS, BlogSteps, resolve_now, set_marked


class BlogMachine(BlogSteps):
    # Check everything at the end instead of a third.
    is_thorough: ClassVar[bool] = False

    # Accounts.

    @initialize(
        seed=st.integers(0, 999),
        names=st.lists(names, min_size=3, max_size=3),
        bodies=st.lists(post_bodies, min_size=3, max_size=4),
    )
    def create_a_blog(self, seed: int, names: list[str], bodies: list[Fields]) -> None:
        # Decides what is checked after a step.
        self.random = Random(seed)
        self.change_setting(self.random.choice(("open", "approved")))
        for name in names:
            self.sign_up(name)
        for number, body in enumerate(bodies):
            self.create_post(self.users[number % 2], body)
            self.write_comment(self.users[number % 2], self.posts[-1], None, "First!")
            self.bookmark(self.users[1:], self.posts[-1])
        for user in self.users[1:]:
            self.follow(user, self.users[0])

    @rule(
        user=draw_from("current_users"),
        action=st.sampled_from(("sign up", "rename", "sign up", "wrong password", "delete")),
        name=names,
    )
    def change_account(self, user: User, action: str, name: str) -> None:
        if action == "sign up" and len(self.current_users) < MAX_USERS:
            self.sign_up(name)
        elif action == "delete" and len(self.current_users) > 1:
            self.delete_account(user)
        elif action == "wrong password":
            body = {"current_password": "wrong horse"}
            self.request(user, "DELETE", "/users/me", json=body, expect=400)
        else:
            self.request(user, "PATCH", "/users/me", json={"name": name}, expect=200)
            user.name = name

    # Posts.

    @rule(user=draw_from("current_users"), body=post_bodies)
    def create_post(self, user: User, body: Fields) -> None:
        body = resolve_now(body)
        before = datetime.now(UTC)
        response = self.request(user, "POST", "/posts", json=body, expect=201)
        shown = parse_times(response.json())
        assert before <= shown["created_at"] <= datetime.now(UTC)
        assert shown["id"] > max((post.id for post in self.posts), default=0)
        if "published_at" not in body:
            assert before <= shown["published_at"] <= datetime.now(UTC)
        post = Post(
            id=shown["id"],
            created_at=shown["created_at"],
            updated_at=shown["created_at"],
            author=user,
            title=body["title"],
            content=body["content"],
            content_type=body.get("content_type", "text/markdown"),
            published_at=parse_times(body).get("published_at", shown["published_at"]),
            tags=body.get("tags", []),
            slug="",
        )
        self.record_slug(post, shown["slug"])
        self.record_tags(post)
        self.posts.append(post)
        self.check_version(post, response)
        assert_fields(shown, self.expected_post(post))
        self.changed_posts = [post]

    @rule(
        post=draw_from("weighted_posts"),
        other=st.none() | draw_from("current_users"),
        update=post_updates,
        kind=if_match_kinds,
    )
    def update_post(
        self, post: Post, other: User | None, update: tuple[str, Fields], kind: str | None
    ) -> None:
        method, body = update
        self.edit_post(post, self.choose_user(post.author, other), method, body, kind)

    @rule(post=draw_from("weighted_posts"), title=titles)
    def change_title(self, post: Post, title: str) -> None:
        user = self.choose_user(post.author, None)
        self.edit_post(post, user, "PATCH", {"title": title}, None)

    @rule(post=draw_from("weighted_posts"), published_at=publication_times)
    def change_publication_time(self, post: Post, published_at: str | None) -> None:
        user = self.choose_user(post.author, None)
        self.edit_post(post, user, "PATCH", {"published_at": published_at}, None)

    @precondition(lambda self: sum(not post.is_removed for post in self.posts) > 2)
    @rule(post=draw_from("weighted_posts"), user=draw_from("current_users"), kind=if_match_kinds)
    def delete_post(self, post: Post, user: User, kind: str | None) -> None:
        if_match, is_match = self.make_if_match(post, kind)
        error = self.find_post_error(post, user, is_match)
        path = f"/posts/{post.id}"
        self.request(user, "DELETE", path, if_match=if_match, expect=error or 204)
        self.changed_posts = [post]
        if not error:
            self.remove_post(post)

    # Comments.

    @rule(post=draw_from("weighted_posts"), user=draw_from("current_users"), content=comment_texts)
    def comment_on_post(self, post: Post, user: User, content: str) -> None:
        self.write_comment(user, post, None, content)

    @rule(
        comment=draw_from("weighted_comments"),
        other_post=st.none() | draw_from("posts"),
        user=draw_from("current_users"),
        content=comment_texts,
    )
    def answer_comment(
        self, comment: Comment, other_post: Post | None, user: User, content: str
    ) -> None:
        self.write_comment(user, other_post or comment.post, comment, content)

    @rule(
        comment=draw_from("weighted_comments"),
        users=st.lists(draw_from("current_users"), min_size=2, max_size=MAX_DEPTH + 2),
    )
    def answer_repeatedly(self, comment: Comment, users: list[User]) -> None:
        last: Comment | None = comment
        for user in users:
            if last:
                last = self.write_comment(user, comment.post, last, "And?")

    @rule(
        comment=draw_from("weighted_comments"),
        other=st.none() | draw_from("current_users"),
        content=comment_texts,
        kind=if_match_kinds,
    )
    def update_comment(
        self, comment: Comment, other: User | None, content: str, kind: str | None
    ) -> None:
        user = self.choose_user(comment.author, other)
        if_match, is_match = self.make_if_match(comment, kind)
        error = self.find_comment_error(comment, user, (comment.author,), is_match)
        path, body = f"/comments/{comment.id}", {"content": content}
        response = self.request(
            user, "PATCH", path, json=body, if_match=if_match, expect=error or 200
        )
        self.changed_posts = [comment.post]
        if error:
            return
        shown = parse_times(response.json())
        if content != comment.content:
            comment.content = content
            comment.is_waiting |= self.must_wait(user, comment.post)
            self.record_new_version(comment, shown)
        self.check_version(comment, response)
        assert_fields(shown, self.expected_comment(comment, user))

    @rule(
        comment=draw_from("weighted_comments"),
        other=st.none() | draw_from("current_users"),
        method=st.sampled_from(("PUT", "DELETE")),
        kind=if_match_kinds,
    )
    def approve_comment(
        self, comment: Comment, other: User | None, method: str, kind: str | None
    ) -> None:
        user = self.choose_user(comment.post.author, other)
        if_match, is_match = self.make_if_match(comment, kind)
        error = self.find_comment_error(comment, user, (comment.post.author,), is_match)
        path = f"/comments/{comment.id}/approval"
        response = self.request(user, method, path, if_match=if_match, expect=error or 200)
        self.changed_posts = [comment.post]
        if not error:
            comment.is_trust = method == "PUT"
            comment.is_waiting = method == "DELETE"
            self.check_version(comment, response)
            assert_fields(response.json(), self.expected_comment(comment, user))

    @rule(comments=st.sampled_from(("open", "approved")))
    def change_setting(self, comments: str) -> None:
        self.app.state.settings = self.app.state.settings.model_copy(update={"comments": comments})

    @rule(
        comment=draw_from("weighted_comments"),
        other=st.none() | draw_from("current_users"),
        kind=if_match_kinds,
    )
    def delete_comment(self, comment: Comment, other: User | None, kind: str | None) -> None:
        user = self.choose_user(comment.author, other)
        if_match, is_match = self.make_if_match(comment, kind)
        owners = (comment.author, comment.post.author)
        error = self.find_comment_error(comment, user, owners, is_match)
        path = f"/comments/{comment.id}"
        self.request(user, "DELETE", path, if_match=if_match, expect=error or 204)
        self.changed_posts = [comment.post]
        if error:
            return
        self.remove_comment(comment)

    # Follows and bookmarks.

    @rule(user=draw_from("current_users"), author=draw_from("authors"), is_wanted=st.booleans())
    def follow(self, user: User, author: User, is_wanted: bool = True) -> None:
        expect = 204
        if is_wanted:
            expect = 400 if user is author else 404 if author.is_removed else 204
        method = "PUT" if is_wanted else "DELETE"
        self.request(user, method, f"/users/me/following/{author.id}", expect=expect)
        if expect == 204:
            set_marked(user.following, author, is_wanted)

    @rule(
        users=st.lists(draw_from("current_users"), min_size=1, max_size=3),
        post=draw_from("weighted_posts"),
        is_wanted=st.booleans(),
    )
    def bookmark(self, users: list[User], post: Post, is_wanted: bool = True) -> None:
        self.changed_posts = [post]
        for user in users:
            expect = 204 if post.is_visible_to(user) or not is_wanted else 404
            method = "PUT" if is_wanted else "DELETE"
            self.request(user, method, f"/users/me/bookmarks/{post.id}", expect=expect)
            if expect == 204:
                set_marked(user.bookmarks, post, is_wanted)

    # Checks.

    @invariant()
    def check_some_responses(self) -> None:
        """Check the changed posts and something else, each as a random user."""
        for post in self.changed_posts:
            for reader in (post.author, self.random.choice(self.readers)):
                if reader is None or not reader.is_removed:
                    self.check_post(reader, post)
        reader = self.random.choice(self.readers)
        paging = self.random.choice((BY_CURSOR, BY_NUMBER))
        kind = self.random.choice(("list", "filter", "single"))
        if kind == "list":
            checks = [*self.list_checks(reader, SORTS, paging)]
        elif kind == "filter":
            checks = [*self.filter_checks(reader, paging)]
        else:
            checks = [*self.single_checks(reader)]
        self.random.choice(checks)()

    def teardown(self) -> None:
        """Check a third of the responses to one user; all and those of others if thorough."""
        if sys.exc_info()[0] is not None:
            return
        main_reader = self.random.choice(self.readers)
        for reader in self.readers if self.is_thorough else (main_reader,):
            is_main = reader is main_reader
            paging = self.random.choice((BY_CURSOR, BY_NUMBER)) if is_main else ON_ONE_PAGE
            checks = [
                *self.list_checks(reader, SORTS if is_main else SORTS[:1], paging),
                *self.filter_checks(reader, ON_ONE_PAGE),
                *self.single_checks(reader),
            ]
            if not (self.is_thorough and is_main):
                checks = self.random.sample(checks, len(checks) // 3)
            for check in checks:
                check()
