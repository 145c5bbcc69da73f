"""Notifications name the operation and the table.

Revision 7d2e90b1c4a3, 2026-11-25.
"""

from alembic import op

revision = "7d2e90b1c4a3"
down_revision = "c81f02d7ab46"
branch_labels = None
depends_on = None

NOTIFY = """
    CREATE OR REPLACE FUNCTION notify_of_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('blog_changes', {payload});
        RETURN NULL;
    END
    $$
"""


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(NOTIFY.format(payload="TG_OP || ' ' || TG_TABLE_NAME"))


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(NOTIFY.format(payload="''"))
