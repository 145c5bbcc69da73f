"""Hand a message over: to an SMTP server, or to standard error."""

import sys
from collections.abc import Callable, Coroutine
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import localtime, make_msgid
from ipaddress import ip_address

import anyio.to_thread
from aiosmtplib import (
    SMTP,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPResponseException,
)
from sqlalchemy import URL

from blog_api.core.domains import to_a_labels
from blog_api.core.settings import Settings
from blog_api.mail.texts import Message

# For each response before the message and after it.
STEP_TIMEOUT_SECONDS = 30.0
# For connecting and logging in, and again for handing the message over: servers that examine it
# first take long to accept it, and would get it once more.
TIMEOUT_SECONDS = 60.0
# Longer than an attempt takes.
MAX_ATTEMPT_SECONDS = 2 * TIMEOUT_SECONDS + STEP_TIMEOUT_SECONDS
PERMANENT_FAILURE = 500

# The beginning of RFC 2047, 2.
ENCODED_WORD = "=?"

Transport = Callable[[Message], Coroutine[None, None, None]]


class DeliveryFailed(Exception):
    """The message was not handed over; the text says why, without an address."""

    def __init__(self, reason: str, *, is_permanent: bool = False) -> None:
        super().__init__(reason)
        self.is_permanent = is_permanent


def create_transport(settings: Settings) -> Transport:
    """Return the transport of `BLOG_MAIL_URL`, which must be set."""
    if settings.mail_url is None:
        raise ValueError("BLOG_MAIL_URL is not set")
    if settings.mail_url.drivername == "console":
        return print_message
    return SMTPTransport(settings, settings.mail_url).send


async def print_message(message: Message) -> None:
    """Print a message on standard error. Raises DeliveryFailed if it is closed."""
    text = f"\n--- To: {message.recipient}\n--- {message.subject}\n\n{message.text}---\n"
    # In a thread: writing to a full pipe blocks.
    try:
        await anyio.to_thread.run_sync(lambda: print(text, file=sys.stderr, flush=True))
    except OSError as error:
        raise to_delivery_failed(error) from error


class SMTPTransport:
    """Send through an SMTP server, on a connection for each message.

    A user and a password are sent over TLS alone, except to this machine. Without them STARTTLS is
    used if the server offers it. On this machine its certificate is not verified: mail servers make
    one for themselves when they are installed.
    """

    def __init__(self, settings: Settings, url: URL) -> None:
        self._sender = Address(settings.title, addr_spec=settings.mail_from)
        self._url = url
        self._uses_tls = url.drivername == "smtps"
        is_local = is_loopback(url.host or "")
        needs_tls = url.username is not None and not is_local
        self._starts_tls = True if needs_tls and not self._uses_tls else None
        self._verifies = self._uses_tls or not is_local

    async def send(self, message: Message) -> None:
        """Send a message. Raises DeliveryFailed."""
        recipient = make_envelope_address(message.recipient)
        email = self._make_email(message, recipient)
        client = SMTP(
            hostname=self._url.host,
            port=self._url.port,
            username=self._url.username,
            password=self._url.password,
            use_tls=self._uses_tls,
            start_tls=None if self._uses_tls else self._starts_tls,
            validate_certs=self._verifies,
            timeout=STEP_TIMEOUT_SECONDS,
        )
        try:
            with anyio.fail_after(TIMEOUT_SECONDS):
                await client.connect()
            # The end of the block sends QUIT, and ignores what comes of it.
            async with client:
                with anyio.fail_after(TIMEOUT_SECONDS):
                    await client.send_message(
                        email,
                        sender=self._sender.addr_spec,
                        recipients=[recipient],
                        timeout=TIMEOUT_SECONDS,
                    )
        # The library raises ValueError for addresses and responses that it cannot encode or parse.
        except (SMTPException, OSError, ValueError) as error:
            raise to_delivery_failed(error) from error

    def _make_email(self, message: Message, recipient: str) -> EmailMessage:
        """Return the message with its headers. Raises DeliveryFailed."""
        if ENCODED_WORD in recipient:
            # `email` would decode it to something else. New accounts have no such address.
            raise DeliveryFailed("encoded word in an address", is_permanent=True)
        email = EmailMessage()
        email["From"] = self._sender
        try:
            email["To"] = recipient
        except (ValueError, MessageError) as error:
            raise DeliveryFailed(type(error).__name__, is_permanent=True) from error
        email["Subject"] = message.subject
        email["Date"] = localtime()
        email["Message-ID"] = make_msgid(domain=self._sender.domain)
        # RFC 3834: automatic replies are not wanted.
        email["Auto-Submitted"] = "auto-generated"
        email.set_content(message.text)
        return email


def to_delivery_failed(error: Exception) -> DeliveryFailed:
    """Describe an error without the text of the server, which may name the recipient."""
    refused = error.recipients[0] if isinstance(error, SMTPRecipientsRefused) else error
    if not isinstance(refused, SMTPResponseException):
        # The text of an error of the connection is that of the system.
        text = f": {error}" if isinstance(error, OSError) else ""
        return DeliveryFailed(f"{type(error).__name__}{text}")
    # Other refusals, such as of the log-in, are the operator's to mend meanwhile.
    is_permanent = refused is not error and refused.code >= PERMANENT_FAILURE
    return DeliveryFailed(f"{type(error).__name__} {refused.code}", is_permanent=is_permanent)


def make_envelope_address(address: str) -> str:
    """Return the address with the domain as A-labels, which every server understands."""
    local_part, _, domain = address.rpartition("@")
    return f"{local_part}@{to_a_labels(domain)}"


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
