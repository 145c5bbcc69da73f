"""Write mails with the transaction that causes them, and deliver them afterwards.

A mail is a row of the same transaction: a transaction that is rolled back sends nothing, and one
that is committed loses nothing. Each worker delivers: it claims a mail by one committed UPDATE that
moves the time of the next attempt into the future, sends the mail without a connection to the
database, and marks it as sent. If the worker dies meanwhile, another one takes the mail over when
that time has come; only a mail that was sent but not marked is then sent twice.
"""

import logging
import math
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio
from anyio import CancelScope
from sqlalchemy import Delete, Update, and_, delete, event, func, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.background import errors_logged
from blog_api.core.errors import Conflict, ServiceUnavailable
from blog_api.core.fields import utc_now
from blog_api.core.languages import Language
from blog_api.core.security import SecretKeys
from blog_api.core.settings import Settings
from blog_api.db.base import NOW
from blog_api.db.session import Database
from blog_api.mail.codes import make_codes
from blog_api.mail.models import CODE_LIFETIMES, IS_UNSENT, NOTICE_LIFETIME, Mail, MailKind
from blog_api.mail.texts import make_message
from blog_api.mail.transport import MAX_ATTEMPT_SECONDS, DeliveryFailed, Transport, create_transport

log = logging.getLogger(__name__)

# Mails that other workers wrote and did not send are found after so long.
POLL_SECONDS = 10.0
LEASE = timedelta(seconds=MAX_ATTEMPT_SECONDS + 30)
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(hours=1)
MAX_DOUBLINGS = 7
SWEEP_SIZE = 100
RETRY_SECONDS = 1.0

# A newer version, which runs beside this one during an upgrade, may write other kinds.
IS_KNOWN = and_(col(Mail.kind).in_(MailKind), col(Mail.language).in_(Language))
IS_DUE = and_(col(Mail.send_at) <= NOW, col(Mail.expires_at) > NOW, IS_KNOWN)
NEXT_ATTEMPT = select(func.min(Mail.send_at)).where(IS_UNSENT, col(Mail.expires_at) > NOW, IS_KNOWN)
# The earliest deadline first: a code for a new password does not wait behind notices.
NEXT = select(Mail.id).where(IS_DUE).order_by(col(Mail.expires_at)).limit(1)
# Another worker that claims at the same moment takes the next one.
NEXT_FREE = NEXT.with_for_update(skip_locked=True)
CLAIM = update(Mail).where(col(Mail.id) == NEXT_FREE.scalar_subquery())
SOME_EXPIRED = (
    select(Mail.id)
    .where(col(Mail.expires_at) <= NOW)
    .order_by(col(Mail.expires_at))
    .limit(SWEEP_SIZE)
    .with_for_update(skip_locked=True)
)
DELETE_SOME_EXPIRED = delete(Mail).where(col(Mail.id).in_(SOME_EXPIRED))
# Of the database; later it may respond.
UNAVAILABLE = (ServiceUnavailable, Conflict)

# Completes a mail before it is sent, in the transaction that claims it; false: it is not sent.
Prepare = Callable[[AsyncSession, Mail], Awaitable[bool]]


def write_mail(
    session: AsyncSession,
    kind: MailKind,
    language: Language,
    recipient: str,
    user_id: int | None,
    *,
    is_verified: bool = False,
    delay: timedelta = timedelta(),
) -> None:
    """Add a mail to the transaction; it is sent after `delay`."""
    now = utc_now()
    mail = Mail(
        kind=kind,
        user_id=user_id,
        recipient=recipient,
        is_verified=is_verified,
        language=language,
        nonce=secrets.token_urlsafe(32),
        expires_at=now + CODE_LIFETIMES.get(kind, NOTICE_LIFETIME),
        send_at=now + delay,
    )
    session.add(mail)


class Outbox:
    """Delivers the mails of the service."""

    def __init__(self, settings: Settings, database: Database, prepare: Prepare) -> None:
        self._settings = settings
        self._database = database
        self._prepare = prepare
        self._is_written = anyio.Event()
        self._deadline = math.inf
        self._delivery: CancelScope | None = None

    def wake_after_commit(self, session: AsyncSession) -> None:
        """Look for mails to send when the transaction was committed."""
        event.listen(session.sync_session, "after_commit", self._wake, once=True)

    def _wake(self, _session: object) -> None:
        self._is_written.set()
        self._is_written = anyio.Event()

    async def deliver_continuously(self, keys: SecretKeys) -> None:
        """Deliver until cancelled; what has begun ends first, by the deadline of `stop()`."""
        transport = create_transport(self._settings)
        while True:
            mail = await self._wait_for_mail()
            self._delivery = scope = CancelScope(shield=True, deadline=self._deadline)
            # Otherwise one mail would end the delivery of all others.
            with errors_logged(f"mail {mail.id}"), scope:
                await self.deliver(mail, keys, transport)

    def stop(self, seconds: float) -> None:
        """Let the delivery that has begun end within so many seconds."""
        self._deadline = anyio.current_time() + seconds
        if self._delivery is not None:
            self._delivery.deadline = self._deadline

    async def _wait_for_mail(self) -> Mail:
        while True:
            is_written, pause = self._is_written, POLL_SECONDS
            try:
                # A reader first: SQLite has one writer.
                pause = await self._get_pause()
                mail = await self.claim() if pause <= 0 else None
                if mail is not None:
                    return mail
            except UNAVAILABLE as error:
                log.warning("Mails wait for the database: %s", error.detail)
                pause = POLL_SECONDS
            with anyio.move_on_after(pause):
                await is_written.wait()

    async def _get_pause(self) -> float:
        """Return the seconds until a mail is due, at most `POLL_SECONDS`."""
        async with self._database.background_session(writes=False) as session:
            next_at = (await session.exec(NEXT_ATTEMPT)).one()
        if next_at is None:
            return POLL_SECONDS
        return min((next_at - utc_now()).total_seconds(), POLL_SECONDS)

    async def claim(self) -> Mail | None:
        """Claim the next mail that is due for the time of `LEASE`, or return None."""
        while True:
            async with self._database.background_session(writes=True) as session:
                claim = CLAIM.values(send_at=utc_now() + LEASE, attempts=col(Mail.attempts) + 1)
                mail = (await session.exec(claim.returning(Mail))).scalars().first()
                await session.exec(DELETE_SOME_EXPIRED)
                is_wanted = mail is None or await self._prepare(session, mail)
                if mail is not None and not is_wanted:
                    await session.delete(mail)
            if is_wanted:
                return mail

    async def deliver(self, mail: Mail, keys: SecretKeys, transport: Transport) -> None:
        """Send a claimed mail, then mark it as sent or decide when to try again."""
        code, *_ = make_codes(keys, mail)
        kind = MailKind(mail.kind)
        message = make_message(self._settings, kind, Language(mail.language), mail.recipient, code)
        this = col(Mail.id) == mail.id
        finish: Delete | Update = delete(Mail).where(this)
        try:
            await transport(message)
            if kind in CODE_LIFETIMES:
                finish = update(Mail).where(this).values(send_at=None)
        except DeliveryFailed as failure:
            doublings = min(mail.attempts - 1, MAX_DOUBLINGS)
            pause = min(FIRST_PAUSE * 2**doublings, LONGEST_PAUSE)
            next_at = utc_now() + pause
            if failure.is_permanent or next_at >= mail.expires_at:
                log.error("Mail %s (%s) was not sent: %s", mail.id, kind, failure)
            else:
                seconds = round(pause.total_seconds())
                log.warning(
                    "Mail %s (%s) is tried again in %s s: %s", mail.id, kind, seconds, failure
                )
                finish = update(Mail).where(this).values(send_at=next_at)
        await self._finish(finish)

    async def _finish(self, statement: Delete | Update) -> None:
        """Record the result; try again while the database is unavailable."""
        while True:
            try:
                async with self._database.session(writes=True) as session:
                    await session.exec(statement)
                return
            except UNAVAILABLE as error:
                log.warning("The result of a delivery waits for the database: %s", error.detail)
            await anyio.sleep(RETRY_SECONDS)
