"""Who may write posts.

Revision b92e4d07a1c5, 2026-11-29.
"""

import sqlalchemy as sa
from alembic import op

revision = "b92e4d07a1c5"
down_revision = "d4b7f1a92c68"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Everybody could, and the version before inserts users without the column.
    column = sa.Column("is_author", sa.Boolean(), nullable=False, server_default=sa.true())
    op.add_column("users", column)


def downgrade() -> None:
    op.drop_column("users", "is_author")
