"""A newer version of the service: its code with one more migration."""

import shutil
from pathlib import Path

import blog_api
from blog_api.db.revisions import find_migrations, get_head_revision

NEWER_REVISION = "aaaaaaaaaaaa"
ADDITIVE_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{head}"


def upgrade() -> None:
    op.add_column("posts", sa.Column("mood", sa.String(length=20), nullable=True))
"""
IGNORED = shutil.ignore_patterns("__pycache__")


def copy_code(folder: Path) -> None:
    """Put a copy of the code into a folder."""
    shutil.copytree(Path(blog_api.__file__).parent, folder / "blog_api", ignore=IGNORED)
    shutil.copytree(find_migrations(), folder / "migrations", ignore=IGNORED)


def add_migration(folder: Path) -> None:
    """Add an additive migration to a copy of the code."""
    migration = folder / "migrations" / "versions" / "newer.py"
    text = ADDITIVE_MIGRATION.format(revision=NEWER_REVISION, head=get_head_revision())
    migration.write_text(text)
