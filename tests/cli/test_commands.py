"""The command `blog-api`: settings, serving, migrations and accounts."""

import asyncio
import os
import re
import signal
import sqlite3
import stat
import time
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest
from sqlalchemy import URL, inspect, make_url, text
from typer.testing import CliRunner

from blog_api.app import create_app
from blog_api.cli.commands import cli
from blog_api.cli.serve import warn_unless_ready
from blog_api.core.urls import parse_database_url
from blog_api.db.migrate import migration_connection
from tests.support.clients import (
    CHEAP_HASHING,
    MINIMUM_HASHING,
    SECRET_KEY,
    client_of,
    make_settings,
    running,
    sign_up,
)
from tests.support.commands import run_command
from tests.support.databases import (
    execute_on_server,
    read_migrated_file,
    read_test_database_url,
)
from tests.support.pictures import make_picture, upload
from tests.support.processes import Server

runner = CliRunner()

POSTGRES = "postgresql://ann:hunter2@db.example/blog"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without `.env`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def migrated(folder: Path) -> Path:
    """A working directory with a migrated `blog.db`."""
    (folder / "blog.db").write_bytes(read_migrated_file())
    return folder


def test_settings_are_printed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BLOG_POOL_SIZE", "7")

    result = runner.invoke(cli, ["settings"])

    assert result.exit_code == 0
    lines = dict(line.split("=", 1) for line in result.output.splitlines())
    assert lines["BLOG_DATABASE_URL"] == "sqlite+aiosqlite:///blog.db"
    assert lines["BLOG_POOL_SIZE"] == "7"
    assert lines["BLOG_CORS_ORIGINS"] == "[]"


def test_secrets_are_not_printed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BLOG_DATABASE_URL", POSTGRES)
    monkeypatch.setenv("BLOG_SECRET_KEY", SECRET_KEY)
    monkeypatch.setenv("BLOG_RATE_LIMIT_STORAGE", "redis://:hunter2@cache.example")

    result = runner.invoke(cli, ["settings"])

    assert result.exit_code == 0
    assert "postgresql+asyncpg://ann:***@db.example/blog" in result.output
    assert SECRET_KEY not in result.output
    assert "hunter2" not in result.output


def test_the_environment_overrides_the_env_file(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / ".env").write_text("BLOG_POOL_SIZE=7\nBLOG_CACHE_BYTES=1\nPOSTGRES_PASSWORD=x\n")
    monkeypatch.setenv("BLOG_POOL_SIZE", "8")

    result = runner.invoke(cli, ["settings"])

    assert "BLOG_POOL_SIZE=8\n" in result.output
    assert "BLOG_CACHE_BYTES=1\n" in result.output


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BLOG_DATABASE_URL", "mysql://hunter2@localhost/blog"),
        ("BLOG_DATABASE_URL", "hunter2"),
        ("BLOG_DATABASE_URL", "postgresql://a:p@ss#w/hunter2@b/c"),
        ("BLOG_DATABASE_URL", "postgresql://a:hunter2@b/c?nonsense=1"),
        ("BLOG_DATABASE_URL", "postgresql://a:hunter2@b/c?sslmode=nonsense"),
        ("BLOG_SECRET_KEY", "hunter2"),
        ("BLOG_POOL_SIZE", "0"),
        ("BLOG_POOL_SIZE", "many"),
        ("BLOG_PASSWORD_MIN_LENGTH", "7"),
        ("BLOG_PASSWORD_REFUSE_COMMON", "perhaps"),
        ("BLOG_ARGON2_MEMORY_KIB", "1024"),
        ("BLOG_ARGON2_PASSES", "0"),
        ("BLOG_ARGON2_LANES", "65"),
        ("BLOG_PUBLIC_URL", "example.com"),
        ("BLOG_POST_URL", "https://example.com/"),
        ("BLOG_POST_URL", "example.com/{slug}"),
        ("BLOG_CORS_ORIGINS", "https://example.com"),
        ("BLOG_CORS_ORIGINS", '["https://example.com/path"]'),
        ("BLOG_CORS_ORIGINS", '["example.com"]'),
        ("BLOG_TRUSTED_HOSTS", "example.com"),
        ("BLOG_TRUSTED_HOSTS", "[]"),
        ("BLOG_TRUSTED_HOSTS", '["https://example.com"]'),
        ("BLOG_TRUSTED_PROXIES", "10.0.0.1"),
        ("BLOG_TRUSTED_PROXIES", '["10.0.0.1/8"]'),
        ("BLOG_TRUSTED_PROXIES", '["nginx"]'),
        ("BLOG_RATE_LIMIT_ENABLED", "perhaps"),
        ("BLOG_RATE_LIMIT_STORAGE", "memcached://hunter2"),
        ("BLOG_CACHE_BYTES", "-1"),
        ("BLOG_SIGN_UP", "true"),
        ("BLOG_NEW_USERS_ARE_AUTHORS", "some"),
        ("BLOG_CORS_ORIGIN_PATTERN", "hunter2("),
        ("BLOG_CORS_MAX_AGE", "-1"),
        ("BLOG_RATE_LIMIT_GUESSES", "hunter2"),
        ("BLOG_RATE_LIMIT_GUESSES", "0/minute"),
        ("BLOG_RATE_LIMIT_SIGN_UPS", "10"),
        ("BLOG_RATE_LIMIT_STORAGE", "redis://:hunter2/x@cache.example"),
        ("BLOG_RATE_LIMIT_STORAGE", "redis://cache.example:hunter2"),
        ("BLOG_RATE_LIMIT_STORAGE", "redis://ann:hunter2@cache.example:70000"),
        ("BLOG_RATE_LIMIT_STORAGE", "redis://ann:hunter2@cache.example:0"),
        ("BLOG_RATE_LIMIT_STORAGE", "redis://ann:hunter2@cache\uff03x"),
        ("BLOG_RATE_LIMIT_STORAGE", "redis://ann:hunter2@a,b"),
        ("BLOG_RATE_LIMIT_STORAGE", "redis://ann:hunter2@[:::::]"),
        ("BLOG_RATE_LIMIT_STORAGE", "redis://hunter2@cache.example"),
        ("BLOG_PUBLIC_URL", "https://example.com?"),
        ("BLOG_PUBLIC_URL", "https://example.com/#"),
        ("BLOG_PUBLIC_URL", "https://example.com/a\\b"),
        ("BLOG_PUBLIC_URL", "https://example.com/a/../b"),
        ("BLOG_PUBLIC_URL", "https://ann:hunter2@example.com/blog"),
        ("BLOG_PUBLIC_URL", "https://example.com/blog?hunter2"),
        ("BLOG_PUBLIC_URL", "https://example.com/#hunter2"),
        ("BLOG_PUBLIC_URL", "https://example.com/bl%C3%B6g"),
        ("BLOG_PUBLIC_URL", "https://example.com//blog"),
        ("BLOG_DATABSE_URL", "hunter2"),
    ],
)
@pytest.mark.parametrize("command", ["settings", "serve", "migrate"])
def test_an_invalid_setting_is_one_line_and_exit_status_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str, value: str
):
    monkeypatch.setenv(name, value)

    result = runner.invoke(cli, [command])

    assert result.exit_code == 2
    assert re.fullmatch(rf"blog-api: {name}: .+\n", result.stderr)
    assert result.stdout == ""
    assert "hunter2" not in result.output
    assert list(folder.iterdir()) == []


def test_postgres_requires_a_secret_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BLOG_DATABASE_URL", POSTGRES)

    result = runner.invoke(cli, ["settings"])

    assert result.exit_code == 2
    assert result.stderr.startswith("blog-api: BLOG_SECRET_KEY: is required on Postgres")


def test_variables_that_kubernetes_sets_for_a_service_named_blog_are_ignored(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("BLOG_PORT", "tcp://10.0.0.1:8000")
    for name in ("BLOG_PORT_8000_TCP_ADDR", "BLOG_SERVICE_HOST"):
        monkeypatch.setenv(name, "10.0.0.1")

    assert runner.invoke(cli, ["settings"]).exit_code == 0


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://a:b@c/d", "postgresql+asyncpg://a:b@c/d"),
        ("postgresql://a/d?sslmode=require", "postgresql+asyncpg://a/d?ssl=require"),
        ("postgresql+asyncpg://a/d", "postgresql+asyncpg://a/d"),
        ("sqlite:///blog.db", "sqlite+aiosqlite:///blog.db"),
        ("sqlite:///a@b#c.db", "sqlite+aiosqlite:///a%40b%23c.db"),
        ("sqlite://", "sqlite+aiosqlite://"),
    ],
)
def test_common_forms_of_database_urls_are_accepted(given: str, used: str):
    assert parse_database_url(given).render_as_string(hide_password=False) == used


def test_migrate_creates_the_database_and_can_be_repeated(folder: Path):
    first = runner.invoke(cli, ["migrate"])
    again = runner.invoke(cli, ["migrate"])

    assert first.exit_code == again.exit_code == 0
    assert "The database is at revision" in first.stdout
    assert (folder / "blog.db").exists()


# The commands that need a migrated database, and whether they change it.
COMMANDS = {
    "create-admin": (["create-admin", "ann@example.com"], True),
    "set-password": (["set-password", "1", "ann@example.com"], True),
    "import": (["import", "."], True),
    "dry run": (["import", "--dry-run", "."], True),
    "rebuild": (["rebuild"], True),
    "media-clean": (["media-clean", "--yes"], True),
    "export": (["export", "out.jsonl"], False),
    "export to a folder": (["export", "out"], False),
    "demo": (["demo"], True),
}
# The first creates a missing SQLite file, the second needs none.
WITHOUT_DATABASE = {"demo", "dry run"}
CHANGING_COMMANDS = [arguments for arguments, is_changing in COMMANDS.values() if is_changing]
NO_DATABASE = "blog-api: BLOG_DATABASE_URL: blog.db does not exist; blog-api migrate creates it\n"
NOT_MIGRATED = (
    "blog-api: The database is not migrated: run blog-api migrate of the newest version\n"
)


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - WITHOUT_DATABASE))
def test_only_serve_migrate_and_demo_create_a_database(folder: Path, command: str):
    arguments, _ = COMMANDS[command]

    result = runner.invoke(cli, arguments, "correct horse\n")

    assert result.exit_code == 2
    assert result.stderr.endswith(NO_DATABASE)
    assert result.stdout == ""
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
async def test_only_serve_and_migrate_change_the_tables_of_a_database(
    empty_url: URL, monkeypatch: pytest.MonkeyPatch, command: str
):
    settings = make_settings(database_url=empty_url, **MINIMUM_HASHING)
    monkeypatch.setenv("BLOG_DATABASE_URL", empty_url.render_as_string(hide_password=False))
    monkeypatch.setenv("BLOG_SECRET_KEY", SECRET_KEY)
    monkeypatch.setenv("BLOG_MEDIA_URL", "file:///nowhere/media")
    arguments, _ = COMMANDS[command]
    if settings.is_sqlite:
        Path(str(empty_url.database)).touch()

    async def run_and_read_tables() -> list[str]:
        result = await asyncio.to_thread(runner.invoke, cli, arguments, "correct horse\n")
        assert result.exit_code == 1
        assert result.stderr.endswith(NOT_MIGRATED)
        async with migration_connection(settings) as connection:
            return await connection.run_sync(lambda sync: inspect(sync).get_table_names())

    # An import that writes nothing needs no tables.
    if command != "dry run":
        assert await run_and_read_tables() == []
    async with migration_connection(settings) as connection:
        await connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        await connection.execute(text("INSERT INTO alembic_version VALUES ('5b7c1e94d2f0')"))
    assert await run_and_read_tables() == ["alembic_version"]


@pytest.mark.parametrize("command", [*CHANGING_COMMANDS, ["migrate"]])
def test_a_command_that_changes_a_database_prints_its_url_without_the_password(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
):
    here = runner.invoke(cli, command, "correct horse\n")
    monkeypatch.setenv("BLOG_MEDIA_URL", "file:///nowhere/media")
    monkeypatch.setenv("BLOG_DATABASE_URL", "postgresql://ann:hunter2@127.0.0.1:1/blog")
    monkeypatch.setenv("BLOG_SECRET_KEY", SECRET_KEY)
    unreachable = runner.invoke(cli, command, "correct horse\n")

    assert here.stderr.startswith("Database: sqlite+aiosqlite:///blog.db\n")
    assert unreachable.exit_code == 1
    assert unreachable.stderr.startswith(
        "Database: postgresql+asyncpg://ann:***@127.0.0.1:1/blog\n"
    )
    assert "hunter2" not in unreachable.output


def test_an_unreachable_database_is_one_line_and_exit_status_1(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("BLOG_DATABASE_URL", "sqlite:///no/such/folder/blog.db")

    for command in ("migrate", "serve"):
        result = runner.invoke(cli, [command])

        assert result.exit_code == 1
        database, error = result.stderr.splitlines()
        assert database.endswith("Database: sqlite+aiosqlite:///no/such/folder/blog.db")
        assert error.startswith("blog-api: BLOG_DATABASE_URL: ")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (b"", "at least 32 bytes"),
        (b"short\n", "at least 32 bytes"),
        (b"x" * 40 + b"\n", "one repeated character"),
        ("я".encode() * 40, "one repeated character"),
        (b"\xff" * 40, "utf-8"),
    ],
)
def test_an_invalid_key_file_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, key: bytes, message: str
):
    monkeypatch.setattr("uvicorn.run", lambda *_, **__: None)
    (folder / "blog.db.key").write_bytes(key)

    result = runner.invoke(cli, ["serve"])

    assert result.exit_code == 1
    error = result.stderr.splitlines()[-1]
    assert error.startswith("blog-api: blog.db.key: the key ")
    assert message in error
    assert (folder / "blog.db.key").read_bytes() == key


def test_an_env_file_that_is_not_utf8_is_one_line(folder: Path):
    (folder / ".env").write_bytes(b"BLOG_POOL_SIZE=\xff")

    result = runner.invoke(cli, ["settings"])

    assert result.exit_code == 2
    assert re.fullmatch(r"blog-api: \.env: .+\n", result.stderr)


def test_migrate_leaves_a_database_of_a_newer_version_as_it_is(folder: Path):
    runner.invoke(cli, ["migrate"])
    with closing(sqlite3.connect(folder / "blog.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'newer'")
        connection.commit()
        additive = runner.invoke(cli, ["migrate"])
        connection.execute("UPDATE schema_compatibility SET oldest_revision = 'newer'")
        connection.commit()
        other = runner.invoke(cli, ["migrate"])
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()

    assert revision == "newer"
    assert additive.exit_code == 0
    assert additive.stdout.startswith("The database is at revision newer of a newer version, ")
    assert additive.stdout.endswith("Nothing was changed.\n")
    assert other.exit_code == 1
    assert other.stderr.endswith("run the newer version\n")


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE notes (id INTEGER)"],
        ["CREATE TABLE alembic_version (version_num)", "CREATE TABLE posts (id INTEGER)"],
    ],
)
@pytest.mark.parametrize("command", [["migrate"], ["serve"], ["demo"], ["export", "posts.jsonl"]])
def test_the_database_of_another_application_is_left_alone(
    folder: Path, statements: list[str], command: list[str]
):
    with closing(sqlite3.connect(folder / "blog.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    content = (folder / "blog.db").read_bytes()

    result = runner.invoke(cli, command)

    assert result.exit_code == 1
    assert "The database belongs to another application" in result.stderr
    assert (folder / "blog.db").read_bytes() == content


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("BLOG_PORT", "; did you mean the option --port of blog-api serve?"),
        ("BLOG_DATABSE_URL", "; did you mean BLOG_DATABASE_URL?"),
        ("BLOG_SECRETKEY", "; did you mean BLOG_SECRET_KEY?"),
        ("BLOG_WEATHER", ""),
    ],
)
def test_an_unknown_setting_is_compared_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, name: str, hint: str
):
    monkeypatch.setenv(name, "9")

    result = runner.invoke(cli, ["settings"])

    assert result.exit_code == 2
    assert result.stderr == f"blog-api: {name}: unknown setting{hint}\n"


@pytest.mark.processes
@pytest.mark.parametrize("workers", [1, 2])
async def test_ctrl_c_prints_no_traceback(folder: Path, shared_url: URL, workers: int):
    with Server(folder, shared_url, workers=workers) as server:
        # A terminal sends it to all processes.
        os.killpg(server.process.pid, signal.SIGINT)
        server.stop()

    assert "Application shutdown complete" in server.log
    assert "Traceback" not in server.log


def test_several_workers_cannot_share_an_in_memory_database(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BLOG_DATABASE_URL", "sqlite://")

    result = runner.invoke(cli, ["--workers", "2"])

    assert result.exit_code == 2
    assert result.stderr.startswith("blog-api: --workers: ")


@pytest.mark.parametrize(
    "storage",
    [
        "redis://cache.example",
        "redis://cache.example/9",
        "redis://ann:hunter2@cache.example",
        "redis://:hunter2@[::1]",
        "rediss://:hunter2@[::1]:7000/1",
    ],
)
def test_all_forms_of_redis_urls_are_accepted(monkeypatch: pytest.MonkeyPatch, storage: str):
    monkeypatch.setenv("BLOG_RATE_LIMIT_STORAGE", storage)

    result = runner.invoke(cli, ["settings"])
    create_app(make_settings(database_url="sqlite://", rate_limit_storage=storage, **CHEAP_HASHING))

    assert result.exit_code == 0
    assert re.search(
        r"^BLOG_RATE_LIMIT_STORAGE=rediss?://.*:\d+(/\d)?$", result.output, re.MULTILINE
    )
    assert "hunter2" not in result.output


def test_rate_limits_are_printed_in_the_form_in_which_they_are_set(monkeypatch: pytest.MonkeyPatch):
    given = {"GUESSES": "3/5 minutes", "SIGN_UPS": "7/day"}
    for name, limit in given.items():
        monkeypatch.setenv(f"BLOG_RATE_LIMIT_{name}", limit)

    result = runner.invoke(cli, ["settings"])

    assert "BLOG_RATE_LIMIT_GUESSES=3/5 minute\n" in result.output
    assert "BLOG_RATE_LIMIT_SIGN_UPS=7/day\n" in result.output
    assert "BLOG_RATE_LIMIT_GUESSES_AT_ACCOUNT=100/hour\n" in result.output


async def test_create_admin_creates_an_administrator(
    migrated: Path, monkeypatch: pytest.MonkeyPatch
):
    # Both are for those who sign up.
    monkeypatch.setenv("BLOG_SIGN_UP", "closed")
    monkeypatch.setenv("BLOG_NEW_USERS_ARE_AUTHORS", "false")
    # In a thread: the command starts an event loop.
    created = await asyncio.to_thread(
        runner.invoke, cli, ["create-admin", "ann@example.com", "--name", "Ann"], "correct horse\n"
    )

    settings = make_settings(database_url=f"sqlite:///{migrated}/blog.db", **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as client:
        form = {"username": "ann@example.com", "password": "correct horse"}
        response = await client.post("/auth", data=form | {"scope": "admin users:read"})
        client.headers["Authorization"] = f"Bearer {response.json()['access_token']}"
        me = (await client.get("/users/me")).json()
        audit = (await client.get("/admin/audit")).json()["results"]

    assert created.exit_code == 0
    assert created.stdout == f"User {me['id']} is an administrator.\n"
    assert me["name"] == "Ann"
    assert (me["is_admin"], me["is_author"]) == (True, True)
    assert [(entry["action"], entry["admin_id"], entry["user_id"]) for entry in audit] == [
        ("make-admin", None, me["id"])
    ]


@pytest.mark.parametrize(("options", "is_admin"), [(["--yes"], True), ([], False)])
async def test_create_admin_promotes_an_existing_user_only_if_confirmed(
    folder: Path, options: list[str], is_admin: bool
):
    settings = make_settings(database_url=f"sqlite:///{folder}/blog.db", **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as client:
        await sign_up(client, "Ann")
        made = await asyncio.to_thread(
            runner.invoke, cli, ["create-admin", "ANN@example.com", *options], "correct horse\n"
        )
        me = (await client.get("/users/me")).json()

    assert made.exit_code == (0 if is_admin else 2)
    assert me["is_admin"] is is_admin
    if not is_admin:
        assert made.stderr.endswith(
            f"\nblog-api: confirm with --yes: User {me['id']}, Ann, has this address. "
            "Make them an administrator?\n"
        )


async def test_create_admin_needs_the_password_of_an_existing_user(folder: Path):
    settings = make_settings(database_url=f"sqlite:///{folder}/blog.db", **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as client:
        await sign_up(client, "Admin")
        result = await asyncio.to_thread(
            runner.invoke, cli, ["create-admin", "admin@example.com", "--yes"], "my own password\n"
        )
        me = (await client.get("/users/me")).json()

    assert result.exit_code == 2
    assert "\nblog-api: password: is not that of the account with this address\n" in result.stderr
    assert me["is_admin"] is False


async def test_commands_find_an_account_by_any_spelling_of_its_domain(folder: Path):
    settings = make_settings(database_url=f"sqlite:///{folder}/blog.db", **MINIMUM_HASHING)
    new = {"email": "ann@münchen.example", "name": "Caroline", "password": "correct horse"}
    async with running(settings) as app, client_of(app) as client:
        for email in (new["email"], "bob@example.com"):
            assert (await client.post("/users", json=new | {"email": email})).status_code == 201
        promoted = await asyncio.to_thread(
            runner.invoke,
            cli,
            ["create-admin", "ann@xn--mnchen-3ya.example", "--yes"],
            "correct horse\n",
        )
        taken = await asyncio.to_thread(
            runner.invoke,
            cli,
            ["set-password", "2", "Ann@XN--MNCHEN-3YA.example", "--yes"],
            "battery staple\n",
        )

    assert promoted.stdout == "User 1 is an administrator.\n"
    assert taken.exit_code == 1
    assert taken.stderr.endswith("blog-api: Email already registered\n")


async def test_the_files_of_a_database_are_for_their_owner_alone(folder: Path):
    settings = make_settings(database_url=f"sqlite:///{folder}/blog.db", **MINIMUM_HASHING)
    async with running(settings) as app, client_of(app) as client:
        await sign_up(client, "Ann")
        await upload(client, make_picture())
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.glob("blog.db*")}

    assert modes.pop("blog.db.media") == 0o700
    assert modes.keys() >= {"blog.db", "blog.db-wal", "blog.db-shm", "blog.db.lock"}
    assert set(modes.values()) == {0o600}


async def test_create_admin_can_be_repeated(migrated: Path):
    command = ["create-admin", "ann@example.com"]
    results = [
        await asyncio.to_thread(runner.invoke, cli, command, "correct horse\n") for _ in range(2)
    ]

    assert [result.exit_code for result in results] == [0, 0]
    assert results[0].stdout == results[1].stdout == "User 1 is an administrator.\n"


def test_prompts_at_a_terminal(migrated: Path, monkeypatch: pytest.MonkeyPatch):
    runner.invoke(cli, ["create-admin", "ann@example.com"], "correct horse\n")
    with closing(sqlite3.connect(migrated / "blog.db")) as connection, connection:
        connection.execute("UPDATE users SET is_admin = 0")
    # The runner's input is not a terminal, but prompts read it.
    monkeypatch.setattr("blog_api.cli.console.is_at_terminal", lambda: True)

    refused = runner.invoke(cli, ["create-admin", "ann@example.com"], "n\n")
    wrong = runner.invoke(cli, ["create-admin", "ann@example.com"], "y\nwrong\n")
    granted = runner.invoke(cli, ["create-admin", "ann@example.com"], "y\ncorrect horse\n")
    unequal = runner.invoke(cli, ["create-admin", "bob@example.com"], "correct horse\nwrong\n")
    equal = runner.invoke(cli, ["create-admin", "bob@example.com"], "correct horse\n" * 2)

    assert [refused.exit_code, wrong.exit_code, granted.exit_code] == [1, 2, 0]
    assert "User 1, Administrator, has this address." in refused.output
    assert [unequal.exit_code, equal.exit_code] == [1, 0]
    assert "User 2 is an administrator.\n" in equal.output
    assert "correct horse" not in equal.output


@pytest.mark.parametrize(
    ("arguments", "password", "message"),
    [
        (["no address"], "correct horse", "email"),
        (["ann@example.com", "--name", ""], "correct horse", "name"),
        (["ann@example.com"], "short", "password"),
        (["ann@example.com"], "password1", "password"),
        (["ann@example.com"], "", "password"),
    ],
)
def test_create_admin_rejects_invalid_arguments_and_passwords(
    migrated: Path, arguments: list[str], password: str, message: str
):
    result = runner.invoke(cli, ["create-admin", *arguments], f"{password}\n")

    assert result.exit_code == 2
    assert re.fullmatch(rf"(Database: .+\n)?blog-api: {message}: .+\n", result.stderr)
    assert not password or password not in result.output


async def test_migrate_says_what_solves_an_error_of_the_database(
    empty_url: URL, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BLOG_DATABASE_URL", empty_url.render_as_string(hide_password=False))
    monkeypatch.setenv("BLOG_SECRET_KEY", SECRET_KEY)
    role, advice = f"{empty_url.database}_migrator", "Another process writes to the SQLite file"
    if empty_url.get_backend_name() == "sqlite":
        monkeypatch.setattr("blog_api.db.engine.STATEMENT_TIMEOUT_SECONDS", 0.001)
        with closing(sqlite3.connect(str(empty_url.database), isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            failed = await run_command("migrate")
    else:
        create = f'CREATE ROLE "{role}" LOGIN'
        await execute_on_server(empty_url, f'DROP ROLE IF EXISTS "{role}"', create)
        url, advice = empty_url.set(username=role), "make it the owner of the database"
        monkeypatch.setenv("BLOG_DATABASE_URL", url.render_as_string(hide_password=False))
        failed = await run_command("migrate")
        await execute_on_server(empty_url, f'DROP ROLE "{role}"')

    assert failed.exit_code == 1
    error = failed.stderr.splitlines()[-1]
    assert error.startswith("blog-api: BLOG_DATABASE_URL: ")
    assert advice in error


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["serve", "--help"], ["serve", "-h"]])
def test_help_is_printed(arguments: list[str]):
    result = runner.invoke(cli, arguments)

    assert result.exit_code == 0
    assert "serve" in result.output.lower()


async def test_a_database_that_is_not_ready_is_logged_at_the_start(
    empty_url: URL, closed_port: int, caplog: pytest.LogCaptureFixture
):
    await warn_unless_ready(make_settings(database_url=empty_url))
    unreachable = f"postgresql+asyncpg://postgres@127.0.0.1:{closed_port}/test"
    await warn_unless_ready(make_settings(database_url=unreachable))

    assert "run blog-api migrate" in caplog.messages[0]
    assert "ConnectionRefusedError" in caplog.messages[1]
    assert caplog.messages[2] == "Requests get 503 until the database of BLOG_DATABASE_URL responds"


def test_the_version_is_printed():
    result = runner.invoke(cli, ["--version"])

    assert result.exit_code == 0
    assert result.stdout == f"blog-api {version('blog-api')}\n"


@pytest.mark.processes
async def test_the_first_start_creates_a_database_and_a_private_key(folder: Path):
    url = make_url(f"sqlite:///{folder}/blog.db")

    with Server(folder, url, settings={"SECRET_KEY": None}) as server:
        async with server.client() as client:
            ready = await client.get("/health/ready")
        first = (folder / "blog.db.key").read_text()
        server.stop()
    with Server(folder, url, settings={"SECRET_KEY": None}):
        second = (folder / "blog.db.key").read_text()

    assert ready.status_code == 200
    assert "Application shutdown complete" in server.log
    assert first == second
    assert len(first) >= 32
    assert stat.S_IMODE((folder / "blog.db.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["blog", "production", ""])
def test_tests_wipe_only_databases_named_test(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv("TEST_DATABASE_URL", f"postgresql://ann@db.example/{name}")

    with pytest.raises(pytest.exit.Exception, match="must contain 'test'"):
        read_test_database_url()


def test_media_clean_asks_before_it_deletes(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert runner.invoke(cli, ["migrate"]).exit_code == 0
    path = folder / "blog.db.media" / "0a" / f"{'0a' * 32}.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"1")
    two_days_ago = time.time() - 2 * 24 * 60 * 60
    os.utime(path, (two_days_ago, two_days_ago))

    refused = runner.invoke(cli, ["media-clean"])

    assert refused.exit_code == 2
    assert "confirm with --yes: Delete 1 files" in refused.stderr
    assert path.exists()
    cleaned = runner.invoke(cli, ["media-clean", "--yes"])
    assert (cleaned.exit_code, cleaned.stdout) == (0, "1 files and 0 temporary folders deleted.\n")
    assert not path.exists()
    assert (
        runner.invoke(cli, ["media-clean"]).stdout == "0 files and 0 temporary folders deleted.\n"
    )


def test_media_clean_needs_a_storage(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BLOG_DATABASE_URL", POSTGRES)
    monkeypatch.setenv("BLOG_SECRET_KEY", SECRET_KEY)

    result = runner.invoke(cli, ["media-clean", "--yes"])

    assert result.exit_code == 2
    assert "BLOG_MEDIA_URL: is not set" in result.stderr
