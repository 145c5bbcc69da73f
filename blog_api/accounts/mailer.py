"""Mails that a request causes, in the language of its client."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.models import User
from blog_api.core.languages import Language, choose_language
from blog_api.core.settings import Settings
from blog_api.db.session import SessionDep
from blog_api.mail.models import MailKind
from blog_api.mail.outbox import Outbox, write_mail


@dataclass(frozen=True)
class Mailer:
    """Writes mails in the transaction of a request; none if mail is not configured."""

    settings: Settings
    session: AsyncSession
    language: Language = Language.en
    outbox: Outbox | None = None

    @property
    def is_configured(self) -> bool:
        return self.settings.mail_url is not None

    def write(
        self,
        kind: MailKind,
        recipient: str | None,
        user: User | None,
        *,
        delay: timedelta = timedelta(),
    ) -> None:
        """Write a mail; none if the user has no address."""
        if not self.is_configured or recipient is None:
            return
        write_mail(
            self.session,
            kind,
            self.language,
            recipient,
            None if user is None else user.id,
            is_verified=user is not None and recipient == user.verified_email,
            delay=delay,
        )
        if self.outbox is not None:
            self.outbox.wake_after_commit(self.session)

    def notify(self, kind: MailKind, user: User) -> None:
        """Write to the user's address."""
        self.write(kind, user.email, user)


async def get_mailer(session: SessionDep, request: Request) -> Mailer:
    state = request.app.state
    language = choose_language(request.headers.get("Accept-Language", ""))
    return Mailer(state.settings, session, language, state.outbox)


MailerDep = Annotated[Mailer, Depends(get_mailer)]
