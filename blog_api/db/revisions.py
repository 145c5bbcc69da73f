"""Whether this version of the code can use the schema that the database has.

Revisions are chained, and the code knows those up to its own, the head. A newer version may have
migrated the database further. Its migrations record in the table `schema_compatibility` the oldest
revision whose code they leave working: additive ones leave the record as it is.
"""

import re
from enum import Enum
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, inspect, text

from blog_api.db.base import TABLE_REGISTRY

VERSION_TABLE = "alembic_version"
# Of every revision.
OWN_TABLES = {"users", "tokens", "posts", "slugs"}

REVISION = re.compile(r"^(down_)?revision\b[^=]*=(.*)$", re.MULTILINE)


class Fit(Enum):
    """How the schema of a database fits the code."""

    SAME = "The database is at revision {current}"
    NEWER = (
        "The database is at revision {current} of a newer version, which serves this one, "
        "at revision {head}, too"
    )
    OLDER = "The database is not migrated: run blog-api migrate of the newest version"
    INCOMPLETE = (
        "The database does not match its revision {current}: tables are missing. Restore a backup"
    )
    FOREIGN = "The database belongs to another application: its tables are not of this one"
    TOO_NEW = (
        "The database is at revision {current} of a newer version, which does not serve this one, "
        "at revision {head}: run the newer version"
    )


class Schema(NamedTuple):
    """The revision of a database, None before the first migration, and how it fits the code."""

    current: str | None
    fit: Fit

    @property
    def is_usable(self) -> bool:
        return self.fit in (Fit.SAME, Fit.NEWER)

    def __str__(self) -> str:
        return self.fit.value.format(current=self.current, head=get_head_revision())


def find_migrations() -> Path:
    """Return the folder of migrations: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parent.parent
    packed = package / "migrations"
    return packed if packed.is_dir() else package.parent / "migrations"


class Revisions(NamedTuple):
    known: frozenset[str]
    head: str


@cache
def read_revisions() -> Revisions:
    """Return the revisions in `migrations`; the head is the one that is no other's parent.

    Alembic would find them too, but take 9 MiB in every process that serves.
    """
    revisions: set[str] = set()
    parents: set[str] = set()
    for file in (find_migrations() / "versions").glob("*.py"):
        for is_parent, names in REVISION.findall(file.read_text(encoding="utf-8")):
            (parents if is_parent else revisions).update(re.findall(r"\w+", names))
    (head,) = revisions - parents
    return Revisions(frozenset(revisions), head)


def get_head_revision() -> str:
    """Return the newest revision that this version has."""
    return read_revisions().head


def get_schema(connection: Connection) -> Schema:
    """Compare the revision of the database with those that the code knows."""
    tables = set(inspect(connection).get_table_names())
    if VERSION_TABLE not in tables:
        return Schema(None, Fit.OLDER)
    current: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    known, head = read_revisions()
    if current == head:
        is_complete = tables >= TABLE_REGISTRY.metadata.tables.keys()
        return Schema(current, Fit.SAME if is_complete else Fit.INCOMPLETE)
    if current is None or current in known:
        return Schema(current, Fit.OLDER)
    if not tables >= OWN_TABLES:
        return Schema(current, Fit.FOREIGN)
    if "schema_compatibility" not in tables:
        return Schema(current, Fit.TOO_NEW)
    oldest = connection.scalar(text("SELECT oldest_revision FROM schema_compatibility"))
    return Schema(current, Fit.NEWER if oldest in known else Fit.TOO_NEW)
