"""Search: posts by the words of their titles, tags and contents."""

from collections.abc import Sequence
from functools import reduce
from operator import add

from sqlalchemy import (
    CTE,
    ColumnElement,
    Select,
    case,
    column,
    false,
    func,
    literal,
    literal_column,
    table,
    text,
)
from sqlalchemy import select as select_columns
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.text.snippets import Highlighter
from blog_api.text.tokenizer import Term, parse_terms

# What is looked for in one search; further words are left out.
MAX_WORDS = 20


MAX_QUERY_LENGTH = 1_000


# The index is kept by triggers, which the migration makes: see there what it holds.
SQLITE_INDEX = table("post_search", column("rowid"), column("post_search"))


POSTGRES_INDEX = table("post_search", column("post_id"), column("vector"))


POSTS = table("posts", column("id"), column("title"), column("content"))


# A title counts ten times as much as a content, on both.
BM25_WEIGHTS = "10.0, 5.0, 1.0"


TS_RANK_WEIGHTS = "'{0.1, 0.1, 0.5, 1.0}'"


RUSSIAN = text("'russian'")


SIMPLE = text("'simple'")


def is_sqlite(session: AsyncSession) -> bool:
    return session.get_bind().dialect.name == "sqlite"


def to_fts5(term: Term) -> str:
    """In the language of FTS5, where nothing but a quote ends a string."""
    return f'"{" ".join(term.tokens)}"{"*" if term.is_prefix else ""}'


def to_tsquery(term: Term) -> ColumnElement[str]:
    """As a `tsquery`: the words as they are, or in another form of the same words.

    The configuration `russian` stems Latin words as English ones, and leaves out those that say
    little: of these there is no other form, and no beginning. A token has no character that means
    anything in the language of `to_tsquery`.
    """
    words = " <-> ".join(term.tokens)
    begun = f"{words}:*" if term.is_prefix else words
    as_they_are = func.to_tsquery(SIMPLE, begun)
    other_forms = func.to_tsquery(RUSSIAN, words)
    # A node for each word, and one for each `<->`.
    has_all = func.numnode(other_forms) == 2 * len(term.tokens) - 1
    without = func.to_tsquery(SIMPLE, words if len(term.tokens) == 1 else begun)
    return case((has_all, as_they_are.op("||")(other_forms)), else_=without)


def make_tsquery(terms: Sequence[Term]) -> ColumnElement[str]:
    first, *rest = map(to_tsquery, terms)
    return reduce(lambda one, other: one.op("&&")(other), rest, first)


def make_fts5_query(terms: Sequence[Term]) -> str:
    return " ".join(map(to_fts5, terms))


def matching_posts(session: AsyncSession, q: str) -> CTE:
    """The ids of the posts that have all the words, as `id`, with a `rank`.

    Where there are no words in what is looked for, nothing has them.
    """
    terms = parse_terms(q, max_words=MAX_WORDS)
    query: Select[tuple[int, float]]
    if not terms:
        query = select_columns(POSTS.c.id, literal(0.0).label("rank")).where(false())
    elif is_sqlite(session):
        query = select_columns(
            SQLITE_INDEX.c.rowid.label("id"),
            (-literal_column(f"bm25(post_search, {BM25_WEIGHTS})")).label("rank"),
        ).where(SQLITE_INDEX.c.post_search.op("MATCH")(make_fts5_query(terms)))
    else:
        vector = POSTGRES_INDEX.c.vector
        # One after the other: for all at once Postgres would rather have them close together.
        # Of titles that hold as much of it, the shortest is nearest to what was asked for.
        rank = reduce(
            add,
            (func.ts_rank(text(TS_RANK_WEIGHTS), vector, to_tsquery(term)) for term in terms),
        ) / func.ln(func.length(POSTS.c.title) + 10)
        query = (
            select_columns(POSTS.c.id, rank.label("rank"))
            .join(POSTGRES_INDEX, POSTGRES_INDEX.c.post_id == POSTS.c.id)
            .where(vector.op("@@")(make_tsquery(terms)))
        )
    return query.cte("found").prefix_with("MATERIALIZED")


async def make_highlighter(session: AsyncSession, q: str) -> Highlighter | None:
    """What marks in a text that which is looked for; None where there are no words in it."""
    terms = parse_terms(q, max_words=MAX_WORDS)
    if not terms:
        return None
    tokens = sorted({token for term in terms for token in term.tokens})
    if is_sqlite(session):
        return Highlighter(terms, {})
    vectors = (func.to_tsvector(RUSSIAN, token) for token in tokens)
    arrays = select_columns(*(func.tsvector_to_array(vector) for vector in vectors))
    row = (await (await session.connection()).execute(arrays)).one()
    # Of a stop word there is nothing.
    return Highlighter(
        terms, {token: stems[0] for token, stems in zip(tokens, row, strict=True) if stems}
    )
