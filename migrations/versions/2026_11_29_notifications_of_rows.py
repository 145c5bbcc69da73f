"""Notifications of updated posts and comments name the rows.

Revision a94d1c7e2b06, 2026-11-29. The version before ignores what it does not expect after the
operation, and invalidates all that it has cached.
"""

from alembic import op

revision = "a94d1c7e2b06"
down_revision = "7d2f90c6e4b8"
branch_labels = None
depends_on = None

# More rows than this are not named: they are better invalidated together.
MAX_ROWS = 20

CREATE_FUNCTION = f"""
    CREATE FUNCTION notify_of_rows() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        ids integer[] := ARRAY(SELECT id FROM changed LIMIT {MAX_ROWS + 1});
        change text := TG_OP || ' ' || TG_TABLE_NAME;
    BEGIN
        IF cardinality(ids) > {MAX_ROWS} THEN
            PERFORM pg_notify('blog_changes', change);
        ELSIF cardinality(ids) > 0 THEN
            PERFORM pg_notify('blog_changes', change || ' ' || array_to_string(ids, ','));
        END IF;
        RETURN NULL;
    END
    $$
"""
TABLES = ("posts", "comments")


def replace_trigger(table: str, events: str) -> None:
    """Notify of these operations without the ids of rows."""
    op.execute(f"DROP TRIGGER notify_of_change ON {table}")
    op.execute(
        f"CREATE TRIGGER notify_of_change AFTER {events} ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION notify_of_change()"
    )


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    op.execute(CREATE_FUNCTION)
    for table in TABLES:
        replace_trigger(table, "INSERT OR DELETE OR TRUNCATE")
        op.execute(
            f"CREATE TRIGGER notify_of_rows AFTER UPDATE ON {table} "
            "REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION notify_of_rows()"
        )


def downgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    op.execute("DROP FUNCTION notify_of_rows CASCADE")
    for table in TABLES:
        replace_trigger(table, "INSERT OR UPDATE OR DELETE OR TRUNCATE")
