"""Settings of mail, and the command `mail-test`."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from blog_api.cli.commands import cli
from tests.support.clients import SECRET_KEY
from tests.support.smtp import MAIL_PASSWORD, SENDER, USER, scripted_server, smtp_server

runner = CliRunner()

POSTGRES = "postgresql://ann:secret@db.example/blog"
ENCODED = "p%40ss%3A%20w%C3%B6rd%2F%25"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, without `.env`."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    # The command opens no database.
    assert {file.name for file in tmp_path.iterdir()} <= {".env"}


async def send_test_mail(address: str = "ann@example.com") -> Result:
    return await asyncio.to_thread(runner.invoke, cli, ["mail-test", address])


def read_settings() -> dict[str, str]:
    result = runner.invoke(cli, ["settings"])
    assert result.exit_code == 0, result.output
    return dict(line.split("=", 1) for line in result.stdout.splitlines())


async def test_a_test_mail_arrives(monkeypatch: pytest.MonkeyPatch):
    async with smtp_server() as inbox:
        monkeypatch.setenv("BLOG_MAIL_URL", f"smtp://{USER}:{ENCODED}@127.0.0.1:{inbox.port}")
        monkeypatch.setenv("BLOG_MAIL_FROM", SENDER)
        monkeypatch.setenv("BLOG_TITLE", "Блог")
        result = await send_test_mail("ann@münchen.example")
        delivery = await inbox.receive()

    assert (result.exit_code, result.output) == (0, "Sent.\n")
    assert delivery.is_authenticated
    assert (delivery.sender, delivery.recipient) == (SENDER, "ann@xn--mnchen-3ya.example")
    assert delivery.message["Subject"] == "Блог: test"


@pytest.mark.parametrize(
    ("responses", "reason"),
    [
        ({"RCPT": b"550 No ann@example.com\r\n"}, "SMTPRecipientsRefused 550"),
        ({"EHLO": b"250-x\r\n250 AUTH PLAIN\r\n", "AUTH": b"535 p@ss\r\n"}, "SMTPAuth.*Error 535"),
        ({"": b""}, "SMTPConnectError: .*Unexpected EOF received"),
    ],
)
async def test_a_refusal_is_one_line_without_secrets(
    monkeypatch: pytest.MonkeyPatch, responses: dict[str, bytes], reason: str
):
    log_in = f"{USER}:{ENCODED}@" if "AUTH" in responses else ""
    async with scripted_server(responses) as server:
        monkeypatch.setenv("BLOG_MAIL_URL", f"smtp://{log_in}127.0.0.1:{server.port}")
        monkeypatch.setenv("BLOG_MAIL_FROM", SENDER)
        result = await send_test_mail()

    assert result.exit_code == 1
    assert result.stdout == ""
    assert re.fullmatch(rf"blog-api: BLOG_MAIL_URL: {reason}\n", result.stderr)


async def test_an_unreachable_server_is_one_line(monkeypatch: pytest.MonkeyPatch, closed_port: int):
    monkeypatch.setenv("BLOG_MAIL_URL", f"smtps://{USER}:{ENCODED}@127.0.0.1:{closed_port}")
    monkeypatch.setenv("BLOG_MAIL_FROM", SENDER)

    result = await send_test_mail()

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("blog-api: BLOG_MAIL_URL: SMTPConnectError: ")
    assert f"127.0.0.1 on port {closed_port}" in result.stderr
    assert result.stderr.count("\n") == 1
    assert ENCODED not in result.stderr


async def test_without_mail_the_command_fails(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BLOG_MAIL_URL", "")

    result = await send_test_mail()

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "blog-api: BLOG_MAIL_URL: is not set\n"


async def test_the_console_shows_the_mail():
    result = await send_test_mail()

    assert (result.exit_code, result.stdout) == (0, "Sent.\n")
    assert "--- To: ann@example.com\n--- Blog API: test\n" in result.stderr


@pytest.mark.parametrize("address", ["ann", "ann@", "a\r\nb@example.com", "a b@example.com", ""])
async def test_an_invalid_address_is_rejected(address: str):
    result = await send_test_mail(address)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.fullmatch(r"blog-api: address: .+\n", result.stderr)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BLOG_MAIL_URL", "hunter2"),
        ("BLOG_MAIL_URL", "console:"),
        ("BLOG_MAIL_URL", "console://hunter2"),
        ("BLOG_MAIL_URL", "http://u:hunter2@mail.example"),
        ("BLOG_MAIL_URL", "smtp://"),
        ("BLOG_MAIL_URL", "smtp://u:hunter2@"),
        ("BLOG_MAIL_URL", "smtp://hunter2@mail.example"),
        ("BLOG_MAIL_URL", "smtp://u:hunter2@mail.example:0"),
        ("BLOG_MAIL_URL", "smtp://u:hunter2@mail.example:65536"),
        ("BLOG_MAIL_URL", "smtp://u:hunter2@mail.example:smtp"),
        ("BLOG_MAIL_URL", "smtp://u:hunter2@mail.example/inbox"),
        ("BLOG_MAIL_URL", "smtp://u:hunter2@mail.example?tls=no"),
        ("BLOG_MAIL_URL", "smtp://u:hunter2@x@mail.example"),
        ("BLOG_MAIL_URL", "smtp://u:hunter2#x@mail.example"),
        ("BLOG_MAIL_URL", "smtp://u:hunter2/x@mail.example"),
        ("BLOG_MAIL_URL", "smtp://u:hunter2@mail..example"),
        ("BLOG_MAIL_URL", "smtp://u:hunter2@mail example"),
        ("BLOG_MAIL_URL", "smtp://u:hunter2@" + "m" * 64),
        ("BLOG_MAIL_URL", "smtp://u:hunter2@mail.example\r\nx"),
        ("BLOG_MAIL_URL", "smtp://u:hunter2@[::g]"),
        ("BLOG_MAIL_FROM", "hunter2"),
        ("BLOG_MAIL_FROM", "Blog <hunter2@example.com>"),
        ("BLOG_MAIL_FROM", "hunter2@example.com\r\nBcc: x@example.com"),
        ("BLOG_MAIL_FROM", "блог-hunter2@example.com"),
        ("BLOG_PASSWORD_RESET_URL", "https://hunter2.example/password"),
        ("BLOG_PASSWORD_RESET_URL", "https://hunter2.example/password?token={token}"),
        ("BLOG_PASSWORD_RESET_URL", "https://hunter2.example/{token}#{token}"),
        ("BLOG_PASSWORD_RESET_URL", "https://hunter2.example/password#token"),
        ("BLOG_EMAIL_VERIFICATION_URL", "javascript:hunter2#{token}"),
        ("BLOG_EMAIL_VERIFICATION_URL", "hunter2#{token}"),
        ("BLOG_EMAIL_UNDO_URL", "https://#hunter2{token}"),
        ("BLOG_EMAIL_UNDO_URL", "https://hunter2.example/#{token}\n\nhttps://mallory.example"),
        ("BLOG_EMAIL_UNDO_URL", "https://hunter2.example/ x#{token}"),
    ],
)
@pytest.mark.parametrize("is_in_file", [False, True])
def test_an_invalid_setting_is_refused_at_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, is_in_file: bool
):
    monkeypatch.setenv("BLOG_DATABASE_URL", "sqlite:///blog.db")
    if is_in_file:
        quoted = value.replace("\r", "\\r").replace("\n", "\\n")
        (folder / ".env").write_text(f'{name}="{quoted}"\n')
    else:
        monkeypatch.setenv(name, value)

    result = runner.invoke(cli, ["serve"])

    assert result.exit_code == 2
    assert re.fullmatch(rf"blog-api: {name}: .+\n", result.stderr)
    assert "hunter2" not in result.output


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"MAIL_URL": "smtp://mail.example"}, "BLOG_MAIL_FROM: is required with an SMTP server"),
        ({"MAIL_URL": "", "REQUIRE_VERIFIED_EMAIL": "true"}, "BLOG_REQUIRE_VERIFIED_EMAIL: needs"),
        (
            {
                "DATABASE_URL": POSTGRES,
                "SECRET_KEY": SECRET_KEY,
                "REQUIRE_VERIFIED_EMAIL": "true",
            },
            "BLOG_REQUIRE_VERIFIED_EMAIL: needs BLOG_MAIL_URL",
        ),
    ],
)
def test_settings_that_need_another_one_are_refused(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], error: str
):
    for name, value in values.items():
        monkeypatch.setenv(f"BLOG_{name}", value)

    result = runner.invoke(cli, ["serve"])

    assert result.exit_code == 2
    assert result.stderr.startswith(f"blog-api: {error}")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("smtp://mail.example", "smtp://mail.example:587"),
        ("smtps://mail.example", "smtps://mail.example:465"),
        ("SMTPS://Mail.Example:2465", "smtps://mail.example:2465"),
        (f"smtp://{USER}:{ENCODED}@mail.example", f"smtp://{USER}:***@mail.example:587"),
        ("smtp://почта.example/", "smtp://xn--80a1acny.example:587"),
        ("smtp://[::1]:25", "smtp://[::1]:25"),
    ],
)
@pytest.mark.parametrize("is_in_file", [False, True])
def test_the_password_is_masked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: str, shown: str, is_in_file: bool
):
    monkeypatch.setenv("BLOG_MAIL_FROM", "blog@münchen.example")
    if is_in_file:
        (folder / ".env").write_text(f"BLOG_MAIL_URL={given}\n")
    else:
        monkeypatch.setenv("BLOG_MAIL_URL", given)

    settings = read_settings()

    assert settings["BLOG_MAIL_URL"] == shown
    assert settings["BLOG_MAIL_FROM"] == "blog@xn--mnchen-3ya.example"
    for secret in (ENCODED, MAIL_PASSWORD):
        assert secret not in str(settings)


@pytest.mark.parametrize(
    ("database", "file", "shown"),
    [
        ("sqlite:///blog.db", "", "console://"),
        ("sqlite:///blog.db", "BLOG_MAIL_URL=\n", ""),
        ("sqlite:///blog.db", "blog_mail_url=\n", ""),
        (POSTGRES, "", ""),
        (POSTGRES, "BLOG_MAIL_URL=console://\n", "console://"),
    ],
)
def test_mail_is_printed_on_sqlite_unless_the_setting_is_empty(
    folder: Path, monkeypatch: pytest.MonkeyPatch, database: str, file: str, shown: str
):
    (folder / ".env").write_text(f"{file}BLOG_DATABASE_URL={database}\n")
    monkeypatch.setenv("BLOG_SECRET_KEY", SECRET_KEY)

    assert read_settings()["BLOG_MAIL_URL"] == shown
