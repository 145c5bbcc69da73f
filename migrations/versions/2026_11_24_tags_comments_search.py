"""Tags, rendered content, versions, comments, follows, bookmarks, search, imported authors.

Revision b4e1a8d20c57, 2026-11-24.
"""

import sqlalchemy as sa
from alembic import op

revision = "b4e1a8d20c57"
down_revision = "7d0c5e1f9a24"
branch_labels = None
depends_on = None

# An FTS5 index whose content is the table itself; triggers update it.
SEARCH_ON_SQLITE = (
    """
    CREATE VIRTUAL TABLE post_search USING fts5(
        title, tags, content, content='posts', content_rowid='id',
        tokenize="unicode61 remove_diacritics 2", prefix='2 3'
    )
    """,
    """
    CREATE TRIGGER post_search_insert AFTER INSERT ON posts BEGIN
        INSERT INTO post_search (rowid, title, tags, content)
        VALUES (new.id, new.title, new.tags, new.content);
    END
    """,
    """
    CREATE TRIGGER post_search_delete AFTER DELETE ON posts BEGIN
        INSERT INTO post_search (post_search, rowid, title, tags, content)
        VALUES ('delete', old.id, old.title, old.tags, old.content);
    END
    """,
    """
    CREATE TRIGGER post_search_update AFTER UPDATE OF title, tags, content ON posts BEGIN
        INSERT INTO post_search (post_search, rowid, title, tags, content)
        VALUES ('delete', old.id, old.title, old.tags, old.content);
        INSERT INTO post_search (rowid, title, tags, content)
        VALUES (new.id, new.title, new.tags, new.content);
    END
    """,
    "INSERT INTO post_search (post_search) VALUES ('rebuild')",
)

# Postgres' parser takes `docs.rs/serde` as one word, so punctuation is replaced by spaces, as FTS5
# separates words. Each word is indexed unchanged and stemmed; the configuration `russian` stems
# Latin words as English. A tsvector holds a mebibyte: a longer text is cut until it fits.
SEARCH_ON_POSTGRES = (
    """
    CREATE TABLE post_search (
        post_id integer PRIMARY KEY REFERENCES posts (id) ON DELETE CASCADE,
        vector tsvector NOT NULL
    )
    """,
    "CREATE INDEX ix_post_search_vector ON post_search USING gin (vector)",
    r"""
    CREATE FUNCTION post_search_words(value text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT to_tsvector('pg_catalog.russian', words) || to_tsvector('pg_catalog.simple', words)
        FROM translate(
            value, '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32)
        ) AS words
    $$
    """,
    """
    CREATE FUNCTION post_search_vector(title text, tags json, content text) RETURNS tsvector
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
    DECLARE
        length integer := length(content);
    BEGIN
        LOOP
            BEGIN
                RETURN setweight(post_search_words(title), 'A')
                    || setweight(post_search_words(coalesce(
                        (SELECT string_agg(tag, ' ') FROM json_array_elements_text(tags) AS tag), ''
                    )), 'B')
                    || setweight(post_search_words(left(content, length)), 'D');
            EXCEPTION WHEN program_limit_exceeded THEN
                length := length * 4 / 5;
            END;
        END LOOP;
    END
    $$
    """,
    """
    CREATE FUNCTION post_search_keep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO post_search (post_id, vector)
        VALUES (new.id, post_search_vector(new.title, new.tags, new.content))
        ON CONFLICT (post_id) DO UPDATE SET vector = excluded.vector;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER post_search_keep AFTER INSERT OR UPDATE OF title, tags, content ON posts
    FOR EACH ROW EXECUTE FUNCTION post_search_keep()
    """,
    """
    INSERT INTO post_search (post_id, vector)
    SELECT id, post_search_vector(title, tags, content) FROM posts
    """,
)

DROP_SEARCH_ON_SQLITE = (
    "DROP TRIGGER post_search_insert",
    "DROP TRIGGER post_search_delete",
    "DROP TRIGGER post_search_update",
    "DROP TABLE post_search",
)
DROP_SEARCH_ON_POSTGRES = (
    "DROP TRIGGER post_search_keep ON posts",
    "DROP FUNCTION post_search_keep",
    "DROP FUNCTION post_search_vector",
    "DROP FUNCTION post_search_words",
    "DROP TABLE post_search",
)

# Like the renderer's fallback for a text that takes too long; `blog-api rebuild` renders it.
ESCAPE_CONTENT = """
    UPDATE posts SET content_html = '<pre>' || replace(replace(replace(
        content, '&', '&amp;'), '<', '&lt;'), '>', '&gt;') || '</pre>'
"""


def is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def timestamps() -> list[sa.Column[object]]:
    return [
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    ]


def upgrade() -> None:
    # Imported authors have neither an email address nor a password.
    change_users(nullable=True)
    for column in (
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("content_html", sa.String(), nullable=False, server_default=""),
        sa.Column("tags", sa.JSON(), nullable=False, server_default="[]"),
        sa.Column("comment_count", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("bookmark_count", sa.Integer(), nullable=False, server_default="0"),
    ):
        op.add_column("posts", column)
    op.execute(ESCAPE_CONTENT)
    op.create_index(
        "ix_posts_updated_at_id",
        "posts",
        [sa.literal_column("updated_at DESC"), sa.literal_column("id DESC")],
    )
    op.create_table(
        "tags",
        sa.Column("id", sa.Integer(), nullable=False),
        *timestamps(),
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("key", sa.String(length=50), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tags"),
        sa.UniqueConstraint("key", name="uq_tags_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "post_tags",
        sa.Column("tag_id", sa.Integer(), nullable=False),
        sa.Column("post_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tag_id"], ["tags.id"], name="fk_post_tags_tag_id_tags", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["post_id"], ["posts.id"], name="fk_post_tags_post_id_posts", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tag_id", "post_id", name="pk_post_tags"),
    )
    op.create_index("ix_post_tags_post_id", "post_tags", ["post_id"])
    op.create_table(
        "comments",
        sa.Column("id", sa.Integer(), nullable=False),
        *timestamps(),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("post_id", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("thread_id", sa.Integer(), nullable=True),
        sa.Column("path", sa.String(length=90), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("content", sa.String(length=10_000), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer_count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["post_id"], ["posts.id"], name="fk_comments_post_id_posts", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["comments.id"], name="fk_comments_parent_id_comments"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_comments_user_id_users", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_comments"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_comments_post_id_parent_id_id", "comments", ["post_id", "parent_id", "id"])
    op.create_index("ix_comments_thread_id_path", "comments", ["thread_id", "path"])
    op.create_index("ix_comments_parent_id", "comments", ["parent_id"])
    op.create_index("ix_comments_user_id", "comments", ["user_id"])
    for table, column, referred in (
        ("follows", "author_id", "users"),
        ("bookmarks", "post_id", "posts"),
    ):
        op.create_table(
            table,
            sa.Column("id", sa.Integer(), nullable=False),
            *timestamps(),
            sa.Column("user_id", sa.Integer(), nullable=False),
            sa.Column(column, sa.Integer(), nullable=False),
            sa.ForeignKeyConstraint(
                ["user_id"], ["users.id"], name=f"fk_{table}_user_id_users", ondelete="CASCADE"
            ),
            sa.ForeignKeyConstraint(
                [column],
                [f"{referred}.id"],
                name=f"fk_{table}_{column}_{referred}",
                ondelete="CASCADE",
            ),
            sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
            sa.UniqueConstraint("user_id", column, name=f"uq_{table}_user_id_{column}"),
            sqlite_autoincrement=True,
        )
        op.create_index(f"ix_{table}_{column}", table, [column])
    op.add_column("audit_entries", sa.Column("comment_id", sa.Integer(), nullable=True))
    for statement in SEARCH_ON_SQLITE if is_sqlite() else SEARCH_ON_POSTGRES:
        op.execute(statement)


def downgrade() -> None:
    for statement in DROP_SEARCH_ON_SQLITE if is_sqlite() else DROP_SEARCH_ON_POSTGRES:
        op.execute(statement)
    op.drop_column("audit_entries", "comment_id")
    for table in ("bookmarks", "follows", "comments", "post_tags", "tags"):
        op.drop_table(table)
    op.drop_index("ix_posts_updated_at_id", "posts")
    for name in ("bookmark_count", "comment_count", "tags", "content_html", "version"):
        op.drop_column("posts", name)
    # An imported author gets an unreachable address and a hash that matches no password.
    op.execute("UPDATE users SET email = 'imported-' || id || '@invalid' WHERE email IS NULL")
    op.execute("UPDATE users SET email_key = email WHERE email_key IS NULL")
    op.execute("UPDATE users SET password_hash = '!' WHERE password_hash IS NULL")
    change_users(nullable=False)


def change_users(*, nullable: bool) -> None:
    """Alter columns. SQLite copies the table for that, which must not lose the last id."""
    if is_sqlite():
        op.execute(
            "CREATE TEMPORARY TABLE last_ids AS SELECT seq FROM sqlite_sequence "
            "WHERE name = 'users'"
        )
    with op.batch_alter_table("users", table_kwargs={"sqlite_autoincrement": True}) as users:
        for name, length in (("email", 254), ("email_key", 254), ("password_hash", 255)):
            users.alter_column(name, existing_type=sa.String(length=length), nullable=nullable)
        if nullable:
            users.add_column(sa.Column("import_key", sa.String(length=255), nullable=True))
            users.create_unique_constraint("uq_users_import_key", ["import_key"])
        else:
            users.drop_constraint("uq_users_import_key", type_="unique")
            users.drop_column("import_key")
    if is_sqlite():
        op.execute("DELETE FROM sqlite_sequence WHERE name = 'users'")
        op.execute("INSERT INTO sqlite_sequence (name, seq) SELECT 'users', seq FROM last_ids")
        op.execute("DROP TABLE last_ids")
