"""Verified email addresses, and changes of the address: `/email-verifications`."""

from fastapi import APIRouter, Depends, Response
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.addresses import find_by_email, mailbox_key, set_email
from blog_api.accounts.auth import CanWriteAccount, SecretKeysDep, lock_authenticated_user
from blog_api.accounts.errors import (
    SCOPE_PROBLEMS,
    EmailTaken,
    InvalidCode,
    MailNotConfigured,
)
from blog_api.accounts.idempotency import NO_KEY, IdempotencyKeyNotSupported
from blog_api.accounts.mail_codes import (
    IS_RESET,
    IS_UNDO,
    IS_VERIFICATION,
    MailCode,
    lock_user_of_code,
    require_mail,
    void_codes,
)
from blog_api.accounts.mailer import Mailer, MailerDep
from blog_api.accounts.models import User
from blog_api.accounts.rate_limits import LoginThrottleDep
from blog_api.accounts.service import revoke_tokens
from blog_api.core.errors import (
    BODY_PROBLEMS,
    ServiceUnavailable,
    TooManyRequests,
    problem_responses,
)
from blog_api.core.fields import MAX_SMALL_BODY_BYTES, RequestBody
from blog_api.db.queries import flush_unique
from blog_api.db.session import SessionDep, connection_released
from blog_api.mail.models import UNDO_KINDS, Mail, MailKind

router = APIRouter(
    prefix="/email-verifications",
    tags=["recovery"],
    responses=problem_responses(ServiceUnavailable, MailNotConfigured),
    max_body_size=MAX_SMALL_BODY_BYTES,
    dependencies=[Depends(require_mail), NO_KEY],
)

CODE_PROBLEMS = (*BODY_PROBLEMS, EmailTaken, IdempotencyKeyNotSupported, InvalidCode)


class EmailVerificationCreate(RequestBody):
    """A request for a mail with a code. It has no fields."""


class EmailCode(RequestBody):
    """A code from a mail."""

    token: MailCode


async def change_email(session: AsyncSession, mailer: Mailer, user: User, address: str) -> None:
    """Change the address of a locked user: at once without mail, otherwise when it is confirmed.

    Raises EmailTaken.
    """
    if not mailer.is_configured:
        await set_email(session, user, address)
        return
    user.pending_email = None
    await void_codes(session, user, IS_VERIFICATION)
    if address == user.email:
        return
    holder = await find_by_email(session, address)
    if holder is not None and holder.id != user.id:
        raise EmailTaken
    user.pending_email = address
    mailer.write(MailKind.email_verification, address, user)
    mailer.notify(MailKind.email_change_requested, user)


@router.post(
    "",
    status_code=202,
    response_class=Response,
    responses=problem_responses(
        *SCOPE_PROBLEMS, *BODY_PROBLEMS, IdempotencyKeyNotSupported, TooManyRequests
    ),
)
async def request_email_verification(
    _: EmailVerificationCreate,
    auth: CanWriteAccount,
    session: SessionDep,
    throttle: LoginThrottleDep,
    mailer: MailerDep,
) -> Response:
    """Mail a new code to the pending address, otherwise to the address that is not verified yet.

    If there is neither, nothing is sent.
    """
    async with connection_released(session):
        address = auth.user.pending_email or auth.user.email or ""
        is_allowed = await throttle.count_mail(account=mailbox_key(address))
    user = await lock_authenticated_user(session, auth)
    if is_allowed and (user.pending_email is not None or user.email_verified_at is None):
        await void_codes(session, user, IS_VERIFICATION)
        mailer.write(MailKind.email_verification, user.pending_email or user.email, user)
    return Response(status_code=202)


@router.post("/confirm", status_code=204, responses=problem_responses(*CODE_PROBLEMS))
async def verify_email(
    code: EmailCode, session: SessionDep, keys: SecretKeysDep, mailer: MailerDep
) -> None:
    """Verify an address by a code; a pending one becomes the address of the account."""
    user, mail = await lock_user_of_code(session, keys, code.token, MailKind.email_verification)
    if mail.recipient == user.pending_email:
        mailer.notify(MailKind.email_changed, user)
        user.pending_email = None
        await set_email(session, user, mail.recipient)
        await flush_unique(session, or_raise=EmailTaken)
        await void_codes(session, user, IS_RESET)
    elif mail.recipient != user.email:
        raise InvalidCode
    user.verify_email()
    await void_codes(session, user, IS_VERIFICATION)


@router.post("/undo", status_code=204, responses=problem_responses(*CODE_PROBLEMS))
async def undo_email_change(code: EmailCode, session: SessionDep, keys: SecretKeysDep) -> None:
    """Undo a change of the address by the code that the old address got.

    The old address is back, a pending one is dropped, and all sessions and personal tokens are
    revoked.
    """
    user, mail = await lock_user_of_code(session, keys, code.token, *UNDO_KINDS)
    user.pending_email = None
    if user.email != mail.recipient:
        await set_email(session, user, mail.recipient)
        await flush_unique(session, or_raise=EmailTaken)
    user.verify_email()
    await void_codes(session, user, IS_RESET | IS_VERIFICATION)
    # Later addresses came from whoever made this change; an earlier owner keeps the way back.
    await void_codes(session, user, IS_UNDO, col(Mail.id) >= mail.id)
    await revoke_tokens(session, user)
