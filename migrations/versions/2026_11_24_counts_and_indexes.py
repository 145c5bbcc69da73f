"""Counters of posts, indexes for every order and filter, and notifications of every change.

Revision c81f02d7ab46, 2026-11-24.
"""

import sqlalchemy as sa
from alembic import op

revision = "c81f02d7ab46"
down_revision = "b4e1a8d20c57"
branch_labels = None
depends_on = None

# Each row changes one counter by its delta, so writers do not wait for each other's row. One insert
# in 64 merges the rows of its counter. A multiplicative hash of the id chooses it: since a post
# adds a fixed number of rows, every 64th id would always belong to the same counters.
IS_MERGING = "(new.id * 40503) % 65536 < 1024"

COUNTS_ON_SQLITE = (
    """
    CREATE TRIGGER post_counts_insert AFTER INSERT ON posts
    WHEN new.published_at IS NOT NULL AND new.taken_down_at IS NULL BEGIN
        INSERT INTO post_counts (user_id, tag_id, delta) VALUES (0, 0, 1), (new.user_id, 0, 1);
    END
    """,
    """
    CREATE TRIGGER post_counts_delete AFTER DELETE ON posts
    WHEN old.published_at IS NOT NULL AND old.taken_down_at IS NULL BEGIN
        INSERT INTO post_counts (user_id, tag_id, delta) VALUES (0, 0, -1), (old.user_id, 0, -1);
    END
    """,
    """
    CREATE TRIGGER post_counts_update AFTER UPDATE OF published_at, taken_down_at, user_id ON posts
    BEGIN
        INSERT INTO post_counts (user_id, tag_id, delta)
        SELECT user_id, 0, delta FROM (
            SELECT 0 AS user_id, -1 AS delta, old.published_at AS at, old.taken_down_at AS down
            UNION ALL SELECT old.user_id, -1, old.published_at, old.taken_down_at
            UNION ALL SELECT 0, 1, new.published_at, new.taken_down_at
            UNION ALL SELECT new.user_id, 1, new.published_at, new.taken_down_at
        )
        WHERE at IS NOT NULL AND down IS NULL;
    END
    """,
    """
    CREATE TRIGGER post_tags_update AFTER UPDATE OF published_at, taken_down_at, updated_at ON posts
    BEGIN
        UPDATE post_tags
        SET published_at = iif(new.taken_down_at IS NULL, new.published_at, NULL),
            updated_at = new.updated_at
        WHERE post_id = new.id;
    END
    """,
    """
    CREATE TRIGGER post_counts_tag_insert AFTER INSERT ON post_tags
    WHEN new.published_at IS NOT NULL BEGIN
        INSERT INTO post_counts (user_id, tag_id, delta) VALUES (0, new.tag_id, 1);
    END
    """,
    """
    CREATE TRIGGER post_counts_tag_delete AFTER DELETE ON post_tags
    WHEN old.published_at IS NOT NULL BEGIN
        INSERT INTO post_counts (user_id, tag_id, delta) VALUES (0, old.tag_id, -1);
    END
    """,
    """
    CREATE TRIGGER post_counts_tag_update AFTER UPDATE OF published_at, tag_id ON post_tags
    WHEN (old.published_at IS NULL, old.tag_id) IS NOT (new.published_at IS NULL, new.tag_id) BEGIN
        INSERT INTO post_counts (user_id, tag_id, delta)
        SELECT 0, tag_id, delta FROM (
            SELECT old.tag_id AS tag_id, -1 AS delta, old.published_at AS at
            UNION ALL SELECT new.tag_id, 1, new.published_at
        )
        WHERE at IS NOT NULL;
    END
    """,
    f"""
    CREATE TRIGGER post_counts_fold AFTER INSERT ON post_counts
    WHEN {IS_MERGING} BEGIN
        INSERT INTO post_counts (user_id, tag_id, delta)
        SELECT user_id, tag_id, sum(delta) FROM post_counts
        WHERE user_id = new.user_id AND tag_id = new.tag_id AND id <= new.id
        GROUP BY user_id, tag_id HAVING sum(delta) <> 0;
        DELETE FROM post_counts
        WHERE user_id = new.user_id AND tag_id = new.tag_id AND id <= new.id;
    END
    """,
)

COUNTS_ON_POSTGRES = (
    """
    CREATE FUNCTION post_counts_keep() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        was_shown boolean := old.published_at IS NOT NULL AND old.taken_down_at IS NULL;
        is_shown boolean := new.published_at IS NOT NULL AND new.taken_down_at IS NULL;
    BEGIN
        IF (was_shown, old.user_id) IS DISTINCT FROM (is_shown, new.user_id) THEN
            IF was_shown THEN
                INSERT INTO post_counts (user_id, tag_id, delta)
                VALUES (0, 0, -1), (old.user_id, 0, -1);
            END IF;
            IF is_shown THEN
                INSERT INTO post_counts (user_id, tag_id, delta)
                VALUES (0, 0, 1), (new.user_id, 0, 1);
            END IF;
        END IF;
        IF TG_OP = 'UPDATE' THEN
            UPDATE post_tags
            SET published_at = CASE WHEN is_shown THEN new.published_at END,
                updated_at = new.updated_at
            WHERE post_id = new.id;
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER post_counts_keep AFTER INSERT OR DELETE ON posts
    FOR EACH ROW EXECUTE FUNCTION post_counts_keep()
    """,
    """
    CREATE TRIGGER post_counts_update AFTER UPDATE ON posts FOR EACH ROW
    WHEN (
        (old.published_at, old.taken_down_at, old.updated_at, old.user_id)
        IS DISTINCT FROM (new.published_at, new.taken_down_at, new.updated_at, new.user_id)
    )
    EXECUTE FUNCTION post_counts_keep()
    """,
    """
    CREATE FUNCTION post_counts_keep_tag() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO post_counts (user_id, tag_id, delta)
        SELECT 0, tag_id, delta
        FROM (VALUES (old.tag_id, -1, old.published_at), (new.tag_id, 1, new.published_at))
            AS changes (tag_id, delta, published_at)
        WHERE published_at IS NOT NULL;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER post_counts_keep AFTER INSERT OR DELETE ON post_tags
    FOR EACH ROW EXECUTE FUNCTION post_counts_keep_tag()
    """,
    """
    CREATE TRIGGER post_counts_update AFTER UPDATE ON post_tags FOR EACH ROW
    WHEN (
        (old.published_at IS NULL, old.tag_id)
        IS DISTINCT FROM (new.published_at IS NULL, new.tag_id)
    )
    EXECUTE FUNCTION post_counts_keep_tag()
    """,
    # One transaction at a time merges; a concurrent one skips it instead of waiting.
    """
    CREATE FUNCTION post_counts_fold() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF pg_try_advisory_xact_lock(6274104) THEN
            WITH folded AS (
                DELETE FROM post_counts
                WHERE user_id = new.user_id AND tag_id = new.tag_id AND id <= new.id
                RETURNING delta
            )
            INSERT INTO post_counts (user_id, tag_id, delta)
            SELECT new.user_id, new.tag_id, sum(delta) FROM folded HAVING sum(delta) <> 0;
        END IF;
        RETURN NULL;
    END
    $$
    """,
    f"""
    CREATE TRIGGER post_counts_fold AFTER INSERT ON post_counts FOR EACH ROW
    WHEN ({IS_MERGING}) EXECUTE FUNCTION post_counts_fold()
    """,
)

COUNT_EXISTING_POSTS = (
    """
    INSERT INTO post_counts (user_id, tag_id, delta)
    SELECT 0, 0, count(*) FROM posts WHERE published_at IS NOT NULL AND taken_down_at IS NULL
    """,
    """
    INSERT INTO post_counts (user_id, tag_id, delta)
    SELECT user_id, 0, count(*) FROM posts
    WHERE published_at IS NOT NULL AND taken_down_at IS NULL GROUP BY user_id
    """,
    """
    INSERT INTO post_counts (user_id, tag_id, delta)
    SELECT 0, tag_id, count(*) FROM post_tags WHERE published_at IS NOT NULL GROUP BY tag_id
    """,
)

DROP_COUNTS_ON_SQLITE = (
    *(
        f"DROP TRIGGER post_counts_{name}"
        for name in ("insert", "delete", "update", "tag_insert", "tag_delete", "tag_update", "fold")
    ),
    "DROP TRIGGER post_tags_update",
)
DROP_COUNTS_ON_POSTGRES = (
    "DROP FUNCTION post_counts_keep CASCADE",
    "DROP FUNCTION post_counts_keep_tag CASCADE",
    "DROP FUNCTION post_counts_fold CASCADE",
)

# Tables whose changes invalidate cached responses. SQLite needs no notifications: the file has a
# counter of commits.
NOTIFYING_TABLES = ("users", "posts", "post_tags", "comments")
NOTIFICATIONS = (
    """
    CREATE FUNCTION notify_of_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('blog_changes', '');
        RETURN NULL;
    END
    $$
    """,
    *(
        f"""
        CREATE TRIGGER notify_of_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION notify_of_change()
        """
        for table in NOTIFYING_TABLES
    ),
)
DROP_NOTIFICATIONS = ("DROP FUNCTION notify_of_change CASCADE",)

FILL_POST_TAGS = """
    UPDATE post_tags SET (published_at, updated_at) = (
        SELECT CASE WHEN taken_down_at IS NULL THEN published_at END, updated_at
        FROM posts WHERE posts.id = post_id
    )
"""


def is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def create_index(table: str, *columns: str, where: str | None = None) -> None:
    """Create an index of columns, some of them in descending order."""
    name = "_".join(["ix", table, *(column.removesuffix(" DESC") for column in columns)])
    condition = None if where is None else sa.text(where)
    op.create_index(
        name,
        table,
        [sa.text(column) for column in columns],
        postgresql_where=condition,
        sqlite_where=condition,
    )


def upgrade() -> None:
    with op.batch_alter_table("post_tags") as post_tags:
        for name in ("published_at", "updated_at"):
            post_tags.add_column(sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.execute(FILL_POST_TAGS)
    with op.batch_alter_table("post_tags") as post_tags:
        post_tags.alter_column(
            "updated_at", existing_type=sa.DateTime(timezone=True), nullable=False
        )
    for time in ("published_at", "updated_at"):
        create_index("post_tags", "tag_id", f"{time} DESC", "post_id DESC")
    for name in ("published_at_id", "updated_at_id", "user_id"):
        op.drop_index(f"ix_posts_{name}", "posts")
    for time in ("published_at", "updated_at"):
        create_index("posts", f"{time} DESC", "id DESC", where="taken_down_at IS NULL")
        create_index("posts", "user_id", f"{time} DESC", "id DESC", where="taken_down_at IS NULL")
    create_index("posts", "user_id", "created_at DESC", "id DESC")
    op.create_table(
        "post_counts",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("tag_id", sa.Integer(), nullable=False),
        sa.Column("delta", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_post_counts"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_post_counts_user_id_tag_id", "post_counts", ["user_id", "tag_id"])
    for statement in (
        *COUNT_EXISTING_POSTS,
        *(COUNTS_ON_SQLITE if is_sqlite() else (*COUNTS_ON_POSTGRES, *NOTIFICATIONS)),
    ):
        op.execute(statement)


def downgrade() -> None:
    for statement in (
        DROP_COUNTS_ON_SQLITE if is_sqlite() else (*DROP_COUNTS_ON_POSTGRES, *DROP_NOTIFICATIONS)
    ):
        op.execute(statement)
    op.drop_table("post_counts")
    for name in (
        "published_at_id",
        "user_id_published_at_id",
        "updated_at_id",
        "user_id_updated_at_id",
        "user_id_created_at_id",
    ):
        op.drop_index(f"ix_posts_{name}", "posts")
    op.create_index("ix_posts_user_id", "posts", ["user_id"])
    for time in ("published_at", "updated_at"):
        create_index("posts", f"{time} DESC", "id DESC")
        op.drop_index(f"ix_post_tags_tag_id_{time}_post_id", "post_tags")
    with op.batch_alter_table("post_tags") as post_tags:
        for name in ("published_at", "updated_at"):
            post_tags.drop_column(name)
