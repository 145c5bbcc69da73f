"""SMTP servers in the event loop of a test: a complete one, and one that follows a script."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from anyio import fail_after

from blog_api.core.settings import Settings
from tests.support.clients import make_settings

HOST = "127.0.0.1"
RECEIVE_SECONDS = 30
SENDER = "blog@example.com"
USER, MAIL_PASSWORD = "blog", "p@ss: wörd/%"


def make_mail_settings(
    port: int, scheme: str = "smtp", host: str = HOST, log_in: str = "", **values: object
) -> Settings:
    url = f"{scheme}://{log_in}{host}:{port}"
    return make_settings(**{"mail_url": url, "mail_from": SENDER, **values})


@dataclass(frozen=True)
class Delivery:
    """A message with the envelope and the connection that it came by."""

    sender: str | None
    recipient: str
    options: list[str]
    content: bytes
    is_encrypted: bool
    is_authenticated: bool

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.content, policy=policy.default)

    @property
    def text(self) -> str:
        return str(self.message.get_content()).replace("\r\n", "\n")


class Inbox:
    """The messages that a server has accepted; pauses before the response to a command."""

    def __init__(self, pause_at: str | None = None, *, pauses_always: bool = False) -> None:
        self._pause_at = pause_at
        self._pauses_always = pauses_always
        self._deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
        self._pauses = asyncio.Semaphore(0)
        self._losses = asyncio.Semaphore(0)
        self.may_continue = asyncio.Event()
        self.port = 0

    async def receive(self) -> Delivery:
        """Return the next message; wait for it if necessary."""
        with fail_after(RECEIVE_SECONDS):
            return await self._deliveries.get()

    async def wait_for_pause(self, times: int = 1) -> None:
        with fail_after(RECEIVE_SECONDS):
            for _ in range(times):
                await self._pauses.acquire()

    async def wait_for_loss(self, times: int = 1) -> None:
        """Wait until connections that were paused are closed by the client."""
        with fail_after(RECEIVE_SECONDS):
            for _ in range(times):
                await self._losses.acquire()

    def is_empty(self) -> bool:
        return self._deliveries.empty()

    async def _pause(self, command: str) -> None:
        if command == self._pause_at:
            if not self._pauses_always:
                self._pause_at = None
            self._pauses.release()
            try:
                await self.may_continue.wait()
            except asyncio.CancelledError:
                self._losses.release()
                raise

    async def handle_EHLO(
        self, server: SMTP, session: Session, _: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        await self._pause("EHLO")
        return responses

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        await self._pause("DATA")
        assert isinstance(envelope.content, bytes)
        assert server.transport is not None
        (recipient,) = envelope.rcpt_tos
        delivery = Delivery(
            envelope.mail_from,
            recipient,
            envelope.mail_options,
            envelope.content,
            server.transport.get_extra_info("sslcontext") is not None,
            bool(session.authenticated),
        )
        self._deliveries.put_nowait(delivery)
        return "250 OK"

    async def handle_QUIT(self, *_: object) -> str:
        await self._pause("QUIT")
        return "221 Bye"


def authenticate(
    _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object
) -> AuthResult:
    expected = LoginPassword(USER.encode(), MAIL_PASSWORD.encode())
    return AuthResult(success=data == expected, handled=False)


@asynccontextmanager
async def smtp_server(
    inbox: Inbox | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    starttls: ssl.SSLContext | None = None,
    supports_utf8: bool = False,
) -> AsyncIterator[Inbox]:
    """Listen on a free port. A user and a password are accepted without TLS too."""
    inbox = inbox or Inbox()
    loop = asyncio.get_running_loop()

    def make_protocol() -> SMTP:
        return SMTP(
            inbox,
            hostname="mail.example.com",
            tls_context=starttls,
            enable_SMTPUTF8=supports_utf8,
            authenticator=authenticate,
            auth_require_tls=False,
            loop=loop,
        )

    server = await loop.create_server(make_protocol, HOST, 0, ssl=tls)
    inbox.port = server.sockets[0].getsockname()[1]
    try:
        yield inbox
    finally:
        server.close()
        await server.wait_closed()


# The responses to each command; `""` is the greeting, `.` the end of the message.
RESPONSES = {
    "": b"220 mail.example.com\r\n",
    "EHLO": b"250 mail.example.com\r\n",
    "MAIL": b"250 OK\r\n",
    "RCPT": b"250 OK\r\n",
    "DATA": b"354 Go on\r\n",
    ".": b"250 OK\r\n",
    "RSET": b"250 OK\r\n",
    "QUIT": b"221 Bye\r\n",
}


@dataclass
class Script:
    """A server that has other responses to some commands.

    None is no response, ever; after one that is not a whole line the connection is closed.
    """

    responses: Mapping[str, bytes | None]
    port: int = 0
    accepted: int = 0
    content: bytes = b""
    connections: set[asyncio.Task[None]] = field(default_factory=set)
    # Set when a command got no response.
    is_silent: asyncio.Event = field(default_factory=asyncio.Event)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._respond(reader, writer)
        writer.close()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        responses, command = RESPONSES | dict(self.responses), ""
        while True:
            response = responses.get(command, b"500 Unknown\r\n")
            if response is not None:
                writer.write(response)
                self.accepted += command == "." and response.startswith(b"250")
                if not response.endswith(b"\n"):
                    break
            else:
                self.is_silent.set()
            if response is not None and command == "DATA" and response.startswith(b"354"):
                self.content = await reader.readuntil(b"\r\n.\r\n")
                command = "."
                continue
            line = await reader.readline()
            if not line:
                break
            command = line.split()[0].decode().upper()


@asynccontextmanager
async def scripted_server(responses: Mapping[str, bytes | None]) -> AsyncIterator[Script]:
    script = Script(responses)
    server = await asyncio.start_server(script.accept, HOST, 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        # They end when the client closes its connections.
        await asyncio.gather(*script.connections)
        await server.wait_closed()
