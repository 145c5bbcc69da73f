"""Notifications of posts of which nothing but the counters has changed say so.

Revision f2a86d03b9c1, 2026-11-30. The version before does not know the operation `COUNT`, and
invalidates all that it has cached.
"""

from alembic import op

revision = "f2a86d03b9c1"
down_revision = "c41f7d90b2e8"
branch_labels = None
depends_on = None

# More rows than this are not named: they are better invalidated together.
MAX_ROWS = 20

# `*=` compares columns of any type, byte by byte.
CREATE_FUNCTION = f"""
    CREATE FUNCTION notify_of_posts() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        ids integer[] := ARRAY(SELECT id FROM changed LIMIT {MAX_ROWS + 1});
        change text := 'UPDATE posts';
        old_post posts;
        new_post posts;
    BEGIN
        IF cardinality(ids) = 1 THEN
            SELECT * INTO old_post FROM replaced;
            SELECT * INTO new_post FROM changed;
            old_post.comment_count := new_post.comment_count;
            old_post.bookmark_count := new_post.bookmark_count;
            IF old_post *= new_post THEN
                change := 'COUNT posts';
            END IF;
        END IF;
        IF cardinality(ids) > {MAX_ROWS} THEN
            PERFORM pg_notify('blog_changes', change);
        ELSIF cardinality(ids) > 0 THEN
            PERFORM pg_notify('blog_changes', change || ' ' || array_to_string(ids, ','));
        END IF;
        RETURN NULL;
    END
    $$
"""
DROP_TRIGGER = "DROP TRIGGER notify_of_rows ON posts"
CREATE_TRIGGER = """
    CREATE TRIGGER notify_of_rows AFTER UPDATE ON posts
    REFERENCING {tables} FOR EACH STATEMENT EXECUTE FUNCTION {function}()
"""


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    op.execute(CREATE_FUNCTION)
    op.execute(DROP_TRIGGER)
    tables = "OLD TABLE AS replaced NEW TABLE AS changed"
    op.execute(CREATE_TRIGGER.format(tables=tables, function="notify_of_posts"))


def downgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    op.execute(DROP_TRIGGER)
    op.execute(CREATE_TRIGGER.format(tables="NEW TABLE AS changed", function="notify_of_rows"))
    op.execute("DROP FUNCTION notify_of_posts")
