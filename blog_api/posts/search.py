"""Full-text search in title, tags and content.

`text.tokenizer` makes the words of posts and of queries, and the database compares them only: with
an FTS5 index on SQLite whose tokenizer changes nothing, and with a GIN index of a `tsvector`
without positions on Postgres. So both find the same, in any locale.

The rank of a post is the sum of the weights of the searches that find it, such as one for the title
(see `text.search_terms`). It depends on that post alone: `bm25()` weighs a term by the number of
posts that have it, hidden ones included, and the order of results would tell their words.
"""

from collections.abc import Iterable, Sequence

from pydantic_core import PydanticCustomError, to_json
from sqlalchemy import CTE, Float, Integer, column, text
from sqlmodel import UTCDateTime
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.text.search_terms import Alternatives, Term, match_all, parse_terms, weigh

MAX_QUERY_LENGTH = 1_000
MAX_TERMS = 50

# Of the posts with more words than the index holds, so many are searched without it, newest first.
MAX_CUT_POSTS = 20

VECTOR = "post_words_vector(w.lexemes)"

# The expressions that differ. The index of SQLite has the columns that are read: the rows of the
# table are as long as the texts.
ON_SQLITE = {
    "matching": (
        "post_search_words AS i JOIN post_words AS w INDEXED BY ix_post_words_found "
        "ON w.post_id = i.rowid WHERE i.post_search_words MATCH :query"
    ),
    "has_needles": (
        "NOT EXISTS (SELECT 1 FROM json_each({}) AS needle WHERE instr(w.folded, value) = 0)"
    ),
    "weighed": (
        "SELECT i.rowid AS post_id, json_extract(tier.value, '$[1]') AS weight "
        "FROM json_each(:tiers) AS tier CROSS JOIN post_search_words AS i "
        "WHERE i.post_search_words MATCH json_extract(tier.value, '$[0]')"
    ),
}
ON_POSTGRES = {
    "matching": f"post_words AS w WHERE {VECTOR} @@ CAST(:query AS tsquery)",
    "has_needles": (
        "NOT EXISTS (SELECT 1 FROM json_array_elements_text(CAST({} AS json)) AS needle "
        "WHERE strpos(w.folded, needle) = 0)"
    ),
    "weighed": (
        "SELECT matching.post_id, CAST(tier.value ->> 1 AS integer) AS weight "
        "FROM json_array_elements(CAST(:tiers AS json)) AS tier "
        "CROSS JOIN LATERAL (SELECT w.post_id FROM post_words AS w "
        f"WHERE {VECTOR} @@ CAST(tier.value ->> 0 AS tsquery) OFFSET 0) AS matching"
    ),
}

FOUND = """
    WITH matched AS (
        SELECT w.post_id, w.published_at, w.title_length FROM {matching}{and_has_needles}
    ), found AS (
        SELECT * FROM matched
        UNION ALL
        SELECT w.post_id, w.published_at, w.title_length FROM (
            SELECT post_id, published_at, title_length, folded FROM post_words
            WHERE is_cut ORDER BY post_id DESC LIMIT {max_cut_posts}
        ) AS w
        WHERE w.post_id NOT IN (SELECT post_id FROM matched) AND {has_all_needles}
    )
"""
UNRANKED = f"{FOUND} SELECT post_id AS id, published_at, 0.0 AS rank FROM found"
# Of posts with equal words, the one with the shorter title ranks first.
RANKED = f"""
    {FOUND}, weighed AS ({{weighed}}), ranks AS (
        SELECT post_id, sum(weight) AS rank FROM weighed GROUP BY post_id
    )
    SELECT found.post_id AS id, found.published_at,
           coalesce(ranks.rank, 0) + 1.0 / (found.title_length + 10) AS rank
    FROM found LEFT JOIN ranks ON ranks.post_id = found.post_id
"""


def check_query(q: str) -> str:
    """Validate the number of words and phrases of a search."""
    if len(parse_terms(q)) > MAX_TERMS:
        message = "The search is too long: it has more than {max_words} words and phrases"
        raise PydanticCustomError("too_many_words", message, {"max_words": MAX_TERMS})
    return q


def is_sqlite(session: AsyncSession) -> bool:
    return session.get_bind().dialect.name == "sqlite"


def to_fts5(groups: Iterable[Alternatives]) -> str:
    """Return a query of FTS5. Lexemes hold neither quotes nor spaces."""

    def quote(lexeme: str) -> str:
        return f'"{lexeme[:-1]}"*' if lexeme.endswith("*") else f'"{lexeme}"'

    return " AND ".join(f"({' OR '.join(map(quote, group))})" for group in groups)


def to_tsquery(groups: Iterable[Alternatives]) -> str:
    """Return a `tsquery` of Postgres. Lexemes hold neither quotes nor backslashes."""

    def quote(lexeme: str) -> str:
        return f"'{lexeme[:-1]}':*" if lexeme.endswith("*") else f"'{lexeme}'"

    return " & ".join(f"({' | '.join(map(quote, group))})" for group in groups)


def matching_posts(session: AsyncSession, terms: Sequence[Term], *, is_ranked: bool) -> CTE:
    """Select `id`, `published_at` and `rank` of the posts with all terms, of which there is one."""
    make_query, parts = (to_fts5, ON_SQLITE) if is_sqlite(session) else (to_tsquery, ON_POSTGRES)
    needles = [term.needle for term in terms if term.needs_text]
    has_needles = parts["has_needles"]
    sql = (RANKED if is_ranked else UNRANKED).format(
        **parts,
        and_has_needles=f" AND {has_needles.format(':needles')}" if needles else "",
        has_all_needles=has_needles.format(":all_needles"),
        max_cut_posts=MAX_CUT_POSTS,
    )
    values = {
        "query": make_query(match_all(terms)),
        "all_needles": to_json([term.needle for term in terms]).decode(),
    }
    if needles:
        values["needles"] = to_json(needles).decode()
    if is_ranked:
        tiers = [(make_query(groups), weight) for groups, weight in weigh(terms)]
        values["tiers"] = to_json(tiers).decode()
    columns = (column("id", Integer), column("published_at", UTCDateTime), column("rank", Float))
    found = text(sql).bindparams(**values).columns(*columns)
    return found.cte("matching_posts").prefix_with("MATERIALIZED")
