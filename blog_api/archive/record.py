"""A post in an archive, and the error messages for invalid ones."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from sqlmodel import Field

from blog_api.accounts.imported import make_author_key
from blog_api.comments.imported import CommentRecord, make_comment_records
from blog_api.comments.models import Comment
from blog_api.core.characters import CONTROL_CHARACTERS, escape_unprintable
from blog_api.core.fields import (
    MAX_CONTENT_LENGTH,
    MAX_SLUG_LENGTH,
    MAX_SUMMARY_LENGTH,
    Name,
    PictureAddress,
    RequestModel,
    ShortText,
    TagNames,
    Timestamp,
    Title,
    WebAddress,
    check_text,
)
from blog_api.core.repair import SLUG_PATTERN, describe_field_error, repair_values
from blog_api.media.folders import PostFile
from blog_api.posts.models import Post
from blog_api.text.excerpts import cut_summary
from blog_api.text.markdown import MARKDOWN, ContentType, Source

# Left out of an export if they have their default.
OPTIONAL_FIELDS = (
    "author_key", "updated_at", "taken_down_at", "slug_given", "old_slugs", "summary", "cover_url",
    "cover_alt", "canonical_url", "comments_open", "comments", "content_type",
)  # fmt: skip

# Of a post and of its record.
SAME_FIELDS = (
    "slug", "title", "published_at", "updated_at", "taken_down_at", "tags", "cover_url",
    "cover_alt", "canonical_url", "comments_open", "content_type", "content",
)  # fmt: skip

SUPPORTED = (
    "an import reads Markdown and HTML with front matter (.md, .html), folders of them, exports of "
    "WordPress (.xml) and Ghost (.json), JSON Lines (.jsonl), and a .zip of these"
)
# Errors reported for one post.
MAX_ERRORS = 3


def check_slug(value: str) -> str:
    if not SLUG_PATTERN.fullmatch(value):
        raise PydanticCustomError(
            "slug",
            f"Use up to {MAX_SLUG_LENGTH} letters, digits, hyphens, underscores and dots, "
            "and not only dots",
        )
    return value


SlugName = Annotated[str, AfterValidator(check_slug)]


class PostRecord(RequestModel):
    """A post outside of the database. Unknown fields are ignored."""

    slug: SlugName | None = None
    title: Title
    author: Name | None = None
    # Identifies the author if the name does not: see `make_author_key()`.
    author_key: Title | None = None
    # Null: a draft.
    published_at: Timestamp | None = None
    updated_at: Timestamp | None = None
    taken_down_at: Timestamp | None = None
    tags: TagNames = Field(default_factory=list)
    # Without these two, they are made of the title and the text, and change with them.
    slug_given: bool = False
    # Of addresses that redirect to the post.
    old_slugs: list[SlugName] = Field(default_factory=list)
    summary: ShortText | None = None
    cover_url: PictureAddress | None = None
    cover_alt: ShortText | None = None
    canonical_url: WebAddress | None = None
    comments_open: bool = True
    content_type: ContentType = MARKDOWN
    content: Annotated[str, Field(max_length=MAX_CONTENT_LENGTH), AfterValidator(check_text)]
    comments: list[CommentRecord] = Field(default_factory=list)

    @property
    def source(self) -> Source:
        return Source(self.content, self.content_type)

    @field_validator("comments")
    @classmethod
    def check_parents(cls, comments: list[CommentRecord]) -> list[CommentRecord]:
        if any(one.parent and one.parent >= number for number, one in enumerate(comments, 1)):
            raise PydanticCustomError("parent", "an answer must come after what it answers")
        return comments

    @field_validator("content_type", mode="before")
    @classmethod
    def ignore_kinds(cls, value: object) -> object:
        """Other programs write kinds such as `blog` here, which are no media types."""
        return value if isinstance(value, str) and "/" in value else MARKDOWN

    @field_validator(
        "slug_given",
        "summary",
        "cover_url",
        "cover_alt",
        "canonical_url",
        "comments_open",
        mode="before",
    )
    @classmethod
    def read_empty_as_missing(cls, value: object, info: ValidationInfo) -> object:
        """Other programs write an empty text where there is none."""
        if info.field_name == "summary" and isinstance(value, str):
            # Others' summaries may have any length and several lines.
            is_valid = len(value) <= MAX_SUMMARY_LENGTH and not CONTROL_CHARACTERS.search(value)
            value = value if is_valid else cut_summary(value)
        is_empty = value is None or (isinstance(value, str) and not value.strip())
        return cls.model_fields[str(info.field_name)].default if is_empty else value


def make_record(
    post: Post, old_slugs: Sequence[str] = (), comments: Sequence[Comment] = ()
) -> PostRecord:
    key = make_author_key(post.user)
    return PostRecord.model_construct(
        **{name: getattr(post, name) for name in SAME_FIELDS},
        author=post.user_name,
        author_key=None if key == post.user_name else key,
        slug_given=post.given_slug == post.slug,
        old_slugs=list(old_slugs),
        summary=post.given_summary,
        comments=list(make_comment_records(comments)),
    )


@dataclass(frozen=True)
class ArchiveEntry:
    """One post of an archive with its location, or the error that makes it invalid.

    With neither, it is no post: `left_out` says what it is.
    """

    location: str
    record: PostRecord | None = None
    error: str | None = None
    # The kind, and what is told of this one.
    left_out: str | None = None
    details: str = ""
    # Of what was changed to make the post valid, each with its location.
    warnings: tuple[str, ...] = ()
    # The archive has no time of publication, nor anything else that hides the post.
    is_undated: bool = False
    # Where the pictures of a Markdown or HTML file are looked for.
    file: PostFile | None = None


def format_location(path: Path, line: int) -> str:
    """Return a location such as `posts.jsonl:12`, with unprintable characters escaped."""
    return f"{escape_unprintable(str(path))}:{line}"


def make_entry(
    path: Path,
    line: int,
    values: dict[str, Any],
    file: PostFile | None = None,
    warnings: Iterable[str] = (),
    find_line: Callable[[str], int] | None = None,
    name: str = "",
) -> ArchiveEntry:
    """Validate the values of a post, after changing what can be changed to make it valid.

    `find_line` returns the line of a field, by default that of the post. Messages begin with the
    name, where a line is not enough to find the post.
    """

    def locate(message: str) -> str:
        return format_location(path, find_line(message.partition(": ")[0]) if find_line else line)

    messages = [*warnings, *repair_values(values)]
    location = format_location(path, line)
    try:
        record = PostRecord.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[:MAX_ERRORS]
        fields = [str(one["loc"][0]) for one in details]
        errors = [*map(describe_field_error, details)]
        if EXPENDABLE_FIELDS.issuperset(fields):
            kept = {key: one for key, one in values.items() if key not in fields}
            lost = (f"{one}; it was left out" for one in errors)
            return make_entry(path, line, kept, file, [*messages, *lost], find_line, name)
        return ArchiveEntry(locate(fields[0]), error=name + "; ".join(errors))
    told = tuple(f"{locate(one)}: {name}{one}" for one in messages)
    is_undated = "published_at" not in values
    return ArchiveEntry(location, record, file=file, warnings=told, is_undated=is_undated)


# A post is imported without them if they are invalid.
EXPENDABLE_FIELDS = {"cover_url", "cover_alt", "canonical_url", "updated_at", "old_slugs"}
