"""Mails that wait to be sent, and the codes of those that were sent."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

from sqlalchemy import Index
from sqlmodel import Field, col

from blog_api.core.fields import MAX_EMAIL_LENGTH
from blog_api.db.base import Invalidates, TableModel


class MailKind(StrEnum):
    """The purpose of a mail, which decides its text and whether it has a code."""

    password_reset = "password-reset"
    # A new account without a password, which an administrator opened.
    account_opened = "account-opened"
    email_verification = "email-verification"
    # To a new address of an existing account.
    email_change = "email-change"
    # To the old address. The first one asks nothing of the owner: the change is not confirmed yet.
    email_change_requested = "email-change-requested"
    email_changed = "email-changed"
    password_changed = "password-changed"
    token_created = "token-created"
    admin_made = "admin-made"
    admin_dismissed = "admin-dismissed"


# Kinds with a code, which is valid for so long after the mail was written.
CODE_LIFETIMES = {
    MailKind.password_reset: timedelta(minutes=30),
    MailKind.account_opened: timedelta(days=7),
    MailKind.email_verification: timedelta(days=1),
    MailKind.email_change: timedelta(days=1),
    MailKind.email_change_requested: timedelta(days=7),
    MailKind.email_changed: timedelta(days=7),
}
# Both set a password.
PASSWORD_KINDS = (MailKind.password_reset, MailKind.account_opened)
VERIFICATION_KINDS = (MailKind.email_verification, MailKind.email_change)
# Both undo a change of the address.
UNDO_KINDS = (MailKind.email_change_requested, MailKind.email_changed)
# A mail without a code is tried for so long.
NOTICE_LIFETIME = timedelta(days=3)


class Mail(TableModel, table=True):
    """A mail, with the data of its code. It holds no secret: see `codes`.

    A mail without a code is deleted when it was sent; one with a code when the code was used,
    replaced or has expired.
    """

    __tablename__ = "mails"
    invalidates: ClassVar = Invalidates.NOTHING

    kind: str = Field(max_length=30)
    # Null for a password reset until the delivery has looked the address up.
    user_id: int | None = Field(
        default=None, foreign_key="users.id", ondelete="CASCADE", index=True
    )
    recipient: str = Field(max_length=MAX_EMAIL_LENGTH)
    # Whether the recipient had been verified as the user's address.
    is_verified: bool = False
    language: str = Field(max_length=2)
    nonce: str = Field(max_length=43)
    expires_at: datetime = Field(index=True)
    attempts: int = 0
    # The time of the next attempt; null: it was sent. An attempt moves it, as a lease.
    send_at: datetime | None


IS_UNSENT = col(Mail.send_at).is_not(None)
Index("ix_mails_send_at", col(Mail.send_at), postgresql_where=IS_UNSENT, sqlite_where=IS_UNSENT)
