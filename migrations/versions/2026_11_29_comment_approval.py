"""Comments that wait for approval, and posts that take no comments.

Revision 7d2f90c6e4b8, 2026-11-29.
"""

import sqlalchemy as sa
from alembic import op

revision = "7d2f90c6e4b8"
down_revision = "e5a07c3b9d12"
branch_labels = None
depends_on = None


def create_index(name: str, columns: list[str], where: str, on_sqlite: str | None = None) -> None:
    op.create_index(
        name,
        "comments",
        columns,
        postgresql_where=sa.text(where),
        sqlite_where=sa.text(on_sqlite or where),
    )


def upgrade() -> None:
    # Existing comments stay public, and nobody is trusted for them. The version before inserts
    # comments and posts without the columns.
    no, yes = sa.false(), sa.true()
    for column in (
        sa.Column("is_waiting", sa.Boolean(), nullable=False, server_default=no),
        sa.Column("approved_by", sa.String(length=10), nullable=True),
        sa.Column("hidden_answer_count", sa.Integer(), nullable=False, server_default="0"),
    ):
        op.add_column("comments", column)
    comments_open = sa.Column("comments_open", sa.Boolean(), nullable=False, server_default=yes)
    op.add_column("posts", comments_open)
    create_index("ix_comments_waiting_id", ["id"], "is_waiting", "is_waiting = 1")
    create_index(
        "ix_comments_waiting_post_id_user_id",
        ["post_id", "user_id"],
        "is_waiting",
        "is_waiting = 1",
    )
    create_index(
        "ix_comments_user_id_approved_by", ["user_id", "approved_by"], "approved_by IS NOT NULL"
    )


# As the service deletes comments: those with answers stay without content and user.
DELETE_WAITING = (
    """
    UPDATE comments SET content = NULL, user_id = NULL, deleted_at = updated_at WHERE is_waiting
    """,
    """
    DELETE FROM comments
    WHERE deleted_at IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM comments AS below
        WHERE below.thread_id = comments.thread_id AND below.path LIKE comments.path || '%'
          AND below.deleted_at IS NULL
    )
    """,
    """
    UPDATE comments SET answer_count = answer_count - hidden_answer_count
    WHERE hidden_answer_count <> 0
    """,
)


def downgrade() -> None:
    """Delete what waits: the version before would show it."""
    for statement in DELETE_WAITING:
        op.execute(statement)
    op.drop_index("ix_comments_user_id_approved_by", "comments")
    op.drop_index("ix_comments_waiting_post_id_user_id", "comments")
    op.drop_index("ix_comments_waiting_id", "comments")
    op.drop_column("posts", "comments_open")
    for name in ("hidden_answer_count", "approved_by", "is_waiting"):
        op.drop_column("comments", name)
