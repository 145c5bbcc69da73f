"""Full-text search in title, tags and content.

`text.tokenizer` makes the words of posts and of queries, and the database compares them only: with
an FTS5 index on SQLite whose tokenizer changes nothing, and with a GIN index of a `tsvector`
without positions on Postgres. So both find the same, in any locale.

The rank of a post is the sum of the weights of the searches that find it, such as one for the title
(see `text.search_terms`). It depends on that post alone: `bm25()` weighs a term by the number of
posts that have it, hidden ones included, and the order of results would tell their words.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic_core import PydanticCustomError, to_json
from sqlalchemy import CTE, BigInteger, Integer, bindparam, column, text
from sqlmodel import UTCDateTime
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.db.base import NOW
from blog_api.posts import search_sql
from blog_api.text.search_terms import (
    MAX_RANKED_TERMS,
    Alternatives,
    Form,
    Term,
    Tier,
    match_all,
    parse_terms,
    split_matches,
    weigh,
)

MAX_QUERY_LENGTH = 1_000
MAX_TERMS = 50


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
    return f"({query}){''.join(map(exclude_from_fts5, excluded))}"


def exclude_from_fts5(groups: Sequence[Alternatives]) -> str:
    """Return what follows a query of FTS5 whose posts do not match these groups."""
    return f" NOT {to_fts5(groups)}"


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
    found: dict[str, Any] = {"all_needles": [term.needle for term in terms]}
    if kind.needs_texts:
        found["needles"] = [term.needle for term in terms if term.needs_text]
    if kind.is_counted:
        groups, tiers = split_matches(terms)
        found["groups"] = [(make_query(one.groups, one.excluded), one.weight) for one in groups]
    else:
        tiers = [*weigh(terms)] if kind.is_ranked else []
    if kind.is_ranked:
        found |= (list_tiers_on_sqlite if kind.is_sqlite else list_tiers_on_postgres)(terms, tiers)
    values = {name: to_json(value).decode() for name, value in found.items()}
    return values | {"words": make_query(match_all(terms))}


def list_tiers_on_sqlite(terms: Sequence[Term], tiers: Sequence[Tier]) -> dict[str, Any]:
    """Return each query in two parts, between which the statement has that of the rarest term."""
    rows = []
    for tier in tiers:
        end = ")" + "".join(map(exclude_from_fts5, tier.excluded))
        rows.append((tier.term, f"({to_fts5(tier.groups)}", end, tier.weight))
    queries = [to_fts5(term.match(Form.beginning)) for term in terms[:MAX_RANKED_TERMS]]
    return {"tiers": rows, "terms": queries if len(terms) > 1 else []}


def list_tiers_on_postgres(terms: Sequence[Term], tiers: Sequence[Tier]) -> dict[str, Any]:
    """Return the queries of the posts that a tier finds and that have the other terms."""
    others = [match_all([one for one in terms if one is not term]) for term in terms]
    queries = (dict.fromkeys([*tier.groups, *others[tier.term]]) for tier in tiers)
    return {
        "tiers": [
            (to_tsquery([*groups], tier.excluded), tier.weight)
            for groups, tier in zip(queries, tiers, strict=True)
        ]
    }


def matching_posts(kind: SearchKind) -> CTE:
    """Select `id`, `published_at` and `rank` of the published posts with all terms.

    Of those that are counted apart, `number` is their number.
    """
    parts = search_sql.ON_SQLITE if kind.is_sqlite else search_sql.ON_POSTGRES
    matched = search_sql.MATCHED_WITH_NEEDLES if kind.needs_texts else search_sql.MATCHED
    if kind.is_counted:
        statement = parts["counted"]
    else:
        statement = search_sql.RANKED if kind.is_ranked else search_sql.UNRANKED
    has_needles = parts["has_needles"]
    sql = statement.format(
        matched=matched.format(
            matching=parts["matching"],
            has_needles=has_needles.format(":needles"),
            **search_sql.LIMITS,
        ),
        indexed=parts["indexed"] if kind.is_counted else "SELECT post_id FROM matched",
        weighed=parts["weighed"].format(**search_sql.LIMITS),
        has_all_needles=has_needles.format(":all_needles"),
        **search_sql.LIMITS,
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
