"""Reasons of takedowns, bans that outlive accounts, and indexes of the audit log.

Revision e5a07c3b9d12, 2026-11-29.
"""

import sqlalchemy as sa
from alembic import op

revision = "e5a07c3b9d12"
down_revision = "5d20f7c81b3e"
branch_labels = None
depends_on = None

INDEXED = ("action", "admin_id", "user_id", "post_id", "comment_id", "media_id")

# The version before undoes a takedown without its reason.
CLEAR_REASON = {
    "postgresql": (
        """
        CREATE FUNCTION posts_clear_reason() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.takedown_reason := NULL;
            RETURN NEW;
        END
        $$
        """,
        """
        CREATE TRIGGER posts_clear_reason BEFORE UPDATE OF taken_down_at ON posts FOR EACH ROW
        WHEN (NEW.taken_down_at IS NULL AND NEW.takedown_reason IS NOT NULL)
        EXECUTE FUNCTION posts_clear_reason()
        """,
    ),
    "sqlite": (
        """
        CREATE TRIGGER posts_clear_reason AFTER UPDATE OF taken_down_at ON posts
        WHEN NEW.taken_down_at IS NULL AND NEW.takedown_reason IS NOT NULL BEGIN
            UPDATE posts SET takedown_reason = NULL WHERE id = NEW.id;
        END
        """,
    ),
}
KEEP_REASON = {
    "postgresql": "DROP FUNCTION posts_clear_reason CASCADE",
    "sqlite": "DROP TRIGGER posts_clear_reason",
}


def upgrade() -> None:
    op.add_column("posts", sa.Column("takedown_reason", sa.String(length=300), nullable=True))
    for statement in CLEAR_REASON[op.get_context().dialect.name]:
        op.execute(statement)
    op.create_table(
        "banned_addresses",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("digest", sa.String(length=43), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_banned_addresses"),
        sa.UniqueConstraint("digest", name="uq_banned_addresses_digest"),
        sqlite_autoincrement=True,
    )
    op.add_column("audit_entries", sa.Column("reason", sa.String(length=300), nullable=True))
    for name in INDEXED:
        op.create_index(
            f"ix_audit_entries_{name}_created_at_id", "audit_entries", [name, "created_at", "id"]
        )
    op.create_index("ix_audit_entries_created_at_id", "audit_entries", ["created_at", "id"])


def downgrade() -> None:
    op.drop_index("ix_audit_entries_created_at_id", "audit_entries")
    for name in INDEXED:
        op.drop_index(f"ix_audit_entries_{name}_created_at_id", "audit_entries")
    op.drop_column("audit_entries", "reason")
    op.drop_table("banned_addresses")
    op.execute(KEEP_REASON[op.get_context().dialect.name])
    op.drop_column("posts", "takedown_reason")
