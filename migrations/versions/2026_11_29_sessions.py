"""Numbers of refresh tokens, and where and when sessions are used.

Revision c7d92b40e318, 2026-11-29.
"""

import sqlalchemy as sa
from alembic import op

revision = "c7d92b40e318"
down_revision = "a6e80c2d51f4"
branch_labels = None
depends_on = None

# Null in rows of the version before.
COLUMNS = {
    "refresh_number": sa.Integer(),
    "refreshed_at": sa.DateTime(timezone=True),
    "last_used_at": sa.DateTime(timezone=True),
    "client": sa.String(length=200),
    "network": sa.String(length=50),
}


def upgrade() -> None:
    for name, type_ in COLUMNS.items():
        op.add_column("tokens", sa.Column(name, type_, nullable=True))


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("tokens", name)
