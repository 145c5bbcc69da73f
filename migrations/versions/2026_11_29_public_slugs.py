"""Slugs under which a post was public: only those redirect, or are gone with a deleted post.

Revision e41a7c95d308, 2026-11-29.
"""

import sqlalchemy as sa
from alembic import op

revision = "e41a7c95d308"
down_revision = "8d3f60b1c2a4"
branch_labels = None
depends_on = None

# The format of stored times, with microseconds at the end of the millisecond.
NOW_ON_SQLITE = "strftime('%Y-%m-%d %H:%M:%f', 'now') || '999'"

# A post leaves its slug when it gets another one, is hidden or is deleted: if it was public until
# then, so was the slug. Triggers also serve the previous version and deletions by cascade.
# What was never public is deleted with its post.
TRIGGERS_ON_SQLITE = (
    f"""
    CREATE TRIGGER slugs_update AFTER UPDATE OF slug, published_at, taken_down_at ON posts
    WHEN old.published_at <= {NOW_ON_SQLITE} AND old.taken_down_at IS NULL BEGIN
        UPDATE slugs SET was_public = 1 WHERE slug = old.slug AND post_id = old.id;
    END
    """,
    f"""
    CREATE TRIGGER slugs_delete BEFORE DELETE ON posts BEGIN
        UPDATE slugs SET was_public = 1
        WHERE slug = old.slug AND post_id = old.id
        AND old.published_at <= {NOW_ON_SQLITE} AND old.taken_down_at IS NULL;
        DELETE FROM slugs WHERE post_id = old.id AND was_public = 0;
    END
    """,
)
TRIGGERS_ON_POSTGRES = (
    """
    CREATE FUNCTION slugs_keep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF old.published_at <= clock_timestamp() AND old.taken_down_at IS NULL THEN
            UPDATE slugs SET was_public = TRUE WHERE slug = old.slug AND post_id = old.id;
        END IF;
        IF TG_OP = 'UPDATE' THEN
            RETURN new;
        END IF;
        DELETE FROM slugs WHERE post_id = old.id AND NOT was_public;
        RETURN old;
    END
    $$
    """,
    """
    CREATE TRIGGER slugs_update BEFORE UPDATE OF slug, published_at, taken_down_at ON posts
    FOR EACH ROW EXECUTE FUNCTION slugs_keep()
    """,
    """
    CREATE TRIGGER slugs_delete BEFORE DELETE ON posts
    FOR EACH ROW EXECUTE FUNCTION slugs_keep()
    """,
)

# A former slug was public if the next one is newer than the publication. Of drafts and of deleted
# posts nothing is known: their former slugs become 404, which breaks no link that works now.
MARK_EXISTING_SLUGS = """
    UPDATE slugs SET was_public = TRUE
    WHERE EXISTS (
        SELECT 1 FROM posts
        WHERE posts.id = slugs.post_id
        AND posts.published_at <= coalesce(posts.taken_down_at, {now})
        AND NOT EXISTS (
            SELECT 1 FROM slugs AS later
            WHERE later.post_id = slugs.post_id AND later.id > slugs.id
            AND later.created_at <= posts.published_at
        )
    )
"""


def is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def upgrade() -> None:
    op.add_column(
        "slugs", sa.Column("was_public", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    now = NOW_ON_SQLITE if is_sqlite() else "now()"
    op.execute(sa.text(MARK_EXISTING_SLUGS.format(now=now).replace(":", r"\:")))
    for statement in TRIGGERS_ON_SQLITE if is_sqlite() else TRIGGERS_ON_POSTGRES:
        op.execute(sa.text(statement.replace(":", r"\:")))


def downgrade() -> None:
    for statement in (
        ("DROP TRIGGER slugs_update", "DROP TRIGGER slugs_delete")
        if is_sqlite()
        else ("DROP FUNCTION slugs_keep CASCADE",)
    ):
        op.execute(statement)
    op.drop_column("slugs", "was_public")
