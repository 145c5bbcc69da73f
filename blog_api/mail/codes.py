"""Codes in mails: derived when a mail is sent, and again when a code arrives.

A code is `{id}.{digest}`: the id of the mail, and an HMAC over what identifies the mail. The digest
needs the secret key: the database alone is not enough to make a code.
"""

import re
from hmac import compare_digest

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.core.fields import MAX_INT32, utc_now
from blog_api.core.security import SecretKeys
from blog_api.mail.models import Mail, MailKind

CODE = re.compile(r"([1-9]\d{0,9})\.([A-Za-z0-9_-]{43})", re.ASCII)
MAX_CODE_LENGTH = 54


def make_codes(keys: SecretKeys, mail: Mail) -> list[str]:
    """Return the code of a mail under each secret key, the current one first."""
    text = f"{mail.id} {mail.kind} {mail.user_id} {mail.nonce}"
    return [f"{mail.id}.{digest}" for digest in keys.make_digests("mail code", text)]


async def find_mail(
    session: AsyncSession, keys: SecretKeys, code: str, *kinds: MailKind
) -> Mail | None:
    """Return the mail of a valid code, or None."""
    parts = CODE.fullmatch(code)
    if parts is None or int(parts[1]) > MAX_INT32:
        return None
    query = select(Mail).where(
        col(Mail.id) == int(parts[1]), col(Mail.kind).in_(kinds), col(Mail.expires_at) > utc_now()
    )
    found = await session.exec(query.execution_options(populate_existing=True))
    mail = found.first()
    if mail is None or mail.user_id is None:
        return None
    is_right = any(compare_digest(one, code) for one in make_codes(keys, mail))
    return mail if is_right else None
