"""Accounts of the authors of imported comments.

Revision 3f8c52d7e916, 2026-11-29.
"""

import sqlalchemy as sa
from alembic import op

revision = "3f8c52d7e916"
down_revision = "c41d7e05b9f8"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The version before lists all users.
    is_listed = sa.Column("is_listed", sa.Boolean(), nullable=False, server_default=sa.true())
    op.add_column("users", is_listed)
    op.add_column("users", sa.Column("commenter_digest", sa.String(length=43), nullable=True))
    has_digest = "commenter_digest IS NOT NULL"
    op.create_index(
        "ix_users_commenter_digest",
        "users",
        ["commenter_digest"],
        unique=True,
        postgresql_where=sa.text(has_digest),
        sqlite_where=sa.text(has_digest),
    )
    op.create_index(
        "ix_users_id_listed",
        "users",
        ["id"],
        postgresql_where=sa.text("is_listed"),
        sqlite_where=sa.text("is_listed = 1"),
    )


def downgrade() -> None:
    op.drop_index("ix_users_id_listed", "users")
    op.drop_index("ix_users_commenter_digest", "users")
    op.drop_column("users", "commenter_digest")
    op.drop_column("users", "is_listed")
