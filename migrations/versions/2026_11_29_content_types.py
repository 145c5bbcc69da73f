"""Posts in HTML, which are indexed by their text.

Revision d4b7f1a92c68, 2026-11-29. After a downgrade, all posts are Markdown.
"""

import sqlalchemy as sa
from alembic import op

revision = "d4b7f1a92c68"
down_revision = "d18f5b6ac920"
branch_labels = None
depends_on = None

MARKDOWN = "text/markdown"
REBUILD = "INSERT INTO post_search (post_search) VALUES ('rebuild')"


def make_index(content: str) -> str:
    """Return the statement of an FTS5 index of this table or view."""
    return f"""
        CREATE VIRTUAL TABLE post_search USING fts5(
            title, tags, content, content='{content}', content_rowid='id',
            tokenize="unicode61 remove_diacritics 2", prefix='2 3'
        )
    """


# The version before renders all content as Markdown, so a content that it changes is Markdown. It
# leaves `text_from` unchanged, which this version changes with the content.
#
# One trigger on SQLite, where the order of several is undefined: the index must lose exactly what
# it has. The UPDATE in it does not start the trigger again, since triggers are not recursive.
#
# The content of the index there is a view of the texts, so that a check or a rebuild of the index
# reads them.
SEARCH_ON_SQLITE = (
    """
    CREATE VIEW post_texts AS
    SELECT id, title, tags, coalesce(content_text, content) AS content FROM posts
    """,
    make_index("post_texts"),
    """
    CREATE TRIGGER post_search_insert AFTER INSERT ON posts BEGIN
        INSERT INTO post_search (rowid, title, tags, content)
        VALUES (new.id, new.title, new.tags, coalesce(new.content_text, new.content));
    END
    """,
    """
    CREATE TRIGGER post_search_delete AFTER DELETE ON posts BEGIN
        INSERT INTO post_search (post_search, rowid, title, tags, content)
        VALUES ('delete', old.id, old.title, old.tags, coalesce(old.content_text, old.content));
    END
    """,
    f"""
    CREATE TRIGGER post_search_update AFTER UPDATE OF title, tags, content, content_text ON posts
    BEGIN
        INSERT INTO post_search (post_search, rowid, title, tags, content)
        VALUES ('delete', old.id, old.title, old.tags, coalesce(old.content_text, old.content));
        UPDATE posts SET content_type = '{MARKDOWN}', content_text = NULL, text_from = NULL
        WHERE id = new.id AND new.content <> old.content AND new.text_from = old.text_from;
        INSERT INTO post_search (rowid, title, tags, content)
        SELECT id, title, tags, content FROM post_texts WHERE id = new.id;
    END
    """,
    REBUILD,
)
SEARCH_ON_POSTGRES = (
    """
    CREATE OR REPLACE FUNCTION post_search_keep() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        words text := coalesce(new.content_text, new.content);
    BEGIN
        INSERT INTO post_search (post_id, vector)
        VALUES (new.id, post_search_vector(new.title, new.tags, words))
        ON CONFLICT (post_id) DO UPDATE SET vector = excluded.vector;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER post_search_keep
    AFTER INSERT OR UPDATE OF title, tags, content, content_text ON posts
    FOR EACH ROW EXECUTE FUNCTION post_search_keep()
    """,
    f"""
    CREATE FUNCTION posts_make_markdown() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        new.content_type := '{MARKDOWN}';
        new.content_text := NULL;
        new.text_from := NULL;
        RETURN new;
    END
    $$
    """,
    """
    CREATE TRIGGER posts_make_markdown BEFORE UPDATE OF content ON posts FOR EACH ROW
    WHEN (new.text_from = old.text_from AND new.content <> old.content)
    EXECUTE FUNCTION posts_make_markdown()
    """,
)

# As in revision b4e1a8d20c57.
OLD_SEARCH_ON_SQLITE = (
    make_index("posts"),
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
    REBUILD,
)
OLD_SEARCH_ON_POSTGRES = (
    """
    CREATE OR REPLACE FUNCTION post_search_keep() RETURNS trigger LANGUAGE plpgsql AS $$
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
    "DROP FUNCTION posts_make_markdown CASCADE",
)

DROP_SEARCH_ON_SQLITE = (
    *(f"DROP TRIGGER post_search_{name}" for name in ("insert", "delete", "update")),
    "DROP TABLE post_search",
)
DROP_SEARCH_ON_POSTGRES = ("DROP TRIGGER post_search_keep ON posts",)


def is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def execute_all(*statements: str) -> None:
    for statement in statements:
        op.execute(statement)


def upgrade() -> None:
    op.add_column(
        "posts", sa.Column("content_type", sa.String(20), nullable=False, server_default=MARKDOWN)
    )
    # Of a post in HTML: its text, and the digest of the content that this was made from.
    op.add_column("posts", sa.Column("content_text", sa.String(), nullable=True))
    op.add_column("posts", sa.Column("text_from", sa.String(16), nullable=True))
    if is_sqlite():
        execute_all(*DROP_SEARCH_ON_SQLITE, *SEARCH_ON_SQLITE)
    else:
        execute_all(*DROP_SEARCH_ON_POSTGRES, *SEARCH_ON_POSTGRES)


def downgrade() -> None:
    if is_sqlite():
        execute_all(*DROP_SEARCH_ON_SQLITE, "DROP VIEW post_texts", *OLD_SEARCH_ON_SQLITE)
    else:
        # The trigger indexes the content then.
        op.execute("UPDATE posts SET content_text = NULL WHERE content_text IS NOT NULL")
        execute_all(*DROP_SEARCH_ON_POSTGRES, *OLD_SEARCH_ON_POSTGRES)
    for name in ("text_from", "content_text", "content_type"):
        op.drop_column("posts", name)
