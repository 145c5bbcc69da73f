"""Recovery of an account: a new password by a code that is mailed, `/password-resets`."""

import secrets
from datetime import timedelta

from fastapi import APIRouter, Depends, Response
from sqlalchemy import not_
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.addresses import find_by_email, mailbox_key
from blog_api.accounts.auth import SecretKeysDep
from blog_api.accounts.errors import InvalidCode, MailNotConfigured
from blog_api.accounts.idempotency import NO_KEY, IdempotencyKeyNotSupported
from blog_api.accounts.mail_codes import (
    IS_RESET,
    IS_UNDO,
    IS_VERIFICATION,
    MailCode,
    find_code,
    lock_user_of_code,
    require_mail,
    void_codes,
)
from blog_api.accounts.mailer import MailerDep
from blog_api.accounts.models import User
from blog_api.accounts.passwords import check_new_password
from blog_api.accounts.rate_limits import CODES, RESETS_TO_ADDRESS, LoginThrottleDep
from blog_api.accounts.service import lock_user, revoke_tokens
from blog_api.core.errors import (
    BODY_PROBLEMS,
    ServiceUnavailable,
    TooManyRequests,
    problem_responses,
)
from blog_api.core.fields import MAX_SMALL_BODY_BYTES, Email, NewPassword, RequestBody
from blog_api.db.session import SessionDep, connection_released
from blog_api.mail.models import PASSWORD_KINDS, Mail, MailKind

# A mail for a known address is sent at a random moment: the requests that come next, for known and
# unknown addresses, take equally long.
MAX_DELAY_MILLISECONDS = 3_000

router = APIRouter(
    prefix="/password-resets",
    tags=["recovery"],
    responses=problem_responses(ServiceUnavailable, MailNotConfigured),
    max_body_size=MAX_SMALL_BODY_BYTES,
    dependencies=[Depends(require_mail), NO_KEY],
)


class PasswordResetCreate(RequestBody):
    """A request for a mail with a code."""

    email: Email


class PasswordResetConfirmation(RequestBody):
    """A code and the new password."""

    token: MailCode
    new_password: NewPassword


@router.post(
    "",
    status_code=202,
    response_class=Response,
    responses=problem_responses(*BODY_PROBLEMS, IdempotencyKeyNotSupported, TooManyRequests),
)
async def request_password_reset(
    request: PasswordResetCreate,
    session: SessionDep,
    throttle: LoginThrottleDep,
    mailer: MailerDep,
) -> Response:
    """Mail a code for a new password to an address, if an account has it.

    The response is the same for an address without an account.
    """
    async with connection_released(session):
        is_allowed = await throttle.count_mail(
            RESETS_TO_ADDRESS, account=mailbox_key(request.email)
        )
    if is_allowed:
        # The account is looked up when the mail is sent: here it would take a measurable time.
        delay = timedelta(milliseconds=secrets.randbelow(MAX_DELAY_MILLISECONDS))
        mailer.write(MailKind.password_reset, request.email, None, delay=delay)
    return Response(status_code=202)


async def prepare_mail(session: AsyncSession, mail: Mail) -> bool:
    """Look up the account of a password reset; return whether the mail is to be sent."""
    if mail.kind != MailKind.password_reset or mail.user_id is not None:
        return True
    found = await find_by_email(session, mail.recipient)
    user = None if found is None else await lock_user(session, found.id)
    if user is None or user.email is None or not user.is_active:
        return False
    # A newer code replaces the older ones; that of a new account stays, since anybody can request
    # a reset.
    await void_codes(session, user, col(Mail.kind) == MailKind.password_reset)
    mail.user_id = user.id
    # The spelling that the account was registered with.
    mail.recipient = user.email
    return True


@router.post(
    "/confirm",
    status_code=204,
    responses=problem_responses(
        *BODY_PROBLEMS, IdempotencyKeyNotSupported, InvalidCode, TooManyRequests
    ),
)
async def reset_password(
    confirmation: PasswordResetConfirmation,
    session: SessionDep,
    keys: SecretKeysDep,
    throttle: LoginThrottleDep,
    mailer: MailerDep,
) -> None:
    """Set a password by a code, and revoke all sessions and personal tokens. Does not log in.

    The code is that of a reset, or that of a new account which has no password yet.

    The code proves that the mailbox is the user's: the address is verified, and a pending one is
    dropped.
    """
    async with connection_released(session):
        await throttle.count_request(CODES)
    user_id, _ = await find_code(session, keys, confirmation.token, *PASSWORD_KINDS)
    user = await session.get(User, user_id)
    if user is None:
        raise InvalidCode
    check_new_password(
        throttle.passwords,
        confirmation.new_password,
        name=user.name,
        email=user.email,
        field="new_password",
    )
    async with connection_released(session):
        password_hash = await throttle.hash_password(confirmation.new_password)
    user, mail = await lock_user_of_code(session, keys, confirmation.token, *PASSWORD_KINDS)
    if user.email != mail.recipient:
        raise InvalidCode
    user.password_hash = password_hash
    user.pending_email = None
    user.verify_email()
    await void_codes(session, user, IS_RESET | IS_VERIFICATION)
    # An undo code for an address that was never verified may belong to a person who opened the
    # account with the address of another one.
    await void_codes(session, user, IS_UNDO, not_(col(Mail.is_verified)))
    await revoke_tokens(session, user)
    mailer.notify(MailKind.password_changed, user)
    await throttle.remember_network(mailbox_key(user.email), password_hash)
