"""Hand messages over to SMTP servers: real ones, and faulty ones."""

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from time import monotonic
from urllib.parse import quote

import anyio
import pytest
import trustme
from anyio.lowlevel import checkpoint

from blog_api.core.settings import Settings
from blog_api.mail import transport
from blog_api.mail.texts import Message
from blog_api.mail.transport import DeliveryFailed, create_transport, print_message
from tests.support.smtp import (
    HOST,
    MAIL_PASSWORD,
    USER,
    Inbox,
    make_mail_settings,
    scripted_server,
    smtp_server,
)

MESSAGE = Message("ann@example.com", "Блог: Новый пароль", "Ваш код: 1.abc\n")
LOG_IN = f"{USER}:{quote(MAIL_PASSWORD, safe='')}@"
# A name of this machine that is not a loopback address: there TLS is required.
NOT_LOOPBACK = "0.0.0.0"


async def send(settings: Settings, message: Message = MESSAGE) -> None:
    await create_transport(settings)(message)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    """The certificate of a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, NOT_LOOPBACK).configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "STEP_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(transport, "TIMEOUT_SECONDS", 0.2)


async def test_a_message_is_plain_text_with_the_headers_of_an_automatic_mail():
    async with smtp_server() as inbox:
        await send(make_mail_settings(inbox.port, title='Блог "{x}", y'))
        delivery = await inbox.receive()

    message = delivery.message
    assert (delivery.sender, delivery.recipient) == ("blog@example.com", "ann@example.com")
    assert message["Subject"] == MESSAGE.subject
    assert message["To"] == "ann@example.com"
    (sender,) = message["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ('Блог "{x}", y', "blog@example.com")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@example.com>")
    assert abs(message["Date"].datetime - datetime.now(UTC)) < timedelta(minutes=1)
    assert message.get_content_type() == "text/plain"
    assert not message.is_multipart()
    assert delivery.text == MESSAGE.text
    assert not delivery.is_encrypted
    assert len(set(message.keys())) == len(message.keys())


async def test_each_message_has_its_own_id():
    async with smtp_server() as inbox:
        for _ in range(2):
            await send(make_mail_settings(inbox.port))
        first, second = [(await inbox.receive()).message["Message-ID"] for _ in range(2)]

    assert first != second


async def test_an_old_server_gets_ascii():
    helo = {"EHLO": b"502 What\r\n", "HELO": b"250 OK\r\n"}
    async with scripted_server(helo) as server:
        await send(make_mail_settings(server.port))

    assert server.accepted == 1
    assert server.content.isascii()


@pytest.mark.parametrize("name", ["ann@münchen.example", "ann@xn--mnchen-3ya.example"])
async def test_an_international_domain_is_sent_as_a_labels(name: str):
    async with smtp_server() as inbox:
        await send(make_mail_settings(inbox.port), Message(name, "x", "x\n"))
        delivery = await inbox.receive()

    assert delivery.recipient == delivery.message["To"] == "ann@xn--mnchen-3ya.example"
    assert "SMTPUTF8" not in delivery.options


async def test_the_sender_may_have_an_international_domain():
    async with smtp_server() as inbox:
        await send(make_mail_settings(inbox.port, mail_from="blog@münchen.example"))
        delivery = await inbox.receive()

    assert delivery.sender == "blog@xn--mnchen-3ya.example"
    assert delivery.message["From"].addresses[0].addr_spec == delivery.sender
    assert delivery.message["Message-ID"].endswith("@xn--mnchen-3ya.example>")


async def test_a_name_in_cyrillic_needs_a_server_that_supports_it():
    message = Message("анна@почта.example", "x", "x\n")
    async with smtp_server(supports_utf8=True) as inbox:
        await send(make_mail_settings(inbox.port), message)
        delivery = await inbox.receive()
    async with smtp_server() as old:
        with pytest.raises(DeliveryFailed, match="SMTPNotSupported"):
            await send(make_mail_settings(old.port), message)

    assert delivery.recipient == delivery.message["To"] == "анна@xn--80a1acny.example"
    assert old.is_empty()


async def test_tls_from_the_start_with_a_log_in(context: ssl.SSLContext, trusted: None):
    async with smtp_server(tls=context) as inbox:
        await send(make_mail_settings(inbox.port, "smtps", NOT_LOOPBACK, log_in=LOG_IN))
        delivery = await inbox.receive()

    assert delivery.is_encrypted
    assert delivery.is_authenticated


@pytest.mark.parametrize("log_in", ["", LOG_IN])
async def test_starttls(context: ssl.SSLContext, trusted: None, log_in: str):
    async with smtp_server(starttls=context) as inbox:
        await send(make_mail_settings(inbox.port, host=NOT_LOOPBACK, log_in=log_in))
        delivery = await inbox.receive()

    assert delivery.is_encrypted
    assert delivery.is_authenticated == bool(log_in)


@pytest.mark.parametrize(("scheme", "host"), [("smtps", HOST), ("smtp", NOT_LOOPBACK)])
async def test_a_certificate_of_an_unknown_authority_is_rejected(
    context: ssl.SSLContext, scheme: str, host: str
):
    tls, starttls = (context, None) if scheme == "smtps" else (None, context)
    async with smtp_server(tls=tls, starttls=starttls) as inbox:
        with pytest.raises(DeliveryFailed) as failure:
            await send(make_mail_settings(inbox.port, scheme, host))

    assert not failure.value.is_permanent
    assert inbox.is_empty()


async def test_starttls_on_this_machine_does_not_verify_the_certificate(context: ssl.SSLContext):
    async with smtp_server(starttls=context) as inbox:
        await send(make_mail_settings(inbox.port, log_in=LOG_IN))
        delivery = await inbox.receive()

    assert delivery.is_encrypted


async def test_a_password_is_not_sent_without_tls_unless_to_this_machine():
    async with smtp_server() as inbox:
        with pytest.raises(DeliveryFailed, match="SMTPException"):
            await send(make_mail_settings(inbox.port, host=NOT_LOOPBACK, log_in=LOG_IN))
        assert inbox.is_empty()
        await send(make_mail_settings(inbox.port, log_in=LOG_IN))
        delivery = await inbox.receive()

    assert (delivery.is_encrypted, delivery.is_authenticated) == (False, True)


async def test_a_refused_log_in_is_not_permanent():
    async with smtp_server() as inbox:
        with pytest.raises(DeliveryFailed) as failure:
            await send(make_mail_settings(inbox.port, log_in="blog:hunter2@"))

    assert str(failure.value) == "SMTPAuthenticationError 535"
    assert not failure.value.is_permanent


@pytest.mark.parametrize(
    ("responses", "text", "is_permanent"),
    [
        ({"RCPT": b"550 No ann@example.com\r\n"}, "SMTPRecipientsRefused 550", True),
        ({"RCPT": b"450 Later\r\n"}, "SMTPRecipientsRefused 450", False),
        ({"RCPT": b"421 Closing\r\n"}, "SMTPRecipientsRefused 421", False),
        ({"RCPT": b"550 No\r\n", "RSET": b""}, "SMTPRecipientsRefused 550", True),
        ({"": b"554 No\r\n"}, "SMTPConnectResponseError 554", False),
        ({"EHLO": b"550 No\r\n", "HELO": b"550 No\r\n"}, "SMTPHeloError 550", False),
        ({"MAIL": b"550 No\r\n"}, "SMTPSenderRefused 550", False),
        ({"DATA": b"554 No\r\n"}, "SMTPDataError 554", False),
        ({".": b"554 Spam\r\n"}, "SMTPDataError 554", False),
        ({"": b""}, "SMTPConnectError", False),
        ({"": b"22"}, "SMTPConnectError", False),
        ({"": b"No mail server\r\n"}, "SMTPResponseException -1", False),
        ({"EHLO": b""}, "SMTPServerDisconnected", False),
        ({"DATA": b""}, "SMTPServerDisconnected", False),
        ({".": b""}, "SMTPServerDisconnected", False),
        ({".": b"25"}, "SMTPServerDisconnected", False),
        ({".": b"250-OK\r\n25"}, "SMTPServerDisconnected", False),
        ({".": b"\xff\xfe\r\n"}, "SMTPResponseException -1", False),
        ({".": b"x" * 2**20}, "SMTP", False),
    ],
)
async def test_a_failure_is_described_by_its_type_and_code(
    responses: dict[str, bytes], text: str, is_permanent: bool
):
    async with scripted_server(responses) as server:
        with pytest.raises(DeliveryFailed) as failure:
            await send(make_mail_settings(server.port))

    assert str(failure.value).startswith(text)
    assert failure.value.is_permanent == is_permanent
    assert "ann" not in str(failure.value)


@pytest.mark.parametrize("command", ["", "EHLO", "MAIL", "RCPT", "DATA", "."])
async def test_a_server_that_does_not_respond_is_given_up(short_timeouts: None, command: str):
    async with scripted_server({command: None}) as server:
        with pytest.raises(DeliveryFailed, match="Timeout") as failure:
            await send(make_mail_settings(server.port))

    assert not failure.value.is_permanent


@pytest.fixture
def let_time_pass(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the event loop believe that so many seconds have passed."""

    def let_time_pass(seconds: float) -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: monotonic() + seconds)

    return let_time_pass


@pytest.mark.parametrize("quit", [None, b"", b"500 No\r\n", b"What\r\n", b"22"])
async def test_the_response_to_quit_does_not_matter(
    let_time_pass: Callable[[float], None], quit: bytes | None
):
    async with scripted_server({"QUIT": quit}) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(send, make_mail_settings(server.port))
        if quit is None:
            await server.is_silent.wait()
            let_time_pass(transport.STEP_TIMEOUT_SECONDS)

    assert server.accepted == 1


async def test_a_server_may_take_long_to_accept_a_message(let_time_pass: Callable[[float], None]):
    async with smtp_server(Inbox(pause_at="DATA")) as inbox, anyio.create_task_group() as tasks:
        tasks.start_soon(send, make_mail_settings(inbox.port))
        await inbox.wait_for_pause()
        # Longer than the other responses may take.
        let_time_pass(1.5 * transport.STEP_TIMEOUT_SECONDS)
        for _ in range(10):
            await checkpoint()
        assert inbox.is_empty()
        inbox.may_continue.set()
        await inbox.receive()

    assert inbox.is_empty()


@pytest.mark.parametrize("challenge", [b"334 ***\r\n", b"334 \xff\r\n", b"235 OK\r\n", b"334\r\n"])
async def test_a_meaningless_challenge_fails(short_timeouts: None, challenge: bytes):
    responses = {"EHLO": b"250-x\r\n250 AUTH CRAM-MD5\r\n", "AUTH": challenge}
    async with scripted_server(responses) as server:
        with pytest.raises(DeliveryFailed):
            await send(make_mail_settings(server.port, log_in=LOG_IN))

    assert server.accepted == 0


async def test_an_unreachable_server_is_not_permanent(closed_port: int):
    with pytest.raises(DeliveryFailed, match="SMTPConnectError") as failure:
        await send(make_mail_settings(closed_port))

    assert not failure.value.is_permanent


@pytest.mark.parametrize(
    "recipient",
    [
        "=?utf-8?q?a=0Ab?=@x.com",
        "=?utf-8?q?evil=40e.com=2C_b?=@x.com",
        "a\r\nBcc: b@x.com",
        "a\nb@x",
    ],
)
async def test_an_address_that_would_become_another_one_is_not_sent(
    closed_port: int, recipient: str
):
    """Versions before accepted encoded words in addresses."""
    message = Message(recipient, "Subject", "Text")
    with pytest.raises(DeliveryFailed) as failure:
        await create_transport(make_mail_settings(closed_port))(message)

    assert failure.value.is_permanent


async def test_standard_error_may_be_closed(monkeypatch: pytest.MonkeyPatch):
    class Closed(StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Closed())
    with pytest.raises(DeliveryFailed, match="BrokenPipeError"):
        await print_message(Message("ann@example.com", "Subject", "Text"))
