"""Alembic's environment: run migrations on the given connection, or on one of the settings."""

import asyncio
from logging.config import fileConfig
from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection
from sqlmodel import AutoString, UTCDateTime

from blog_api.core.settings import load_settings
from blog_api.db.migrate import migration_connection
from blog_api.models import metadata

# What the search has on one database only, and what the migrations themselves record.
UNDECLARED = (
    "padding",
    "post_search",
    "ix_post_words_found",
    "ix_post_words_hidden",
    "ix_post_words_lexemes",
    "ix_post_words_ranked",
    "schema_compatibility",
)


def render_item(kind: str, item: Any, autogen: AutogenContext) -> str | Literal[False]:
    """Render SQLAlchemy's types: a migration must not depend on the names of SQLModel."""
    if kind == "type" and isinstance(item, AutoString):
        return f"sa.String(length={item.length})" if item.length else "sa.String()"
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def is_declared(name: str | None, kind: str, _parents: object) -> bool:
    """Exclude what only migrations declare."""
    return name is None or not name.startswith(UNDECLARED)


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=is_declared,
        # SQLite cannot alter a column; batch mode copies the table.
        render_as_batch=connection.dialect.name == "sqlite",
        render_item=render_item,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_on_own_connection() -> None:
    async with migration_connection(load_settings()) as connection:
        await connection.run_sync(run)


def print_sql() -> None:
    """Print the SQL instead of executing it: `alembic upgrade head --sql`."""
    context.configure(
        url=load_settings().database_url,
        target_metadata=metadata,
        literal_binds=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)

if context.is_offline_mode():
    print_sql()
elif "connection" in context.config.attributes:
    run(context.config.attributes["connection"])
else:
    asyncio.run(run_on_own_connection())
