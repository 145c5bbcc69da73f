"""Scopes and names of tokens, sessions with JWT, takedowns of posts, and the audit log.

Revision 7d0c5e1f9a24, 2026-11-22.
"""

import sqlalchemy as sa
from alembic import op

revision = "7d0c5e1f9a24"
down_revision = "53fe22308b68"
branch_labels = None
depends_on = None

DEFAULT_SCOPE = "posts:read posts:write users:read users:write"


def upgrade() -> None:
    # Existing sessions keep their scopes, as do those that a worker of the previous version adds
    # until it is replaced.
    op.add_column(
        "tokens",
        sa.Column("scope", sa.String(length=100), nullable=False, server_default=DEFAULT_SCOPE),
    )
    op.add_column("tokens", sa.Column("name", sa.String(length=100), nullable=True))
    op.add_column("tokens", sa.Column("refresh_digest", sa.String(length=64), nullable=True))
    op.add_column("posts", sa.Column("taken_down_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("admin_id", sa.Integer(), nullable=True),
        sa.Column("action", sa.String(length=50), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("post_id", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit_entries"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("audit_entries")
    # A post that was taken down stays hidden, as a draft.
    op.execute("UPDATE posts SET published_at = NULL WHERE taken_down_at IS NOT NULL")
    op.drop_column("posts", "taken_down_at")
    # Without a scope, a personal token, a JWT session or a restricted one would grant everything.
    op.execute(
        "DELETE FROM tokens WHERE name IS NOT NULL OR refresh_digest IS NOT NULL "
        f"OR scope NOT IN ('{DEFAULT_SCOPE}', 'admin {DEFAULT_SCOPE}')"
    )
    op.drop_column("tokens", "refresh_digest")
    op.drop_column("tokens", "name")
    op.drop_column("tokens", "scope")
