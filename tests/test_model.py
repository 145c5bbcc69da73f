"""The service against a plain model of it: both are told the same, and have to show the same."""

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any, ClassVar

import anyio.from_thread
import anyio.to_thread
from fastapi import FastAPI
from httpx import AsyncClient, Response
from hypothesis import HealthCheck, Phase, note, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlmodel import delete

from blog_api.db.base import TableBase
from tests.support.clients import PASSWORD, client_of

# The same few runs each time, or as many others as are asked for, which look at much more.
RUNS = int(os.environ.get("MODEL_RUNS", "0"))
# One with which few runs do much of what there is to do.
SEED = 24
HOW = hypothesis_settings(
    max_examples=RUNS or 6,
    stateful_step_count=40 if RUNS else 20,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    phases=(Phase.generate, Phase.shrink),
    # Each step is some requests, and takes its time.
    suppress_health_check=[HealthCheck.too_slow],
)

MOST_PEOPLE = 4
DEEPEST = 8
ANSWERS_SHOWN = 20

NAMES = ("Ann", "Bob", "Cem", "Dee")
# What they become: by hand, so that the model knows it by no code of ours. Some become the same.
TITLES = {
    "Tea": "tea",
    "tea!": "tea",
    "Tea time": "tea-time",
    "Chai": "chai",
    "Чай": "chai",
    "…": "post",
    "Tea 0badcafe": "tea-0badcafe",
}
CONTENTS = {"One": "<p>One</p>\n", "*Two*": "<p><em>Two</em></p>\n"}
TAGS = {
    "Tea": "tea",
    "TEA": "tea",
    " tea ": "tea",
    "Straße": "strasse",
    "STRASSE": "strasse",
    "①": "1",
    "1": "1",
}
NOW = "now"
TIMES = (
    NOW,
    None,
    "2015-05-15T12:00:00Z",
    "2015-05-15T14:00:00+02:00",
    "2019-09-19T19:19:19.191919Z",
    "2999-12-31T23:59:59Z",
)
REMARKS = ("Yes.", "No.")
SORTS = ("-published_at", "published_at", "-updated_at", "updated_at")
# To walk by cursor, and back by `Link`; by page number; to ask for all at once.
CURSOR, NUMBER, WHOLE = "cursor", "number", "whole"


# The model: what there is, and what is to be seen of it.


@dataclass(eq=False, repr=False)
class Thing:
    id: int

    def __repr__(self) -> str:
        return f"{type(self).__name__.lower()} {self.id}"

    def _repr_pretty_(self, printer: Any, _is_cycle: bool) -> None:
        # Hypothesis would show every field otherwise.
        printer.text(repr(self))


@dataclass(eq=False, repr=False)
class Person(Thing):
    email: str
    token: str
    name: str
    created_at: datetime
    follows: list["Person"] = field(default_factory=list)
    # In the order in which they were made.
    bookmarks: list["Post"] = field(default_factory=list)
    is_gone: bool = False


@dataclass(eq=False, repr=False)
class Written(Thing):
    """What has versions, and the ETags by which its readers know these."""

    created_at: datetime
    updated_at: datetime
    version: int = 1
    etags: dict[int, str] = field(default_factory=dict)
    is_gone: bool = False


@dataclass(eq=False, repr=False, kw_only=True)
class Post(Written):
    author: Person
    title: str
    content: str
    published_at: datetime | None
    tags: list[str]
    slug: str

    @property
    def tag_keys(self) -> set[str]:
        return {TAGS[tag] for tag in self.tags}

    @property
    def is_published(self) -> bool:
        if self.is_gone or self.published_at is None:
            return False
        return self.published_at <= datetime.now(UTC)

    def is_shown_to(self, reader: Person | None) -> bool:
        return not self.is_gone and (self.is_published or self.author is reader)


@dataclass(eq=False, repr=False, kw_only=True)
class Comment(Written):
    post: Post
    parent: "Comment | None"
    # Without both where it only keeps its place.
    author: Person | None
    content: str | None

    @property
    def depth(self) -> int:
        return self.parent.depth + 1 if self.parent else 0

    def is_shown_to(self, reader: Person | None) -> bool:
        return not self.is_gone and self.post.is_shown_to(reader)


Fields = dict[str, Any]
# Drawn once the machine is there, from what is there by then.
HERE = st.runner()


def one_of_the(what: str) -> st.SearchStrategy[Any]:
    return HERE.flatmap(lambda machine: st.sampled_from(getattr(machine, what)))


some_tags = st.lists(st.sampled_from(sorted(TAGS)), max_size=3)
needed = {"title": st.sampled_from(sorted(TITLES)), "content": st.sampled_from(sorted(CONTENTS))}
optional = {"published_at": st.sampled_from(TIMES), "tags": some_tags}
whole_posts = st.fixed_dictionaries(needed, optional=optional)
changes_of_posts = st.one_of(
    st.tuples(st.just("PUT"), whole_posts),
    st.tuples(st.just("PATCH"), st.fixed_dictionaries({}, optional=needed | optional)),
)
matches = st.sampled_from((None, None, "fresh", "stale", "one of two", "*"))
names = st.sampled_from(NAMES)
remarks = st.sampled_from(REMARKS)


def once_each(tags: Iterable[str]) -> list[str]:
    """The tags as they are kept: each once, as it was written first."""
    found: dict[str, str] = {}
    for tag in tags:
        found.setdefault(TAGS[tag], tag.strip())
    return list(found.values())


def fits(slug: str, title: str) -> bool:
    return re.fullmatch(f"{TITLES[title]}(-[0-9a-f]{{8}})?", slug) is not None


def parsed(shown: Fields) -> Fields:
    """What is shown, with times that can be compared."""
    times = {
        name: datetime.fromisoformat(value)
        for name, value in shown.items()
        if name.endswith("_at") and isinstance(value, str)
    }
    return shown | times


def check_shown(shown: Fields, expected: Fields) -> None:
    shown = parsed(shown)
    assert {name: shown.get(name, "nothing") for name in expected} == expected


def links_of(response: Response) -> dict[str, str]:
    return {rel or "": link["url"] for rel, link in response.links.items()}


class Blog(RuleBasedStateMachine):
    """People who do this and that; after each step some of what they see is looked at."""

    app: ClassVar[FastAPI]
    client: ClassVar[AsyncClient]

    def __init__(self) -> None:
        super().__init__()
        # All that there ever was.
        self.people: list[Person] = []
        self.posts: list[Post] = []
        self.comments: list[Comment] = []
        self.slugs: dict[str, Post] = {}
        # The name of each tag, and when that was.
        self.tags: dict[str, tuple[str, int]] = {}
        self.touched: list[Post] = []
        self.random = Random(0)
        anyio.from_thread.run(self.empty)

    async def empty(self) -> None:
        async with self.app.state.database.session(writes=True) as session:
            for table in reversed(TableBase.metadata.sorted_tables):
                await session.exec(delete(table))

    def ask(
        self,
        who: Person | None,
        method: str,
        path: str,
        *,
        expect: int,
        json: Fields | None = None,
        match: str | None = None,
    ) -> Response:
        headers = {"Authorization": f"Bearer {who.token}"} if who else {}
        if match is not None:
            headers["If-Match"] = match
        send = partial(self.client.request, method, path, json=json, headers=headers)
        response = anyio.from_thread.run(send)
        told = "" if json is None else f" {json}"
        told += "" if match is None else f" If-Match: {match}"
        note(f"  {who or 'anonymous'}: {method} {path}{told}: {response.status_code}")
        assert response.status_code == expect, (response.status_code, response.text)
        return response

    # What is derived.

    @property
    def present(self) -> list[Person]:
        return [person for person in self.people if not person.is_gone]

    @property
    def authors(self) -> list[Person]:
        # Those who came last first: who is drawn twice is drawn from the same end.
        return self.people[::-1]

    @property
    def choice_of_posts(self) -> list[Post]:
        """All, and most of all those that there still are."""
        return [post for post in self.posts for _ in range(1 if post.is_gone else 6)]

    @property
    def choice_of_comments(self) -> list[Comment]:
        """All, and most of all those that say something still."""
        return [
            one
            for one in self.comments
            for _ in range(1 if one.is_gone else 6 if one.content else 2)
        ]

    @property
    def readers(self) -> list[Person | None]:
        return [None, *self.present]

    def answers_to(self, comment: Comment) -> list[Comment]:
        return [one for one in self.comments if one.parent is comment and not one.is_gone]

    def answers_below(self, comment: Comment) -> Iterator[Comment]:
        for answer in self.answers_to(comment):
            yield answer
            yield from self.answers_below(answer)

    def post_as_shown(self, post: Post) -> Fields:
        comments = [one for one in self.comments if one.post is post and not one.is_gone]
        return {
            "id": post.id,
            "slug": post.slug,
            "title": post.title,
            "content": post.content,
            "created_at": post.created_at,
            "updated_at": post.updated_at,
            "published_at": post.published_at,
            "user_id": post.author.id,
            "user_name": post.author.name,
            "tags": once_each(post.tags),
            "comment_count": sum(one.content is not None for one in comments),
            "bookmark_count": sum(post in person.bookmarks for person in self.present),
        }

    def comment_as_shown(self, comment: Comment) -> Fields:
        return {
            "id": comment.id,
            "post_id": comment.post.id,
            "parent_id": comment.parent and comment.parent.id,
            "depth": comment.depth,
            "user_id": comment.author and comment.author.id,
            "user_name": comment.author and comment.author.name,
            "content": comment.content,
            "is_deleted": comment.content is None,
            "answer_count": len(self.answers_to(comment)),
            "created_at": comment.created_at,
            "updated_at": comment.updated_at,
        }

    def check_version(self, written: Written, response: Response) -> None:
        """That the ETag begins with the version; others may come to stand for it too."""
        etag = response.headers["ETag"]
        assert etag.startswith(f'"{written.version}-')
        written.etags[written.version] = etag

    def match_of(self, written: Written, kind: str | None) -> tuple[str | None, bool]:
        """What to send as `If-Match`, and whether it lets the change pass."""
        fresh = written.etags[written.version]
        stale = next((etag for etag in written.etags.values() if etag != fresh), '"0badcafe"')
        sent = {
            None: (None, True),
            "*": ("*", True),
            "fresh": (fresh, True),
            "stale": (stale, False),
            "one of two": (f"{stale}, {fresh}", True),
        }
        return sent[kind]

    # Accounts.

    @initialize(
        seed=st.integers(0, 999),
        names=st.lists(names, min_size=3, max_size=3),
        bodies=st.lists(whole_posts, min_size=3, max_size=4),
    )
    def begin(self, seed: int, names: list[str], bodies: list[Fields]) -> None:
        # Where to look after a step.
        self.random = Random(seed)
        for name in names:
            self.sign_up(name)
        for number, body in enumerate(bodies):
            self.write(self.people[number % 2], body)
            self.say(self.people[number % 2], self.posts[-1], None, "First!")
            self.bookmark(self.people[1:], self.posts[-1])
        for person in self.people[1:]:
            self.follow(person, self.people[0])

    @rule(
        who=one_of_the("present"),
        what=st.sampled_from(("sign up", "rename", "sign up", "nearly leave", "leave")),
        name=names,
    )
    def keep_an_account(self, who: Person, what: str, name: str) -> None:
        if what == "sign up" and len(self.present) < MOST_PEOPLE:
            self.sign_up(name)
        elif what == "leave" and len(self.present) > 1:
            self.release(who)
        elif what == "nearly leave":
            body = {"current_password": "wrong horse"}
            self.ask(who, "DELETE", "/users/me", json=body, expect=400)
        else:
            self.ask(who, "PATCH", "/users/me", json={"name": name}, expect=200)
            who.name = name

    def sign_up(self, name: str) -> None:
        taken = {person.email for person in self.present}
        addresses = [f"{number}@example.com" for number in range(MOST_PEOPLE)]
        email = next(address for address in addresses if address not in taken)
        body = {"email": email, "name": name, "password": PASSWORD}
        account = parsed(self.ask(None, "POST", "/sign-up", json=body, expect=200).json())
        assert account["id"] > max((person.id for person in self.people), default=0)
        self.people.append(
            Person(
                id=account["id"],
                email=email,
                token=account["token"]["access_token"],
                name=name,
                created_at=account["created_at"],
            )
        )

    def release(self, who: Person) -> None:
        body = {"current_password": PASSWORD}
        self.ask(who, "DELETE", "/users/me", json=body, expect=204)
        self.ask(who, "GET", "/users/me", expect=401)
        who.is_gone = True
        for post in self.posts:
            if post.author is who:
                self.forget(post)
        for comment in self.comments:
            if comment.author is who and not comment.is_gone:
                self.blank(comment)
        for person in self.people:
            person.follows = [author for author in person.follows if author is not who]

    # Posts.

    def settle_slug(self, post: Post, slug: str) -> None:
        """Take note of the slug that a post got for its title, if it may have that."""
        plain = TITLES[post.title]
        own = [one for one, of in self.slugs.items() if of is post and fits(one, post.title)]
        if plain in own or plain not in self.slugs:
            assert slug == plain
        elif own:
            assert slug in own
        else:
            assert fits(slug, post.title)
            assert slug not in self.slugs
        self.slugs[slug] = post
        post.slug = slug

    def settle_tags(self, post: Post) -> None:
        rank = len(self.tags)
        for tag in post.tags:
            self.tags.setdefault(TAGS[tag], (tag.strip(), rank))

    def sent(self, body: Fields) -> Fields:
        if body.get("published_at") == NOW:
            return body | {"published_at": datetime.now(UTC).isoformat()}
        return body

    @rule(who=one_of_the("present"), body=whole_posts)
    def write(self, who: Person, body: Fields) -> None:
        body = self.sent(body)
        before = datetime.now(UTC)
        response = self.ask(who, "POST", "/posts", json=body, expect=201)
        shown = parsed(response.json())
        assert before <= shown["created_at"] <= datetime.now(UTC)
        assert shown["id"] > max((post.id for post in self.posts), default=0)
        if "published_at" not in body:
            assert before <= shown["published_at"] <= datetime.now(UTC)
        post = Post(
            id=shown["id"],
            created_at=shown["created_at"],
            updated_at=shown["created_at"],
            author=who,
            title=body["title"],
            content=body["content"],
            published_at=parsed(body).get("published_at", shown["published_at"]),
            tags=body.get("tags", []),
            slug="",
        )
        self.settle_slug(post, shown["slug"])
        self.settle_tags(post)
        self.posts.append(post)
        self.check_version(post, response)
        check_shown(shown, self.post_as_shown(post))
        self.touched = [post]

    def refusal(self, post: Post, who: Person, passes: bool) -> int | None:
        """How a change of a post is refused."""
        if not post.is_shown_to(who):
            return 404
        if post.author is not who:
            return 403
        return None if passes else 412

    @rule(
        post=one_of_the("choice_of_posts"),
        by=st.none() | one_of_the("present"),
        change=changes_of_posts,
        match=matches,
    )
    def change(
        self, post: Post, by: Person | None, change: tuple[str, Fields], match: str | None
    ) -> None:
        method, body = change
        self.edit(post, self.author_or(post.author, by), method, body, match)

    @rule(post=one_of_the("choice_of_posts"), title=st.sampled_from(sorted(TITLES)))
    def retitle(self, post: Post, title: str) -> None:
        self.edit(post, self.author_or(post.author, None), "PATCH", {"title": title}, None)

    @rule(post=one_of_the("choice_of_posts"), published_at=st.sampled_from(TIMES))
    def reschedule(self, post: Post, published_at: str | None) -> None:
        body = {"published_at": published_at}
        self.edit(post, self.author_or(post.author, None), "PATCH", body, None)

    def edit(self, post: Post, who: Person, method: str, body: Fields, match: str | None) -> None:
        body = self.sent(body)
        if_match, passes = self.match_of(post, match)
        refusal = self.refusal(post, who, passes)
        response = self.ask(
            who, method, f"/posts/{post.id}", json=body, match=if_match, expect=refusal or 200
        )
        self.touched = [post]
        if refusal:
            return
        shown = parsed(response.json())
        before = (post.title, post.content, post.published_at, once_each(post.tags))
        old_title = post.title
        for name, value in parsed(body).items():
            setattr(post, name, value)
        if TITLES[post.title] != TITLES[old_title]:
            self.settle_slug(post, shown["slug"])
        self.settle_tags(post)
        if before != (post.title, post.content, post.published_at, once_each(post.tags)):
            self.revise(post, shown)
        self.check_version(post, response)
        check_shown(shown, self.post_as_shown(post))

    def revise(self, written: Written, shown: Fields) -> None:
        written.version += 1
        assert written.updated_at < shown["updated_at"] <= datetime.now(UTC)
        written.updated_at = shown["updated_at"]

    def author_or(self, author: Person | None, other: Person | None) -> Person:
        """The author, if nobody else is named and they are still there."""
        if other is not None:
            return other
        return author if author in self.present else self.present[-1]

    @precondition(lambda self: sum(not post.is_gone for post in self.posts) > 2)
    @rule(post=one_of_the("choice_of_posts"), who=one_of_the("present"), match=matches)
    def delete_post(self, post: Post, who: Person, match: str | None) -> None:
        if_match, passes = self.match_of(post, match)
        refusal = self.refusal(post, who, passes)
        self.ask(who, "DELETE", f"/posts/{post.id}", match=if_match, expect=refusal or 204)
        self.touched = [post]
        if not refusal:
            self.forget(post)

    def forget(self, post: Post) -> None:
        post.is_gone = True
        for comment in self.comments:
            comment.is_gone |= comment.post is post
        for person in self.people:
            with suppress(ValueError):
                person.bookmarks.remove(post)

    # Comments.

    def say(self, who: Person, post: Post, parent: Comment | None, content: str) -> Comment | None:
        """Comment on a post, or answer a comment; None if that is refused."""
        expect = 201
        if not post.is_shown_to(who):
            expect = 404
        elif parent is not None:
            if parent.is_gone or parent.post is not post or parent.content is None:
                expect = 404
            elif parent.depth == DEEPEST:
                expect = 400
        body: Fields = {"content": content}
        if parent is not None:
            body["parent_id"] = parent.id
        response = self.ask(who, "POST", f"/posts/{post.id}/comments", json=body, expect=expect)
        self.touched = [post]
        if expect != 201:
            return None
        shown = parsed(response.json())
        assert shown["id"] > max((one.id for one in self.comments), default=0)
        comment = Comment(
            id=shown["id"],
            created_at=shown["created_at"],
            updated_at=shown["created_at"],
            post=post,
            parent=parent,
            author=who,
            content=content,
        )
        self.comments.append(comment)
        self.check_version(comment, response)
        check_shown(shown, self.comment_as_shown(comment))
        return comment

    @rule(post=one_of_the("choice_of_posts"), who=one_of_the("present"), content=remarks)
    def remark(self, post: Post, who: Person, content: str) -> None:
        self.say(who, post, None, content)

    @rule(
        comment=one_of_the("choice_of_comments"),
        on=st.none() | one_of_the("posts"),
        who=one_of_the("present"),
        content=remarks,
    )
    def answer(self, comment: Comment, on: Post | None, who: Person, content: str) -> None:
        self.say(who, on or comment.post, comment, content)

    @rule(
        comment=one_of_the("choice_of_comments"),
        people=st.lists(one_of_the("present"), min_size=2, max_size=DEEPEST + 2),
    )
    def discuss(self, comment: Comment, people: list[Person]) -> None:
        answered: Comment | None = comment
        for person in people:
            if answered:
                answered = self.say(person, comment.post, answered, "And?")

    def refusal_of_comment(
        self, comment: Comment, who: Person, owners: Iterable[Person | None], passes: bool
    ) -> int | None:
        """How a change of a comment is refused."""
        if not comment.is_shown_to(who) or comment.content is None:
            return 404
        if who not in owners:
            return 403
        return None if passes else 412

    @rule(
        comment=one_of_the("choice_of_comments"),
        by=st.none() | one_of_the("present"),
        content=remarks,
        match=matches,
    )
    def reword(self, comment: Comment, by: Person | None, content: str, match: str | None) -> None:
        who = self.author_or(comment.author, by)
        if_match, passes = self.match_of(comment, match)
        refusal = self.refusal_of_comment(comment, who, (comment.author,), passes)
        path = f"/comments/{comment.id}"
        response = self.ask(
            who, "PATCH", path, json={"content": content}, match=if_match, expect=refusal or 200
        )
        self.touched = [comment.post]
        if refusal:
            return
        shown = parsed(response.json())
        if content != comment.content:
            comment.content = content
            self.revise(comment, shown)
        self.check_version(comment, response)
        check_shown(shown, self.comment_as_shown(comment))

    @rule(
        comment=one_of_the("choice_of_comments"),
        by=st.none() | one_of_the("present"),
        match=matches,
    )
    def unsay(self, comment: Comment, by: Person | None, match: str | None) -> None:
        who = self.author_or(comment.author, by)
        if_match, passes = self.match_of(comment, match)
        owners = (comment.author, comment.post.author)
        refusal = self.refusal_of_comment(comment, who, owners, passes)
        path = f"/comments/{comment.id}"
        self.ask(who, "DELETE", path, match=if_match, expect=refusal or 204)
        self.touched = [comment.post]
        if refusal:
            return
        if self.answers_to(comment):
            self.blank(comment)
            return
        gone: Comment | None = comment
        while gone is not None:
            gone.is_gone = True
            gone = gone.parent
            # Whatever keeps its place for answers alone.
            if gone is not None and (gone.content is not None or self.answers_to(gone)):
                return

    def blank(self, comment: Comment) -> None:
        """Let a comment keep its place only. What this does to its version is not promised."""
        comment.author = comment.content = None
        reader = comment.post.author
        response = self.ask(reader, "GET", f"/comments/{comment.id}", expect=200)
        updated_at = parsed(response.json())["updated_at"]
        version = int(response.headers["ETag"].strip('"').partition("-")[0])
        assert updated_at >= comment.updated_at
        assert version >= comment.version
        comment.updated_at, comment.version = updated_at, version
        self.check_version(comment, response)

    # Follows and bookmarks.

    @rule(who=one_of_the("present"), author=one_of_the("authors"), is_wanted=st.booleans())
    def follow(self, who: Person, author: Person, is_wanted: bool = True) -> None:
        expect = 204
        if is_wanted:
            expect = 400 if who is author else 404 if author.is_gone else 204
        method = "PUT" if is_wanted else "DELETE"
        self.ask(who, method, f"/users/me/following/{author.id}", expect=expect)
        if expect == 204:
            self.mark(who.follows, author, is_wanted)

    @rule(
        who=st.lists(one_of_the("present"), min_size=1, max_size=3),
        post=one_of_the("choice_of_posts"),
        is_wanted=st.booleans(),
    )
    def bookmark(self, who: list[Person], post: Post, is_wanted: bool = True) -> None:
        self.touched = [post]
        for person in who:
            expect = 204 if post.is_shown_to(person) or not is_wanted else 404
            method = "PUT" if is_wanted else "DELETE"
            self.ask(person, method, f"/users/me/bookmarks/{post.id}", expect=expect)
            if expect == 204:
                self.mark(person.bookmarks, post, is_wanted)

    def mark(self, marked: list[Any], one: Thing, is_wanted: bool) -> None:
        """Note what is followed or bookmarked. Once more makes no difference."""
        if is_wanted and one not in marked:
            marked.append(one)
        elif not is_wanted and one in marked:
            marked.remove(one)

    # What is seen.

    def walk(
        self, reader: Person | None, path: str, way: str, total: int, **params: object
    ) -> list[Fields]:
        """All that a list shows: page by page, or at once."""
        size = 100 if way == WHOLE else 2
        query = "&".join(f"{name}={value}" for name, value in params.items())
        first = f"{path}?size={size}" + (f"&{query}" if query else "")
        pages: list[list[Fields]] = []

        def look(address: str) -> tuple[Fields, dict[str, str]]:
            response = self.ask(reader, "GET", address, expect=200)
            page = response.json()
            assert page["total_count"] == total
            return page, links_of(response)

        page, links = look(first)
        pages.append(page["results"])
        while page["next_cursor"] if way == CURSOR else links.get("next"):
            assert len(page["results"]) == size
            if way == CURSOR:
                assert "next" in links
                page, links = look(f"{first}&cursor={page['next_cursor']}")
            else:
                page, links = look(f"{first}&page={len(pages) + 1}")
            pages.append(page["results"])
        assert page["next_cursor"] is None
        assert "next" not in links
        if way == CURSOR:
            for before in reversed(pages[:-1]):
                page, links = look(links["prev"])
                assert page["results"] == before
            assert "prev" not in links
        elif way == NUMBER:
            page, _ = look(f"{first}&page={len(pages) + 1}")
            assert (page["results"], page["next_cursor"]) == ([], None)
        return [one for page in pages for one in page]

    def see_posts(
        self, reader: Person | None, path: str, posts: Iterable[Post], way: str, **params: object
    ) -> None:
        """That a list shows these posts in this order."""
        expected = list(posts)
        shown = self.walk(reader, path, way, len(expected), **params)
        assert [one["id"] for one in shown] == [post.id for post in expected]
        for one, post in zip(shown, expected, strict=True):
            check_shown(one, self.post_as_shown(post))

    def see_published(
        self, reader: Person | None, path: str, posts: Iterable[Post], way: str, sort: str
    ) -> None:
        """That a list of published posts shows those of these, in this order."""
        name = sort.removeprefix("-")
        ordered = sorted(
            self.newest_first(posts),
            key=lambda post: (getattr(post, name), post.id),
            reverse=sort.startswith("-"),
        )
        # The newest come first where nothing else is asked for.
        params = {} if sort == SORTS[0] and way == WHOLE else {"sort": sort}
        self.see_posts(reader, path, ordered, way, **params)

    def newest_first(self, posts: Iterable[Post]) -> list[Post]:
        """Those of these that readers see."""
        published = [post for post in posts if post.is_published]
        return sorted(published, key=lambda post: (post.published_at, post.id), reverse=True)

    def see_post(self, reader: Person | None, post: Post) -> None:
        is_shown = post.is_shown_to(reader)
        response = self.ask(reader, "GET", f"/posts/{post.id}", expect=200 if is_shown else 404)
        if is_shown:
            self.check_version(post, response)
            html = {"content_html": CONTENTS[post.content]}
            check_shown(response.json(), self.post_as_shown(post) | html)

    def see_slug(self, reader: Person | None, slug: str) -> None:
        post = self.slugs.get(slug)
        if post is None or not (post.is_gone or post.is_shown_to(reader)):
            expect = 404
        else:
            expect = 410 if post.is_gone else 200 if post.slug == slug else 308
        response = self.ask(reader, "GET", f"/posts/slug/{slug}", expect=expect)
        if post and expect == 308:
            assert response.headers["Location"] == f"/posts/slug/{post.slug}"
        elif post and expect == 200:
            self.check_version(post, response)
            check_shown(response.json(), self.post_as_shown(post))

    def see_thread(self, reader: Person | None, post: Post, way: str) -> None:
        path = f"/posts/{post.id}/comments"
        if not post.is_shown_to(reader):
            self.ask(reader, "GET", path, expect=404)
            return
        on_post = [
            one
            for one in self.comments
            if one.post is post and one.parent is None and not one.is_gone
        ]
        shown = self.walk(reader, path, way, len(on_post))
        for one, comment in zip(shown, on_post, strict=True):
            check_shown(one, self.comment_as_shown(comment))
            answers = list(self.answers_below(comment))[:ANSWERS_SHOWN]
            for below, answer in zip(one["answers"], answers, strict=True):
                check_shown(below, self.comment_as_shown(answer))

    def see_comment(self, reader: Person | None, comment: Comment) -> None:
        is_shown = comment.is_shown_to(reader)
        path = f"/comments/{comment.id}"
        response = self.ask(reader, "GET", path, expect=200 if is_shown else 404)
        if is_shown:
            self.check_version(comment, response)
            check_shown(response.json(), self.comment_as_shown(comment))

    def see_answers(self, reader: Person | None, comment: Comment, way: str) -> None:
        path = f"/comments/{comment.id}/answers"
        if not comment.is_shown_to(reader):
            self.ask(reader, "GET", path, expect=404)
            return
        answers = list(self.answers_below(comment))
        shown = self.walk(reader, path, way, len(answers))
        for one, answer in zip(shown, answers, strict=True):
            check_shown(one, self.comment_as_shown(answer))

    def see_tags(self, reader: Person | None, way: str) -> None:
        count = Counter(key for post in self.posts if post.is_published for key in post.tag_keys)
        shown = self.walk(reader, "/tags", way, len(count))
        assert {one["name"]: one["post_count"] for one in shown} == {
            self.tags[key][0]: count[key] for key in count
        }
        # The most used first, and of those the first named.
        ranks = dict(self.tags.values())
        order = [(-one["post_count"], ranks[one["name"]]) for one in shown]
        assert order == sorted(order)

    def see_people(self, reader: Person | None, path: str, people: list[Person], way: str) -> None:
        shown = self.walk(reader, path, way, len(people))
        self.check_profiles(shown, people)

    def check_profiles(self, shown: list[Fields], people: list[Person]) -> None:
        for one, person in zip(shown, people, strict=True):
            expected = {"id": person.id, "name": person.name, "created_at": person.created_at}
            assert parsed(one) == expected

    def see_everybody(self, reader: Person | None) -> None:
        shown = self.ask(reader, "GET", "/users", expect=200).json()
        self.check_profiles(shown, self.present)

    def see_gone(self, reader: Person | None, person: Person) -> None:
        self.ask(reader, "GET", f"/users/{person.id}", expect=404)
        self.ask(reader, "GET", f"/users/{person.id}/posts", expect=404)

    def lists(
        self, reader: Person | None, sorts: Iterable[str], way: str
    ) -> Iterator[Callable[[], None]]:
        """Looks at all the lists that a reader has."""
        yield partial(self.see_tags, reader, NUMBER if way == CURSOR else way)
        for post in self.posts:
            yield partial(self.see_thread, reader, post, way)
        for comment in self.comments:
            # The others are seen there.
            if comment.parent is None or way != WHOLE:
                yield partial(self.see_answers, reader, comment, way)
        for sort in sorts:
            yield partial(self.see_published, reader, "/posts", self.posts, way, sort)
            for person in self.present:
                by = [post for post in self.posts if post.author is person]
                path = f"/users/{person.id}/posts"
                yield partial(self.see_published, reader, path, by, way, sort)
        if reader is None:
            return
        for sort in sorts:
            feed = [post for post in self.posts if post.author in reader.follows]
            yield partial(self.see_published, reader, "/users/me/feed", feed, way, sort)
        own = [post for post in self.posts if post.author is reader and not post.is_gone]
        # The last begun first.
        yield partial(self.see_posts, reader, "/users/me/posts", own[::-1], way)
        marked = [post for post in reader.bookmarks if post.is_published]
        yield partial(self.see_posts, reader, "/users/me/bookmarks", marked[::-1], way)
        followed = sorted(reader.follows, key=lambda person: person.id)
        yield partial(self.see_people, reader, "/users/me/following", followed, way)

    def filtered(self, reader: Person | None, way: str) -> Iterator[Callable[[], None]]:
        """Looks at the lists of the posts of an author, or with a tag."""
        for person in self.people:
            public = self.newest_first(post for post in self.posts if post.author is person)
            yield partial(self.see_posts, reader, "/posts", public, way, author=person.id)
        for tag, key in TAGS.items():
            found = [post for post in self.posts[::-1] if key in post.tag_keys]
            public = self.newest_first(found)
            yield partial(self.see_posts, reader, "/posts", public, way, tag=tag)
            if reader is None:
                continue
            own = [post for post in found if post.author is reader and not post.is_gone]
            yield partial(self.see_posts, reader, "/users/me/posts", own, way, tag=tag)
            feed = [post for post in public if post.author in reader.follows]
            yield partial(self.see_posts, reader, "/users/me/feed", feed, way, tag=tag)

    def single(self, reader: Person | None) -> Iterator[Callable[[], None]]:
        """Looks at all that has an address of its own."""
        for post in self.posts:
            yield partial(self.see_post, reader, post)
        # No set: its order would be another each time.
        for slug in dict.fromkeys((*self.slugs, *TITLES.values())):
            yield partial(self.see_slug, reader, slug)
        for comment in self.comments:
            yield partial(self.see_comment, reader, comment)
        for person in self.people:
            if person.is_gone:
                yield partial(self.see_gone, reader, person)
        yield partial(self.see_everybody, reader)

    @invariant()
    def some_is_seen(self) -> None:
        """After each step: what was touched, and one thing more, by somebody."""
        for post in self.touched:
            for reader in (post.author, self.random.choice(self.readers)):
                if reader is None or not reader.is_gone:
                    self.see_post(reader, post)
        reader = self.random.choice(self.readers)
        way = self.random.choice((CURSOR, NUMBER))
        kind = self.random.choice(("list", "filter", "single"))
        if kind == "list":
            looks = [*self.lists(reader, SORTS, way)]
        elif kind == "filter":
            looks = [*self.filtered(reader, way)]
        else:
            looks = [*self.single(reader)]
        self.random.choice(looks)()

    def teardown(self) -> None:
        """In the end: all by somebody and some by everybody, if there is time; or else some."""
        if sys.exc_info()[0] is not None:
            return
        closest = self.random.choice(self.readers)
        for reader in self.readers if RUNS else (closest,):
            is_closest = reader is closest
            way = self.random.choice((CURSOR, NUMBER)) if is_closest else WHOLE
            looks = [
                *self.lists(reader, SORTS if is_closest else SORTS[:1], way),
                *self.filtered(reader, WHOLE),
                *self.single(reader),
            ]
            if not (RUNS and is_closest):
                looks = self.random.sample(looks, len(looks) // 3)
            for look in looks:
                look()


async def test_the_service_behaves_like_a_plain_model_of_it(empty_app: FastAPI):
    async with client_of(empty_app) as everybody:

        class BlogHere(Blog):
            app = empty_app
            client = everybody

        if not RUNS:
            seed(SEED)(BlogHere)
        run = partial(run_state_machine_as_test, BlogHere, settings=HOW)
        await anyio.to_thread.run_sync(run)
