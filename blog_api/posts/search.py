"""Full-text search in title, tags and content.

`text.tokenizer` makes the words of posts and of queries, and the database compares them only: with
an FTS5 index on SQLite whose tokenizer changes nothing, and with a GIN index of a `tsvector`
without positions on Postgres. So both find the same, in any locale.

The rank of a post is the sum of the weights of the searches that find it, such as one for the title
(see `text.search_terms`). It depends on that post alone: `bm25()` weighs a term by the number of
posts that have it, hidden ones included, and the order of results would tell their words.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic_core import PydanticCustomError, to_json
from sqlalchemy import CTE, BigInteger, Integer, bindparam, column, text
from sqlmodel import UTCDateTime
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.db.base import NOW
from blog_api.text.search_terms import (
    Alternatives,
    Term,
    Tier,
    match_all,
    parse_terms,
    split_matches,
    weigh,
)
from blog_api.web.pagination import MAX_OFFSET, MAX_PAGE_SIZE

MAX_QUERY_LENGTH = 1_000
MAX_TERMS = 50

# Of the posts with all words of a phrase, the texts of so many are looked at, newest first.
MAX_PHRASE_POSTS = 20_000
# Of the posts with more words than the index holds, so many are searched without it, newest first.
MAX_CUT_POSTS = 20
# Of the posts that are found, so many are ranked, newest first: as many as pages reach.
MAX_RANKED_POSTS = MAX_OFFSET + MAX_PAGE_SIZE

# The expressions that differ. The index of SQLite has the columns that are read: the rows of the
# table are as long as the texts.
ON_SQLITE = {
    "matching": (
        "post_search_words AS i JOIN post_words AS w INDEXED BY ix_post_words_found "
        "ON w.post_id = i.rowid WHERE i.post_search_words MATCH :words AND w.published_at <= :now"
    ),
    "indexed": (
        "SELECT rowid FROM post_search_words "
        "WHERE post_search_words MATCH :words AND rowid >= (SELECT min(post_id) FROM cut)"
    ),
    "has_needles": (
        "NOT EXISTS (SELECT 1 FROM json_each({}) AS needle WHERE instr(w.folded, value) = 0)"
    ),
    "weighed": (
        "SELECT i.rowid AS post_id, json_extract(tier.value, '$[1]') AS weight "
        "FROM json_each(:tiers) AS tier CROSS JOIN post_search_words AS i "
        "WHERE i.post_search_words MATCH json_extract(tier.value, '$[0]') "
        "AND i.rowid >= (SELECT post_id FROM oldest)"
    ),
}
ON_POSTGRES = {
    "matching": "post_words_matching(:words) AS w WHERE w.published_at <= :now",
    "indexed": (
        "SELECT post_id FROM post_words_weighed("
        "json_build_array(json_build_array(CAST(:words AS text), 0)), "
        "(SELECT min(post_id) FROM cut))"
    ),
    "has_needles": (
        "NOT EXISTS (SELECT 1 FROM json_array_elements_text(CAST({} AS json)) AS needle "
        "WHERE strpos(w.folded, needle) = 0)"
    ),
    "weighed": (
        "SELECT post_id, weight "
        "FROM post_words_weighed(CAST(:tiers AS json), (SELECT post_id FROM oldest))"
    ),
}

CUT = """
    cut AS MATERIALIZED (
        SELECT w.post_id, w.published_at, w.title_length FROM (
            SELECT post_id, published_at, title_length, folded FROM post_words
            WHERE is_cut AND published_at <= :now ORDER BY post_id DESC LIMIT {max_cut_posts}
        ) AS w
        WHERE {has_all_needles}
    ), not_indexed AS MATERIALIZED (
        SELECT * FROM cut WHERE post_id NOT IN ({indexed})
    )
"""
# Hidden posts are left out first: they do not change which posts are ranked.
FOUND = f"""
    WITH {{matched}}, {CUT}, found AS MATERIALIZED (
        SELECT post_id, published_at, title_length FROM matched
        UNION ALL SELECT * FROM not_indexed
    )
"""
MATCHED = "matched AS (SELECT w.post_id, w.published_at, w.title_length FROM {matching})"
MATCHED_WITH_NEEDLES = """matched AS (
    SELECT w.post_id, w.published_at, w.title_length
    FROM (SELECT w.post_id FROM {matching} ORDER BY w.post_id DESC LIMIT {max_phrase_posts}) AS i
    JOIN post_words AS w ON w.post_id = i.post_id
    WHERE {has_needles}
)"""
UNRANKED = f"{FOUND} SELECT post_id AS id, published_at, 0 AS rank, 0 AS number FROM found"
# Of posts with equal words, the one with the shorter title ranks first.
RANKED = f"""
    {FOUND}, oldest AS MATERIALIZED (
        SELECT min(post_id) AS post_id FROM (
            SELECT post_id FROM found ORDER BY post_id DESC LIMIT {{max_ranked_posts}}
        ) AS newest
    ), weighed AS (
        SELECT post_id, published_at, title_length, 0 AS weight FROM found
        UNION ALL SELECT post_id, NULL, NULL, weight FROM ({{weighed}}) AS tiers
    )
    SELECT post_id AS id, max(published_at) AS published_at,
           sum(weight) * 1000000 + 1000000 / (max(title_length) + 10) AS rank, 0 AS number
    FROM weighed GROUP BY post_id HAVING max(published_at) IS NOT NULL
"""
QUERIES_ON_SQLITE = (
    "SELECT json_extract(value, '$[0]') AS query, json_extract(value, '$[1]') AS weight "
    "FROM json_each({})"
)
# The first posts by rank, and the number of all that match.
COUNTED_ON_SQLITE = f"""
    WITH {CUT}, hidden AS MATERIALIZED (
        SELECT post_id FROM post_words WHERE published_at IS NULL
        UNION ALL SELECT id FROM posts WHERE published_at > :now AND taken_down_at IS NULL
    ), groups AS MATERIALIZED ({{groups}}), tiers AS MATERIALIZED ({{tiers}}),
    matched AS MATERIALIZED (
        SELECT i.rowid AS post_id, groups.weight FROM groups CROSS JOIN post_search_words AS i
        WHERE i.post_search_words MATCH groups.query AND i.rowid NOT IN hidden
        UNION ALL SELECT post_id, 0 FROM not_indexed
    ), counted AS MATERIALIZED (
        SELECT count(*) AS number FROM matched
    ), oldest AS MATERIALIZED (
        SELECT CASE WHEN number > {{max_ranked_posts}} THEN (
            SELECT post_id FROM matched
            ORDER BY post_id DESC LIMIT 1 OFFSET {{max_ranked_posts}} - 1
        ) ELSE 0 END AS post_id FROM counted
    ), weights AS MATERIALIZED (
        SELECT i.rowid AS post_id, sum(tiers.weight) AS weight
        FROM tiers CROSS JOIN post_search_words AS i
        WHERE i.post_search_words MATCH tiers.query AND i.rowid >= (SELECT post_id FROM oldest)
        GROUP BY i.rowid
    ), ranked AS MATERIALIZED (
        SELECT m.post_id, (m.weight + coalesce(weights.weight, 0)) * 1000000
            + 1000000 / (w.title_length + 10) AS rank
        FROM matched AS m
        CROSS JOIN post_words AS w INDEXED BY ix_post_words_ranked ON w.post_id = m.post_id
        LEFT JOIN weights ON weights.post_id = m.post_id
        WHERE m.post_id >= (SELECT post_id FROM oldest)
        ORDER BY rank DESC, m.post_id DESC LIMIT :offset + :limit
    )
    SELECT ranked.post_id AS id, w.published_at, rank, number
    FROM ranked CROSS JOIN counted CROSS JOIN post_words AS w INDEXED BY ix_post_words_found
    ON w.post_id = ranked.post_id
"""
COUNTED_ON_POSTGRES = f"""
    WITH {CUT}
    SELECT post_id AS id, published_at, rank, number FROM post_words_ranked(
        CAST(:groups AS json), CAST(:tiers AS json), ARRAY(SELECT post_id FROM not_indexed),
        :now, {{max_ranked_posts}}, :offset + :limit
    )
"""


def check_query(q: str) -> str:
    """Validate the number of words and phrases of a search."""
    if len(parse_terms(q)) > MAX_TERMS:
        message = "The search is too long: it has more than {max_words} words and phrases"
        raise PydanticCustomError("too_many_words", message, {"max_words": MAX_TERMS})
    return q


def to_fts5(groups: Sequence[Alternatives], excluded: Sequence[Sequence[Alternatives]] = ()) -> str:
    """Return a query of FTS5. Lexemes hold neither quotes nor spaces."""

    def quote(lexeme: str) -> str:
        return f'"{lexeme[:-1]}"*' if lexeme.endswith("*") else f'"{lexeme}"'

    query = " AND ".join(f"({' OR '.join(map(quote, group))})" for group in groups)
    return " NOT ".join(f"({part})" for part in (query, *map(to_fts5, excluded)))


def to_tsquery(
    groups: Sequence[Alternatives], excluded: Sequence[Sequence[Alternatives]] = ()
) -> str:
    """Return a `tsquery` of Postgres. Lexemes hold neither quotes nor backslashes."""

    def quote(lexeme: str) -> str:
        return f"'{lexeme[:-1]}':*" if lexeme.endswith("*") else f"'{lexeme}'"

    query = " & ".join(f"({' | '.join(map(quote, group))})" for group in groups)
    return " & !".join(f"({part})" for part in (query, *map(to_tsquery, excluded)))


class SearchKind(NamedTuple):
    """The properties of a search that its statement depends on; values are bound."""

    is_sqlite: bool
    needs_texts: bool
    is_ranked: bool
    # Whether filters choose among the posts that are found.
    is_filtered: bool

    @property
    def is_counted(self) -> bool:
        """Whether the posts are counted apart, and only those that can be on a page are read."""
        return self.is_ranked and not self.needs_texts and not self.is_filtered


def get_kind(
    session: AsyncSession, terms: Sequence[Term], *, is_ranked: bool, is_filtered: bool
) -> SearchKind | None:
    """Return the kind of a search; None without terms, which finds nothing."""
    if not terms:
        return None
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    needs_texts = any(term.needs_text for term in terms)
    return SearchKind(is_sqlite, needs_texts, is_ranked, is_filtered)


def get_search_values(kind: SearchKind | None, terms: Sequence[Term]) -> dict[str, str]:
    """Return the values that are bound in the statement of a search with these terms."""
    if kind is None:
        return {}
    make_query = to_fts5 if kind.is_sqlite else to_tsquery

    def to_json_text(tiers: Iterable[Tier]) -> str:
        rows = [(make_query(tier.groups, tier.excluded), tier.weight) for tier in tiers]
        return to_json(rows).decode()

    values = {
        "words": make_query(match_all(terms)),
        "all_needles": to_json([term.needle for term in terms]).decode(),
    }
    if kind.needs_texts:
        needles = [term.needle for term in terms if term.needs_text]
        values["needles"] = to_json(needles).decode()
    if kind.is_counted:
        groups, tiers = split_matches(terms)
        values |= {"groups": to_json_text(groups), "tiers": to_json_text(tiers)}
    elif kind.is_ranked:
        values["tiers"] = to_json_text(weigh(terms))
    return values


def matching_posts(kind: SearchKind) -> CTE:
    """Select `id`, `published_at` and `rank` of the published posts with all terms.

    Of those that are counted apart, `number` is their number.
    """
    parts = ON_SQLITE if kind.is_sqlite else ON_POSTGRES
    limits = {
        "max_phrase_posts": MAX_PHRASE_POSTS,
        "max_cut_posts": MAX_CUT_POSTS,
        "max_ranked_posts": MAX_RANKED_POSTS,
    }
    has_needles = parts["has_needles"]
    matched = (MATCHED_WITH_NEEDLES if kind.needs_texts else MATCHED).format(
        matching=parts["matching"], has_needles=has_needles.format(":needles"), **limits
    )
    if kind.is_counted:
        template = COUNTED_ON_SQLITE if kind.is_sqlite else COUNTED_ON_POSTGRES
    else:
        template = RANKED if kind.is_ranked else UNRANKED
    sql = template.format(
        matched=matched,
        indexed=parts["indexed"] if kind.is_counted else "SELECT post_id FROM matched",
        weighed=parts["weighed"],
        groups=QUERIES_ON_SQLITE.format(":groups"),
        tiers=QUERIES_ON_SQLITE.format(":tiers"),
        has_all_needles=has_needles.format(":all_needles"),
        **limits,
    )
    columns = (
        column("id", Integer),
        column("published_at", UTCDateTime),
        column("rank", BigInteger),
        column("number", Integer),
    )
    page_end = [bindparam(name, type_=Integer) for name in ("offset", "limit")]
    found = text(sql).bindparams(NOW, *page_end if kind.is_counted else ()).columns(*columns)
    return found.cte("matching_posts").prefix_with("MATERIALIZED")
