"""Uploaded pictures, digests that are blocked, and pictures in the audit log.

Revision 4be19c60d7a5, 2026-11-29.
"""

import sqlalchemy as sa
from alembic import op

revision = "4be19c60d7a5"
down_revision = "b92e4d07a1c5"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "media_files",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("content_type", sa.String(length=20), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("alt", sa.String(length=300), nullable=True),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("source_digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_media_files_user_id_users", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_media_files"),
        sa.UniqueConstraint("user_id", "digest", name="uq_media_files_user_id_digest"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_media_files_digest", "media_files", ["digest"])
    op.create_table(
        "blocked_digests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_blocked_digests"),
        sa.UniqueConstraint("digest", name="uq_blocked_digests_digest"),
        sqlite_autoincrement=True,
    )
    op.add_column("audit_entries", sa.Column("media_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("audit_entries", "media_id")
    op.drop_table("blocked_digests")
    op.drop_table("media_files")
