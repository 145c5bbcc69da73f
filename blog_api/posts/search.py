"""Full-text search in title, tags and content: FTS5 on SQLite, `tsvector` on Postgres.

Triggers fill the index (see the migrations). A query is split into terms by `text.tokenizer`; all
of them must match.
"""

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
    table,
    text,
)
from sqlalchemy import select as select_columns
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.text.snippets import Highlighter
from blog_api.text.tokenizer import Term, parse_terms

# Further words of a query are ignored.
MAX_WORDS = 20

MAX_QUERY_LENGTH = 1_000

SQLITE_INDEX = table("post_search", column("rowid"), column("post_search"))

POSTGRES_INDEX = table("post_search", column("post_id"), column("vector"))

POSTS = table("posts", column("id"), column("title"), column("content"))

# A match in the title weighs ten times one in the content.
FTS5_WEIGHTS = {"title": 10, "tags": 5, "content": 1}

TS_RANK_WEIGHTS = "'{0.1, 0.1, 0.5, 1.0}'"

RUSSIAN = text("'russian'")

SIMPLE = text("'simple'")


def is_sqlite(session: AsyncSession) -> bool:
    return session.get_bind().dialect.name == "sqlite"


def to_fts5(term: Term) -> str:
    """Return the term as a quoted FTS5 string, in which only a quote is special."""
    return f'"{" ".join(term.tokens)}"{"*" if term.is_prefix else ""}'


def to_tsquery(term: Term) -> ColumnElement[str]:
    """Return the term as a `tsquery` that matches the words and their other forms.

    The configuration `russian` stems Latin words as English ones and drops stop words, which
    match exactly and not by prefix. Tokens hold no operator of `to_tsquery`.
    """
    phrase = " <-> ".join(term.tokens)
    prefix = f"{phrase}:*" if term.is_prefix else phrase
    exact = func.to_tsquery(SIMPLE, prefix)
    stemmed = func.to_tsquery(RUSSIAN, phrase)
    # One node per word and per `<->`: fewer if stop words were dropped.
    is_complete = func.numnode(stemmed) == 2 * len(term.tokens) - 1
    fallback = func.to_tsquery(SIMPLE, phrase if len(term.tokens) == 1 else prefix)
    return case((is_complete, exact.op("||")(stemmed)), else_=fallback)


def make_tsquery(terms: Sequence[Term]) -> ColumnElement[str]:
    first, *rest = map(to_tsquery, terms)
    return reduce(lambda one, other: one.op("&&")(other), rest, first)


def make_fts5_query(terms: Sequence[Term]) -> str:
    return " ".join(map(to_fts5, terms))


def has_match(fts5_query: str) -> ColumnElement[bool]:
    is_match = SQLITE_INDEX.c.post_search.op("MATCH")(fts5_query)
    return POSTS.c.id.in_(select_columns(SQLITE_INDEX.c.rowid).where(is_match))


def make_fts5_rank(terms: Sequence[Term]) -> ColumnElement[float]:
    """Return a rank that depends on the post alone, as the one of Postgres.

    `bm25()` weighs a term by the number of posts that have it, hidden ones included: the order of
    results would tell their words. Of equal posts, the one with the shorter title ranks first.
    """
    weights = [
        case((has_match(f"{name} : {to_fts5(term)}"), weight), else_=0)
        for term in terms
        for name, weight in FTS5_WEIGHTS.items()
    ]
    return reduce(add, weights) + 1.0 / (func.length(POSTS.c.title) + 10)


def matching_posts(session: AsyncSession, q: str) -> CTE:
    """Select the `id` and `rank` of the posts that match all terms; none if there are no terms."""
    terms = parse_terms(q, max_words=MAX_WORDS)
    query: Select[tuple[int, float]]
    if not terms:
        query = select_columns(POSTS.c.id, literal(0.0).label("rank")).where(false())
    elif is_sqlite(session):
        query = select_columns(POSTS.c.id, make_fts5_rank(terms).label("rank"))
        query = query.where(has_match(make_fts5_query(terms)))
    else:
        vector = POSTGRES_INDEX.c.vector
        # Ranked term by term: for all at once, Postgres prefers words that are close together.
        # Dividing by the length of the title prefers the shorter of two matching titles.
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
    """Return the highlighter of a search, or None if the query has no terms."""
    terms = parse_terms(q, max_words=MAX_WORDS)
    if not terms:
        return None
    tokens = sorted({token for term in terms for token in term.tokens})
    if is_sqlite(session):
        return Highlighter(terms, {})
    vectors = (func.to_tsvector(RUSSIAN, token) for token in tokens)
    arrays = select_columns(*(func.tsvector_to_array(vector) for vector in vectors))
    row = (await (await session.connection()).execute(arrays)).one()
    # A stop word has no stem.
    return Highlighter(
        terms, {token: stems[0] for token, stems in zip(tokens, row, strict=True) if stems}
    )
