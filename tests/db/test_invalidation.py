"""A commit invalidates the cached responses that the classes of its tables declare."""

import re
from io import StringIO
from itertools import count
from pathlib import Path

import anyio
import pytest
from alembic import command
from alembic.config import Config
from fastapi import FastAPI
from sqlalchemy import text

from blog_api.db.base import Invalidates, TableBase, get_invalidates
from blog_api.db.revisions import find_migrations
from tests.support.clients import MINIMUM_HASHING, SECRET_KEY, make_settings, running

CHANGE_OF_TRIGGER = re.compile(
    r"^\s*(CREATE|DROP) (?:OR REPLACE )?TRIGGER (?:IF EXISTS )?notify_of_change\b.*? ON (\w+)",
    re.MULTILINE | re.DOTALL,
)
SQL_OF_TRIGGERS = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'notify_of_change'"


def find_invalidating_tables() -> set[str]:
    names = TableBase.metadata.tables
    return {name for name in names if get_invalidates("UPDATE", name) is not Invalidates.NOTHING}


@pytest.mark.parametrize(
    ("operation", "table", "expected"),
    [
        ("INSERT", "posts", Invalidates.LISTS),
        ("UPDATE", "posts", Invalidates.ROWS),
        ("DELETE", "posts", Invalidates.EVERYTHING),
        ("DELETE", "users", Invalidates.EVERYTHING),
        ("DELETE", "post_tags", Invalidates.LISTS),
        ("COUNT", "posts", Invalidates.COUNTERS),
        ("INSERT", "comments", Invalidates.NOTHING),
        ("UPDATE", "comments", Invalidates.ROWS),
        ("INSERT", "bookmarks", Invalidates.NOTHING),
        ("COUNT", "bookmarks", Invalidates.NOTHING),
        ("INSERT", "a_table_of_a_newer_version", Invalidates.EVERYTHING),
        # The payload of the trigger before revision 7d2e90b1c4a3 is empty.
        ("", "", Invalidates.EVERYTHING),
    ],
)
def test_a_change_invalidates_what_the_class_of_its_table_declares(
    operation: str, table: str, expected: Invalidates
):
    assert get_invalidates(operation, table) is expected


def test_the_migrations_give_every_invalidating_table_its_trigger_on_postgres(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without it, other processes would send stale responses. Checked on SQLite too, from the SQL
    that `alembic upgrade head --sql` prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLOG_DATABASE_URL", "postgresql://localhost/blog")
    monkeypatch.setenv("BLOG_SECRET_KEY", SECRET_KEY)
    output = StringIO()
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(find_migrations()))

    command.upgrade(config, "head", sql=True)

    notifying: set[str] = set()
    for verb, table in CHANGE_OF_TRIGGER.findall(output.getvalue()):
        (notifying.add if verb == "CREATE" else notifying.discard)(table)
    assert notifying == find_invalidating_tables()


async def test_every_invalidating_table_has_its_trigger_on_postgres(app: FastAPI):
    if app.state.settings.is_sqlite:
        pytest.skip("SQLite has no notifications: the file has a counter of commits")

    async with app.state.database.engine.connect() as connection:
        notifying = set((await connection.execute(text(SQL_OF_TRIGGERS))).scalars())

    assert notifying == find_invalidating_tables()


async def test_a_process_that_cannot_listen_logs_it_after_growing_pauses(
    closed_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """After 1, 10 and 60 minutes, and then every hour. Each attempt takes a minute here."""
    minutes = count()
    is_over = anyio.Event()

    def tell_time() -> float:
        minute = next(minutes)
        if minute == 200:
            is_over.set()
        return minute * 60.0

    monkeypatch.setattr("blog_api.db.invalidation.monotonic", tell_time)
    monkeypatch.setattr("blog_api.db.invalidation.RETRY_SECONDS", 0)
    url = f"postgresql://ann@127.0.0.1:{closed_port}/test"
    async with running(make_settings(database_url=url, **MINIMUM_HASHING)):
        with anyio.fail_after(60):
            await is_over.wait()

    lines = [one for one in caplog.messages if one.startswith("The response cache is off")]
    # At 0, 1, 11, 71, 131 and 191 minutes.
    assert len(lines) == 6
    assert all("cannot listen at BLOG_DATABASE_URL: ConnectionRefusedError" in one for one in lines)
