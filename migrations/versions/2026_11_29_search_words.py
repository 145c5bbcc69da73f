"""The search by words that the service makes, the same on both databases.

Revision c41d7e05b9f8, 2026-11-29. Posts that exist are not indexed here: the workers do it a few at
a time, and `blog-api rebuild` at once. The version before keeps its own index.
"""

import sqlalchemy as sa
from alembic import op

revision = "c41d7e05b9f8"
down_revision = "a94d1c7e2b06"
branch_labels = None
depends_on = None

# The version before changes the text of a post and leaves `words_from` unchanged, which this
# version changes with the text. Its words are deleted: they may be what the author has removed.
#
# The tokenizer of SQLite leaves all characters as they are but ASCII letters, which are lowercase
# in lexemes. The index holds neither positions nor the lexemes themselves.
ON_SQLITE = (
    """
    CREATE VIRTUAL TABLE post_search_words USING fts5(
        lexemes, content='post_words', content_rowid='post_id', detail=none, columnsize=0,
        tokenize="ascii tokenchars '~+^#*'", prefix='2 3'
    )
    """,
    """
    CREATE TRIGGER post_words_insert AFTER INSERT ON post_words BEGIN
        INSERT INTO post_search_words (rowid, lexemes) VALUES (new.post_id, new.lexemes);
    END
    """,
    """
    CREATE TRIGGER post_words_delete AFTER DELETE ON post_words BEGIN
        INSERT INTO post_search_words (post_search_words, rowid, lexemes)
        VALUES ('delete', old.post_id, old.lexemes);
    END
    """,
    """
    CREATE TRIGGER post_words_update AFTER UPDATE OF lexemes ON post_words
    WHEN new.lexemes <> old.lexemes BEGIN
        INSERT INTO post_search_words (post_search_words, rowid, lexemes)
        VALUES ('delete', old.post_id, old.lexemes);
        INSERT INTO post_search_words (rowid, lexemes) VALUES (new.post_id, new.lexemes);
    END
    """,
    """
    CREATE TRIGGER post_words_outdated
    AFTER UPDATE OF title, tags, content, content_text ON posts
    WHEN new.words_from = old.words_from
         AND (new.title <> old.title OR new.tags <> old.tags OR new.content <> old.content
              OR new.content_text IS NOT old.content_text)
    BEGIN
        UPDATE posts SET words_version = NULL, words_from = NULL WHERE id = new.id;
        DELETE FROM post_words WHERE post_id = new.id;
    END
    """,
    """
    CREATE TRIGGER post_words_times AFTER UPDATE OF published_at, taken_down_at ON posts
    BEGIN
        UPDATE post_words
        SET published_at = iif(new.taken_down_at IS NULL, new.published_at, NULL)
        WHERE post_id = new.id;
    END
    """,
)
SETTINGS = "SET jit = off SET max_parallel_workers_per_gather = 0"
ON_POSTGRES = (
    # Texts are stored apart from the rows, of which a search reads many.
    "ALTER TABLE post_words SET (toast_tuple_target = 128)",
    # The cost makes Postgres use the index: making the vectors of many rows takes far longer than
    # reading them, which its planner does not know. A function in SQL would be inlined without it.
    """
    CREATE FUNCTION post_words_vector(lexemes text) RETURNS tsvector
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 10000 AS $$
    BEGIN
        RETURN array_to_tsvector(string_to_array(lexemes, ' '));
    END
    $$
    """,
    """
    CREATE INDEX ix_post_words_lexemes ON post_words USING gin (post_words_vector(lexemes))
    """,
    # The planner expects many rows, and would spend a second on compiling and on parallel workers.
    f"""
    CREATE FUNCTION post_words_matching(query text)
    RETURNS TABLE (post_id integer, published_at timestamptz, title_length smallint)
    LANGUAGE sql STABLE {SETTINGS} AS $$
        SELECT post_id, published_at, title_length FROM post_words
        WHERE post_words_vector(lexemes) @@ CAST(query AS tsquery)
    $$
    """,
    f"""
    CREATE FUNCTION post_words_weighed(tiers json) RETURNS TABLE (post_id integer, weight integer)
    LANGUAGE sql STABLE {SETTINGS} AS $$
        SELECT matching.post_id, CAST(tier.value ->> 1 AS integer)
        FROM json_array_elements(tiers) AS tier
        CROSS JOIN LATERAL (
            SELECT post_words.post_id FROM post_words
            WHERE post_words_vector(lexemes) @@ CAST(tier.value ->> 0 AS tsquery) OFFSET 0
        ) AS matching
    $$
    """,
    """
    CREATE FUNCTION post_words_outdated() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM post_words WHERE post_id = new.id;
        new.words_version := NULL;
        new.words_from := NULL;
        RETURN new;
    END
    $$
    """,
    """
    CREATE TRIGGER post_words_outdated
    BEFORE UPDATE OF title, tags, content, content_text ON posts FOR EACH ROW
    WHEN (new.words_from = old.words_from
          AND (new.title <> old.title OR CAST(new.tags AS text) <> CAST(old.tags AS text)
               OR new.content <> old.content
               OR new.content_text IS DISTINCT FROM old.content_text))
    EXECUTE FUNCTION post_words_outdated()
    """,
    """
    CREATE FUNCTION post_words_times() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE post_words
        SET published_at = CASE WHEN new.taken_down_at IS NULL THEN new.published_at END
        WHERE post_id = new.id;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER post_words_times AFTER UPDATE OF published_at, taken_down_at ON posts
    FOR EACH ROW
    WHEN (new.published_at IS DISTINCT FROM old.published_at
          OR new.taken_down_at IS DISTINCT FROM old.taken_down_at)
    EXECUTE FUNCTION post_words_times()
    """,
)


def is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def upgrade() -> None:
    op.add_column("posts", sa.Column("words_version", sa.SmallInteger(), nullable=True))
    op.add_column("posts", sa.Column("words_from", sa.String(length=16), nullable=True))
    op.create_index("ix_posts_words_version", "posts", ["words_version"])
    op.create_table(
        "post_words",
        sa.Column("post_id", sa.Integer(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("title_length", sa.SmallInteger(), nullable=False),
        sa.Column("is_cut", sa.Boolean(), nullable=False),
        sa.Column("lexemes", sa.String(), nullable=False),
        sa.Column("folded", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["post_id"], ["posts.id"], name="fk_post_words_post_id_posts", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("post_id", name="pk_post_words"),
    )
    op.create_index(
        "ix_post_words_found", "post_words", ["post_id", "published_at", "title_length"]
    )
    op.create_index(
        "ix_post_words_cut",
        "post_words",
        ["post_id"],
        sqlite_where=sa.text("is_cut"),
        postgresql_where=sa.text("is_cut"),
    )
    op.create_table(
        "words_leases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_words_leases"),
        sqlite_autoincrement=True,
    )
    for statement in ON_SQLITE if is_sqlite() else ON_POSTGRES:
        op.execute(statement)


def downgrade() -> None:
    if is_sqlite():
        for name in ("outdated", "times"):
            op.execute(f"DROP TRIGGER post_words_{name}")
        op.execute("DROP TABLE post_search_words")
    else:
        for name in ("outdated", "times"):
            op.execute(f"DROP FUNCTION post_words_{name} CASCADE")
    op.drop_table("words_leases")
    op.drop_table("post_words")
    if not is_sqlite():
        for name in ("vector", "matching", "weighed"):
            op.execute(f"DROP FUNCTION post_words_{name}")
    op.drop_index("ix_posts_words_version", "posts")
    op.drop_column("posts", "words_from")
    op.drop_column("posts", "words_version")
