"""A plain model of the blog: its users, posts and comments, and the values that a test draws."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

NAMES = ("Ann", "Bob", "Cem", "Dee")
# Titles with their slugs, written by hand: the model does not use the service's slug function.
TITLES = {
    "Tea": "tea",
    "tea!": "tea",
    "Tea time": "tea-time",
    "Chai": "chai",
    "Чай": "chai",
    "…": "post",
    "Tea 0badcafe": "tea-0badcafe",
}
# Contents with their HTML by type.
CONTENTS = {
    "One": {"text/markdown": "<p>One</p>\n", "text/html": "One"},
    "*Two*": {"text/markdown": "<p><em>Two</em></p>\n", "text/html": "*Two*"},
}
# Spellings of tags with their keys.
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
COMMENTS = ("Yes.", "No.")
IF_MATCH_KINDS = (None, None, "fresh", "stale", "one of two", "*")

Fields = dict[str, Any]


@dataclass(eq=False, repr=False)
class Entity:
    id: int

    def __repr__(self) -> str:
        return f"{type(self).__name__.lower()} {self.id}"

    def _repr_pretty_(self, printer: Any, _is_cycle: bool) -> None:
        # Hypothesis would print every field otherwise.
        printer.text(repr(self))


@dataclass(eq=False, repr=False)
class User(Entity):
    email: str
    token: str
    name: str
    username: str
    created_at: datetime
    following: list["User"] = field(default_factory=list)
    # The oldest first.
    bookmarks: list["Post"] = field(default_factory=list)
    is_removed: bool = False

    def as_author(self) -> dict[str, object]:
        return {"id": self.id, "username": self.username, "name": self.name, "avatar_url": None}


@dataclass(eq=False, repr=False)
class Versioned(Entity):
    """An entity with a version, and the last ETag that was received for each version."""

    created_at: datetime
    updated_at: datetime
    version: int = 1
    etags: dict[int, str] = field(default_factory=dict)
    is_removed: bool = False


@dataclass(eq=False, repr=False, kw_only=True)
class Post(Versioned):
    author: User
    title: str
    content: str
    content_type: str
    published_at: datetime | None
    tags: list[str]
    slug: str

    @property
    def sent_values(self) -> tuple[object, ...]:
        """Return what its author sends; other values are a new version."""
        tags = merge_spellings(self.tags)
        return self.title, self.content, self.content_type, self.published_at, tags

    @property
    def tag_keys(self) -> set[str]:
        return {TAGS[tag] for tag in self.tags}

    @property
    def is_published(self) -> bool:
        if self.is_removed or self.published_at is None:
            return False
        return self.published_at <= datetime.now(UTC)

    def is_visible_to(self, reader: User | None) -> bool:
        return not self.is_removed and (self.is_published or self.author is reader)


@dataclass(eq=False, repr=False, kw_only=True)
class Comment(Versioned):
    post: Post
    parent: "Comment | None"
    # Both are None if the comment is a placeholder.
    author: User | None
    content: str | None
    is_waiting: bool = False
    # By the author of the post: there is no administrator.
    is_trust: bool = False

    @property
    def depth(self) -> int:
        return self.parent.depth + 1 if self.parent else 0

    @property
    def is_public(self) -> bool:
        return self.content is not None and not self.is_waiting

    def is_own(self, reader: User | None) -> bool:
        """Return whether the user wrote the comment or the post."""
        return reader is not None and reader in (self.author, self.post.author)


def draw_from(attribute: str) -> st.SearchStrategy[Any]:
    """Draw an item of this list of the state machine, as it is when the rule runs."""
    return st.runner().flatmap(lambda machine: st.sampled_from(getattr(machine, attribute)))


names = st.sampled_from(NAMES)
titles = st.sampled_from(sorted(TITLES))
publication_times = st.sampled_from(TIMES)
comment_texts = st.sampled_from(COMMENTS)
if_match_kinds = st.sampled_from(IF_MATCH_KINDS)

_required_fields = {"title": titles, "content": st.sampled_from(sorted(CONTENTS))}
_optional_fields = {
    "content_type": st.sampled_from(["text/html", "text/markdown"]),
    "published_at": publication_times,
    "tags": st.lists(st.sampled_from(sorted(TAGS)), max_size=3),
}
post_bodies = st.fixed_dictionaries(_required_fields, optional=_optional_fields)
post_updates = st.one_of(
    st.tuples(st.just("PUT"), post_bodies),
    st.tuples(
        st.just("PATCH"), st.fixed_dictionaries({}, optional=_required_fields | _optional_fields)
    ),
)


def merge_spellings(tags: Iterable[str]) -> list[str]:
    """Return each tag once, in its first spelling."""
    first: dict[str, str] = {}
    for tag in tags:
        first.setdefault(TAGS[tag], tag.strip())
    return list(first.values())


def is_slug_of(slug: str, title: str) -> bool:
    return re.fullmatch(f"{TITLES[title]}(-[0-9a-f]{{8}})?", slug) is not None


def parse_times(shown: Fields) -> Fields:
    """Return the fields of a response with times that can be compared."""
    times = {
        name: datetime.fromisoformat(value)
        for name, value in shown.items()
        if name.endswith("_at") and isinstance(value, str)
    }
    return shown | times


def assert_fields(shown: Fields, expected: Fields) -> None:
    """Check the expected fields of a response; it may have others."""
    shown = parse_times(shown)
    assert {name: shown.get(name, "missing") for name in expected} == expected
