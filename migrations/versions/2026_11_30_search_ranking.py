"""Searches that read the row of each match once.

Revision c41f7d90b2e8, 2026-11-30. The version before keeps using its functions.
"""

from alembic import op

revision = "c41f7d90b2e8"
down_revision = "5e7a91c3d2f4"
branch_labels = None
depends_on = None

# A tenth as long as the index that holds the times too.
ON_SQLITE = "CREATE INDEX ix_post_words_ranked ON post_words (post_id, title_length)"
# The first posts by rank, each with the number of all that match. `groups` are disjoint queries
# that find them, and `tiers` those that only add to the rank, each with its weight; `others` are
# posts that match but are not found by the index. Only the newest `ranked` posts are ranked.
ON_POSTGRES = """
    CREATE FUNCTION post_words_ranked(
        groups json, tiers json, others integer[], until timestamptz, ranked integer, wanted integer
    )
    RETURNS TABLE (post_id integer, published_at timestamptz, rank bigint, number bigint)
    LANGUAGE sql STABLE SET jit = off SET max_parallel_workers_per_gather = 0
    SET work_mem = '32MB' AS $$
        WITH queries AS MATERIALIZED (
            SELECT CAST(value ->> 0 AS tsquery) AS query, CAST(value ->> 1 AS integer) AS weight
            FROM json_array_elements(groups)
        ), matched AS MATERIALIZED (
            SELECT w.post_id, w.published_at, w.title_length, queries.weight
            FROM queries CROSS JOIN post_words AS w
            WHERE post_words_vector(w.lexemes) @@ queries.query AND w.published_at <= until
            UNION ALL
            SELECT post_id, published_at, title_length, 0 FROM post_words
            WHERE post_id = ANY (others)
        ), counted AS MATERIALIZED (
            SELECT count(*) AS number FROM matched
        ), oldest AS MATERIALIZED (
            SELECT CASE WHEN number > ranked THEN (
                SELECT post_id FROM matched ORDER BY post_id DESC LIMIT 1 OFFSET ranked - 1
            ) ELSE 0 END AS post_id FROM counted
        ), weights AS MATERIALIZED (
            SELECT post_id, sum(weight) AS weight
            FROM post_words_weighed(tiers, (SELECT post_id FROM oldest)) GROUP BY post_id
        )
        SELECT
            m.post_id, m.published_at,
            (m.weight + coalesce(weights.weight, 0)) * 1000000 + 1000000 / (m.title_length + 10)
                AS rank,
            (SELECT number FROM counted)
        FROM matched AS m LEFT JOIN weights ON weights.post_id = m.post_id
        WHERE m.post_id >= (SELECT post_id FROM oldest)
        ORDER BY rank DESC, m.post_id DESC LIMIT wanted
    $$
"""


def is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def upgrade() -> None:
    op.execute(ON_SQLITE if is_sqlite() else ON_POSTGRES)


def downgrade() -> None:
    if is_sqlite():
        op.drop_index("ix_post_words_ranked", "post_words")
    else:
        op.execute("DROP FUNCTION post_words_ranked")
