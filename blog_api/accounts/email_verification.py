"""Verified email addresses, and changes of the address: `/email-verifications`."""

from fastapi import APIRouter, Depends, Response
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.addresses import find_by_email, mailbox_key, set_email
from blog_api.accounts.auth import CanWriteAccount, SecretKeysDep, lock_authenticated_user
from blog_api.accounts.bans import Bans, BansDep
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
from blog_api.accounts.rate_limits import CODES, VERIFICATIONS_TO_ADDRESS, LoginThrottleDep
from blog_api.accounts.service import lock_user, revoke_tokens
from blog_api.core.errors import (
    BODY_PROBLEMS,
    ServiceUnavailable,
    TooManyRequests,
    problem_responses,
)
from blog_api.core.fields import MAX_SMALL_BODY_BYTES, RequestBody
from blog_api.db.queries import flush_unique
from blog_api.db.session import SessionDep, connection_released
from blog_api.mail.models import UNDO_KINDS, VERIFICATION_KINDS, Mail, MailKind

router = APIRouter(
    prefix="/email-verifications",
    tags=["recovery"],
    responses=problem_responses(ServiceUnavailable, MailNotConfigured),
    max_body_size=MAX_SMALL_BODY_BYTES,
    dependencies=[Depends(require_mail), NO_KEY],
)


async def limit_codes(throttle: LoginThrottleDep) -> None:
    await throttle.count_request(CODES)


LIMIT_CODES = Depends(limit_codes)
CODE_PROBLEMS = (
    *BODY_PROBLEMS,
    EmailTaken,
    IdempotencyKeyNotSupported,
    InvalidCode,
    TooManyRequests,
)


class EmailVerificationCreate(RequestBody):
    """A request for a mail with a code. It has no fields."""


class EmailCode(RequestBody):
    """A code from a mail."""

    token: MailCode


async def replace_email(session: AsyncSession, bans: Bans, user: User, address: str) -> None:
    """Set the address of a locked user. Raises EmailTaken, for a banned address too."""
    await set_email(session, user, address)
    await flush_unique(session, or_raise=EmailTaken)
    await bans.check(address)


async def change_email(
    session: AsyncSession, mailer: Mailer, bans: Bans, user: User, address: str
) -> None:
    """Change the address of a locked user: at once without mail, otherwise when it is confirmed.

    Raises EmailTaken.
    """
    if not mailer.is_configured:
        await replace_email(session, bans, user, address)
        return
    if address == user.pending_email:
        # `POST /email-verifications` mails another code, within a limit.
        return
    user.pending_email = None
    await void_codes(session, user, IS_VERIFICATION, col(Mail.recipient) != user.email)
    if address == user.email:
        return
    if await find_other_holder(session, user, address) is not None:
        raise EmailTaken
    await bans.check(address)
    user.pending_email = address
    mailer.write(MailKind.email_change, address, user)
    mailer.notify(MailKind.email_change_requested, user)


async def find_other_holder(session: AsyncSession, user: User, address: str) -> User | None:
    """Return another account that has the mailbox."""
    holder = await find_by_email(session, address)
    return None if holder is None or holder.id == user.id else holder


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
        is_allowed = await throttle.count_mail(
            VERIFICATIONS_TO_ADDRESS, account=mailbox_key(address)
        )
    user = await lock_authenticated_user(session, auth)
    pending = user.pending_email
    if pending is not None and await find_other_holder(session, user, pending) is not None:
        # Its owner has signed up meanwhile.
        user.pending_email = None
    elif is_allowed and (pending is not None or user.email_verified_at is None):
        await void_codes(session, user, IS_VERIFICATION)
        kind = MailKind.email_verification if pending is None else MailKind.email_change
        mailer.write(kind, pending or user.email, user)
    return Response(status_code=202)


@router.post(
    "/confirm",
    status_code=204,
    responses=problem_responses(*CODE_PROBLEMS),
    dependencies=[LIMIT_CODES],
)
async def verify_email(
    code: EmailCode, session: SessionDep, keys: SecretKeysDep, mailer: MailerDep, bans: BansDep
) -> None:
    """Verify an address by a code; a pending one becomes the address of the account."""
    user, mail = await lock_user_of_code(session, keys, code.token, *VERIFICATION_KINDS)
    if mail.recipient == user.pending_email:
        mailer.notify(MailKind.email_changed, user)
        user.pending_email = None
        await replace_email(session, bans, user, mail.recipient)
        await void_codes(session, user, IS_RESET)
    elif mail.recipient != user.email:
        raise InvalidCode
    user.verify_email()
    await void_codes(session, user, IS_VERIFICATION)


async def free_address(session: AsyncSession, user: User, address: str) -> None:
    """Take the mailbox of the user from an account that signed up with it and never verified it.

    Otherwise a thief who changed the address could sign up with the old one, and the owner could
    not undo the change. An administrator keeps the address: the operator has set it. A deactivated
    account keeps it too, which bans it.
    """
    holder = await find_other_holder(session, user, address)
    holder = None if holder is None else await lock_user(session, holder.id)
    if (
        holder is not None
        and holder.email_verified_at is None
        and holder.is_active
        and not holder.is_admin
    ):
        holder.email = holder.email_key = holder.mailbox_key = holder.pending_email = None
        await revoke_tokens(session, holder)
        await void_codes(session, holder)
        await session.flush()


@router.post(
    "/undo",
    status_code=204,
    responses=problem_responses(*CODE_PROBLEMS),
    dependencies=[LIMIT_CODES],
)
async def undo_email_change(
    code: EmailCode, session: SessionDep, keys: SecretKeysDep, bans: BansDep
) -> None:
    """Undo a change of the address by the code that the old address got.

    The old address is back, a pending one is dropped, and all sessions and personal tokens are
    revoked. An account that has signed up with the old address meanwhile loses it, unless the
    address was verified there.
    """
    user, mail = await lock_user_of_code(session, keys, code.token, *UNDO_KINDS)
    user.pending_email = None
    if user.email != mail.recipient:
        await free_address(session, user, mail.recipient)
        await replace_email(session, bans, user, mail.recipient)
    user.verify_email()
    await void_codes(session, user, IS_RESET | IS_VERIFICATION)
    # Newer undo codes belong to addresses that were set by this change or after it. Older ones
    # belong to earlier addresses and stay valid.
    await void_codes(session, user, IS_UNDO, col(Mail.id) >= mail.id)
    await revoke_tokens(session, user)
