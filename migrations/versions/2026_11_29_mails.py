"""Mails with their codes, and verified and pending email addresses.

Revision d18f5b6ac920, 2026-11-29.
"""

import sqlalchemy as sa
from alembic import op

revision = "d18f5b6ac920"
down_revision = "c7d92b40e318"
branch_labels = None
depends_on = None

# Null in rows of the version before.
COLUMNS = {
    "verified_email": sa.String(length=254),
    "verified_at": sa.DateTime(timezone=True),
    "pending_email": sa.String(length=254),
}


def upgrade() -> None:
    for name, type_ in COLUMNS.items():
        op.add_column("users", sa.Column(name, type_, nullable=True))
    op.create_table(
        "mails",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("recipient", sa.String(length=254), nullable=False),
        sa.Column("is_verified", sa.Boolean(), nullable=False),
        sa.Column("language", sa.String(length=2), nullable=False),
        sa.Column("nonce", sa.String(length=43), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("send_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_mails_user_id_users", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_mails"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_mails_user_id", "mails", ["user_id"])
    op.create_index("ix_mails_expires_at", "mails", ["expires_at"])
    is_unsent = sa.text("send_at IS NOT NULL")
    op.create_index(
        "ix_mails_send_at",
        "mails",
        ["send_at"],
        postgresql_where=is_unsent,
        sqlite_where=is_unsent,
    )


def downgrade() -> None:
    op.drop_table("mails")
    for name in COLUMNS:
        op.drop_column("users", name)
