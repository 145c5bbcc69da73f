"""Deleted comments stay for their answers only: delete those that have none left.

Revision f2b86d4c9a17, 2026-11-29. Until now, comments of deleted accounts stayed in any case.
"""

from alembic import op

revision = "f2b86d4c9a17"
down_revision = "5b7c1e94d2f0"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The path of an answer begins with those of the comments above it.
    op.execute(
        """
        DELETE FROM comments
        WHERE deleted_at IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM comments AS below
            WHERE below.thread_id = comments.thread_id AND below.path LIKE comments.path || '%'
              AND below.deleted_at IS NULL
        )
        """
    )
    op.execute(
        """
        UPDATE comments
        SET answer_count = (
            SELECT count(*) FROM comments AS answer WHERE answer.parent_id = comments.id
        )
        WHERE answer_count <> (
            SELECT count(*) FROM comments AS answer WHERE answer.parent_id = comments.id
        )
        """
    )


def downgrade() -> None:
    """Leave the comments deleted: they held no text."""
