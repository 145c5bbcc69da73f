"""Errors of the database by their code: a 503, and a line in the log that says what solves it."""

import logging
import sqlite3
from collections.abc import AsyncIterator

import asyncpg
import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import URL

from blog_api.db import errors
from blog_api.db.migrate import migrate
from tests.support.clients import (
    MINIMUM_HASHING,
    assert_problem,
    client_of,
    make_settings,
    running,
    sign_up,
)
from tests.support.databases import execute_on_server, temporary_database
from tests.support.faults import Calls, recorded_calls, sqlite_error

# By SQLSTATE: the parts of the line in the log.
POSTGRES = {
    "08000": ("check BLOG_DATABASE_URL, and that it runs",),
    "08003": ("check BLOG_DATABASE_URL, and that it runs",),
    "08006": ("check BLOG_DATABASE_URL, and that it runs",),
    "08P01": ("PgBouncer", "max_prepared_statements", "?prepared_statement_cache_size=0"),
    "0A000": ("A migration has changed a table", "can be repeated"),
    "22003": ("has reached the end of its column", "ALTER TABLE"),
    "2200H": ("has reached the end of its column", "ALTER SEQUENCE"),
    "25006": ("read-only", "BLOG_DATABASE_URL must lead to the primary"),
    "25P01": ("check BLOG_DATABASE_URL",),
    "25P02": ("check BLOG_DATABASE_URL",),
    "26000": ("PgBouncer", "max_prepared_statements", "?prepared_statement_cache_size=0"),
    "28000": ("check the user and the password in BLOG_DATABASE_URL",),
    "28P01": ("check the user and the password in BLOG_DATABASE_URL",),
    "3D000": ("create it, or change the name in BLOG_DATABASE_URL",),
    "40001": ("The database is busy", "can be repeated"),
    "40P01": ("The database is busy", "can be repeated"),
    "42501": ("may not use a table", "owner", "run blog-api migrate as this user"),
    "42703": ("does not match this version: run blog-api migrate",),
    "42883": ("does not match this version: run blog-api migrate",),
    "42P01": ("does not match this version: run blog-api migrate",),
    "42P05": ("PgBouncer", "max_prepared_statements", "?prepared_statement_cache_size=0"),
    "53000": ("no disk space or memory left",),
    "53100": ("no disk space or memory left",),
    "53200": ("no disk space or memory left",),
    "53300": ("max_connections", "BLOG_POOL_SIZE"),
    "55000": ("check BLOG_DATABASE_URL",),
    "55P03": ("The database is busy", "can be repeated"),
    "57014": ("does not respond in time: check its load, and BLOG_DATABASE_URL",),
    "57P01": ("check BLOG_DATABASE_URL, and that it runs",),
    "57P02": ("check BLOG_DATABASE_URL, and that it runs",),
    "57P03": ("check BLOG_DATABASE_URL, and that it runs",),
    "58000": ("Postgres cannot use its files: see its log",),
    "58030": ("Postgres cannot use its files: see its log",),
    "XX000": ("is damaged: see its log, and restore a backup",),
    "XX001": ("is damaged: see its log, and restore a backup",),
}
# By message and result code.
SQLITE = {
    ("no such table: posts", sqlite3.SQLITE_ERROR): ("run blog-api migrate",),
    ("no such column: mood", sqlite3.SQLITE_ERROR): ("run blog-api migrate",),
    ("table posts has no column named mood", sqlite3.SQLITE_ERROR): ("run blog-api migrate",),
    ("no such savepoint: sa_savepoint_1", sqlite3.SQLITE_ERROR): (
        "full or damaged",
        "DATABASE_URL",
    ),
    ("cannot commit - no transaction is active", sqlite3.SQLITE_ERROR): ("full or damaged",),
    ("database is locked", sqlite3.SQLITE_BUSY): ("Another process writes", "end it"),
    ("database is locked", sqlite3.SQLITE_BUSY_SNAPSHOT): ("Another process writes", "end it"),
    ("database table is locked", sqlite3.SQLITE_LOCKED): ("The database is busy", "repeated"),
    ("locking protocol", sqlite3.SQLITE_PROTOCOL): ("The database is busy", "repeated"),
    ("database schema has changed", sqlite3.SQLITE_SCHEMA): ("A migration has changed a table",),
    ("attempt to write a readonly database", sqlite3.SQLITE_READONLY): ("must be able to write",),
    ("readonly", sqlite3.SQLITE_READONLY_DBMOVED): ("must be able to write", "BLOG_DATABASE_URL"),
    ("unable to open database file", sqlite3.SQLITE_CANTOPEN): ("must be able to write",),
    ("access permission denied", sqlite3.SQLITE_PERM): ("must be able to write", "its folder"),
    ("database or disk is full", sqlite3.SQLITE_FULL): ("Free space on the disk",),
    ("disk I/O error", sqlite3.SQLITE_IOERR): ("is damaged: restore a backup",),
    ("disk I/O error", sqlite3.SQLITE_IOERR_WRITE): ("is damaged: restore a backup",),
    ("database disk image is malformed", sqlite3.SQLITE_CORRUPT): ("is damaged: restore a backup",),
    ("file is not a database", sqlite3.SQLITE_NOTADB): ("is damaged: restore a backup",),
    ("out of memory", sqlite3.SQLITE_NOMEM): ("no memory left", "BLOG_CACHE_BYTES"),
}
# The number of the call that fails: the first of a write is BEGIN.
REQUESTS = {
    "GET /users/me": 0,
    "GET /posts": 0,
    "PATCH /users/me": 1,
}


@pytest.fixture(scope="module")
async def faulty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[FastAPI, Calls]]:
    async with temporary_database(tmp_path_factory.mktemp("advice"), "advice") as url:
        settings = make_settings(database_url=url, cache_bytes=0, **MINIMUM_HASHING)
        await migrate(settings)
        async with running(settings) as app:
            with recorded_calls() as calls:
                yield app, calls


@pytest.fixture(scope="module")
async def reader(faulty: tuple[FastAPI, Calls]) -> AsyncIterator[AsyncClient]:
    async with client_of(faulty[0]) as client:
        await sign_up(client, "Ann")
        yield client


def make_errors(dialect: str) -> list[tuple[Exception, tuple[str, ...]]]:
    """Return the errors of a database as its driver raises them, with the parts of their lines."""
    if dialect == "sqlite":
        return [(sqlite_error(*given), parts) for given, parts in SQLITE.items()]
    return [
        (asyncpg.PostgresError.new({"S": "ERROR", "C": code, "M": "injected"}), parts)
        for code, parts in POSTGRES.items()
    ]


def read_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [one.getMessage() for one in caplog.records if one.name == errors.__name__]
    caplog.clear()
    return lines


def test_the_table_has_every_code_that_is_mapped():
    """So an error that is added to the code is tested too."""
    for start in (*errors.POSTGRES_ADVICE, *errors.UNAVAILABLE_SQLSTATE_CLASSES):
        assert any(code.startswith(start) for code in POSTGRES), start
    assert POSTGRES.keys() >= errors.UNAVAILABLE_SQLSTATES | errors.OUT_OF_RANGE_SQLSTATES
    codes = {code & 0xFF for _, code in SQLITE}
    assert codes - {sqlite3.SQLITE_ERROR} == errors.UNAVAILABLE_SQLITE_CODES
    assert codes >= errors.SQLITE_ADVICE.keys()


@pytest.mark.parametrize("request_line", REQUESTS)
async def test_an_unavailable_database_is_503_and_the_log_says_what_solves_it(
    faulty: tuple[FastAPI, Calls],
    reader: AsyncClient,
    request_line: str,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.WARNING)
    app, calls = faulty
    method, path = request_line.split()
    body = {"name": "Anna"} if method == "PATCH" else None

    for error, parts in make_errors(app.state.database.engine.dialect.name):
        with calls.failing(REQUESTS[request_line], error):
            failed = await reader.request(method, path, json=body)
        lines = read_lines(caplog)
        repeated = await reader.request(method, path, json=body)

        assert calls.name, error
        assert_problem(failed, 503)
        assert failed.json()["type"] == "urn:blog-api:service-unavailable"
        assert failed.headers["Retry-After"] == "1"
        assert error.args[0] in lines[0]
        for part in parts:
            assert part in lines[0], error
        assert repeated.status_code == 200


async def test_wrong_addresses_of_postgres_name_what_is_wrong_with_them(
    empty_url: URL, caplog: pytest.LogCaptureFixture
):
    if empty_url.get_backend_name() == "sqlite":
        pytest.skip("A file of SQLite has no users and no port")
    role = f"{empty_url.database}_reader"
    settings = make_settings(database_url=empty_url, **MINIMUM_HASHING)
    await migrate(settings)
    await execute_on_server(
        empty_url, f'DROP ROLE IF EXISTS "{role}"', f'CREATE ROLE "{role}" LOGIN'
    )
    wrong = {
        empty_url.set(database="test_that_is_missing"): POSTGRES["3D000"],
        empty_url.set(username="test_that_is_missing"): POSTGRES["28000"],
        empty_url.set(port=1): POSTGRES["08000"],
        empty_url.set(username=role): POSTGRES["42501"],
    }

    try:
        for url, parts in wrong.items():
            async with (
                running(make_settings(database_url=url, **MINIMUM_HASHING)) as app,
                client_of(app) as client,
            ):
                rejected = await client.get("/posts")
                ready = await client.get("/health/ready")

            assert_problem(rejected, 503)
            assert_problem(ready, 503)
            lines = read_lines(caplog)
            assert any(all(part in line for part in parts) for line in lines), lines
    finally:
        await execute_on_server(empty_url, f'DROP ROLE "{role}"')
