"""Codes that users send back from mails."""

from typing import Annotated

from sqlalchemy import ColumnElement, delete
from sqlmodel import Field, col
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.errors import InvalidCode, MailNotConfigured
from blog_api.accounts.mailer import MailerDep
from blog_api.accounts.models import User
from blog_api.accounts.service import lock_user
from blog_api.core.fields import SchemaDefaults
from blog_api.core.security import SecretKeys
from blog_api.mail.codes import MAX_CODE_LENGTH, find_mail
from blog_api.mail.models import PASSWORD_KINDS, UNDO_KINDS, VERIFICATION_KINDS, Mail, MailKind

# The code of a new account sets a password too.
IS_RESET = col(Mail.kind).in_(PASSWORD_KINDS)
IS_VERIFICATION = col(Mail.kind).in_(VERIFICATION_KINDS)
IS_UNDO = col(Mail.kind).in_(UNDO_KINDS)

MailCode = Annotated[
    str,
    Field(max_length=MAX_CODE_LENGTH),
    SchemaDefaults("Code from a mail.", "7.Zm9ydHktdGhyZWUtY2hhcmFjdGVycy1vZi1iYXNlNjQtdGV4dA"),
]


async def require_mail(mailer: MailerDep) -> None:
    """Raise MailNotConfigured if the service sends no mail."""
    if not mailer.is_configured:
        raise MailNotConfigured


async def void_codes(session: AsyncSession, user: User, *conditions: ColumnElement[bool]) -> None:
    """Delete the mails of a locked user that meet the conditions, and with them their codes."""
    await session.exec(delete(Mail).where(col(Mail.user_id) == user.id, *conditions))


async def find_code(
    session: AsyncSession, keys: SecretKeys, code: str, *kinds: MailKind
) -> tuple[int, Mail]:
    """Return the user's id and the mail of a valid code. Raises InvalidCode."""
    mail = await find_mail(session, keys, code, *kinds)
    if mail is None or mail.user_id is None:
        raise InvalidCode
    return mail.user_id, mail


async def lock_user_of_code(
    session: AsyncSession, keys: SecretKeys, code: str, *kinds: MailKind
) -> tuple[User, Mail]:
    """Lock the user of a valid code; return both. Raises InvalidCode."""
    user_id, _ = await find_code(session, keys, code, *kinds)
    user = await lock_user(session, user_id)
    # Again: another request may have used the code before the user was locked.
    _, mail = await find_code(session, keys, code, *kinds)
    if user is None or not user.is_active:
        raise InvalidCode
    return user, mail
