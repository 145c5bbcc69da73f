"""Index posts by their words for the search, in the transaction that writes the text.

Posts that a version without this index has written are indexed later: each post has the version of
the tokenizer that made its words, or none.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic_core import to_json
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.db.queries import Write, execute_query, make_upsert
from blog_api.posts.models import Post
from blog_api.posts.search_models import PostWords
from blog_api.text import tokenizer
from blog_api.text.lexemes import IndexedWords, index_words
from blog_api.text.renderer import MAX_INLINE_LENGTH, Renderer

DIGEST_LENGTH = 16
# Instead of the version of the tokenizer. The workers index such posts again.
INCOMPLETE = 0


class WordSource(NamedTuple):
    """Texts from which the words of a post are made."""

    title: str
    tags: Sequence[str]
    content: str
    """The text of a post in HTML, or else its source."""

    def make_digest(self) -> str:
        return sha256(to_json(self)).hexdigest()[:DIGEST_LENGTH]


class MadeWords(NamedTuple):
    """The words of a source."""

    source: WordSource
    words: IndexedWords
    version: int = tokenizer.VERSION

    @property
    def columns(self) -> dict[str, Any]:
        """Columns of the post."""
        return {"words_version": self.version, "words_from": self.source.make_digest()}


def get_word_source(values: Mapping[str, Any]) -> WordSource:
    """Return the source of a post's words from its columns."""
    text = values["content_text"]
    return WordSource(values["title"], values["tags"], values["content"] if text is None else text)


def make_word_source(post: Post, values: Mapping[str, Any] = MappingProxyType({})) -> WordSource:
    """Return the source of a post's words, or what it is after a change to these values."""
    names = ("title", "tags", "content", "content_text")
    return get_word_source({name: values.get(name, getattr(post, name)) for name in names})


async def make_words(
    renderer: Renderer, source: WordSource, *, owner: int | None = None
) -> MadeWords:
    """Return the words of a source. Called as `render_post()` is.

    Raises ServiceUnavailable if too many texts wait.
    """
    (made,) = await make_words_of_all(renderer, [source], owner=owner)
    return made


async def make_words_of_all(
    renderer: Renderer, sources: Sequence[WordSource], *, owner: int | None = None
) -> list[MadeWords]:
    """Return the words of each source. The caller holds no transaction.

    Raises ServiceUnavailable if too many texts wait.
    """
    words = await renderer.index_words(sources, owner=owner)
    if words is not None:
        return [MadeWords(*pair) for pair in zip(sources, words, strict=True)]
    return [make_some_words(source) for source in sources]


def make_some_words(source: WordSource) -> MadeWords:
    """Return the words at the beginning; the rest is indexed when the machine is less busy."""
    beginning = source._replace(content=source.content[:MAX_INLINE_LENGTH])
    return MadeWords(source, index_words(*beginning), INCOMPLETE)


def make_words_write(session: AsyncSession, post: Post, made: MadeWords) -> Write:
    """Return what indexes a post by its words, whose columns it has already."""
    row = {
        "post_id": post.id,
        "published_at": None if post.taken_down_at else post.published_at,
        "title_length": len(post.title),
        **made.words._asdict(),
    }
    return make_upsert(session, PostWords, row)


async def save_words(session: AsyncSession, post: Post, made: MadeWords) -> None:
    await execute_query(session, *make_words_write(session, post, made))
