"""The oldest revision whose code the schema leaves working.

Revision 5d20f7c81b3e, 2026-11-29.
"""

import sqlalchemy as sa
from alembic import op

revision = "5d20f7c81b3e"
down_revision = "4be19c60d7a5"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A later migration that is not additive sets the column to its own revision.
    table = op.create_table(
        "schema_compatibility",
        sa.Column("oldest_revision", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("oldest_revision", name="pk_schema_compatibility"),
    )
    op.bulk_insert(table, [{"oldest_revision": revision}])


def downgrade() -> None:
    op.drop_table("schema_compatibility")
