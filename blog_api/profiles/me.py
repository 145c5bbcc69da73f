"""The account of the user: `/users/me`."""

from fastapi import APIRouter, Depends, Request
from sqlmodel import col

from blog_api.accounts.addresses import mailbox_key
from blog_api.accounts.auth import (
    AuthenticatedUser,
    CanWriteAccount,
    CurrentUser,
    confirm_password,
    lock_authenticated_user,
    revoke_other_sessions,
    verify_password,
)
from blog_api.accounts.bans import BansDep
from blog_api.accounts.email_verification import change_email
from blog_api.accounts.errors import PASSWORD_PROBLEMS, SCOPE_PROBLEMS, EmailTaken, UsernameTaken
from blog_api.accounts.mail_codes import IS_RESET, IS_VERIFICATION, void_codes
from blog_api.accounts.mailer import MailerDep
from blog_api.accounts.models import PasswordUpdate, User, UserRead, UserUpdate
from blog_api.accounts.names import index_names
from blog_api.accounts.passwords import check_new_password
from blog_api.accounts.rate_limits import PASSWORD_CHANGES, SIGN_UPS, LoginThrottleDep
from blog_api.accounts.service import claim_username
from blog_api.accounts.write_limits import RateLimiterDep, count_write, limit_profile_changes
from blog_api.core.errors import (
    BODY_PROBLEMS,
    ServiceUnavailable,
    ValidationFailed,
    missing_field,
    problem_responses,
)
from blog_api.core.fields import MAX_SMALL_BODY_BYTES
from blog_api.db.queries import flush_unique
from blog_api.db.session import SessionDep, connection_released
from blog_api.mail.models import Mail, MailKind
from blog_api.web.conditional import (
    PreconditionDep,
    PreconditionFailed,
    set_etag_row,
    set_etag_version,
)

router = APIRouter(
    tags=["me"],
    responses=problem_responses(ServiceUnavailable),
    max_body_size=MAX_SMALL_BODY_BYTES,
)


@router.get("/users/me", response_model=UserRead, responses=problem_responses(*SCOPE_PROBLEMS))
async def read_me(user: CurrentUser, request: Request) -> AuthenticatedUser:
    """Return the account of the user."""
    set_etag_version(request, User, user.id, user.updated_at)
    return user


@router.patch(
    "/users/me",
    response_model=UserRead,
    responses=problem_responses(
        *PASSWORD_PROBLEMS, *BODY_PROBLEMS, EmailTaken, UsernameTaken, PreconditionFailed
    ),
    dependencies=[Depends(limit_profile_changes)],
)
async def update_me(
    changes: UserUpdate,
    auth: CanWriteAccount,
    session: SessionDep,
    throttle: LoginThrottleDep,
    mailer: MailerDep,
    bans: BansDep,
    precondition: PreconditionDep,
    request: Request,
) -> User:
    """Change the profile; with `current_password` also the email address.

    If the service sends mail, the new address is pending until it is confirmed by a code.

    The former username is never given to another user; the same user can choose it again.
    """
    values = changes.model_dump(exclude_unset=True, exclude={"current_password"})
    if "email" in values:
        if changes.current_password is None:
            raise ValidationFailed([missing_field("body", "current_password")])
        async with connection_released(session):
            # Limited: EmailTaken tells whether an address has an account.
            await throttle.count_request(SIGN_UPS)
        user = await confirm_password(session, throttle, auth, changes.current_password)
        precondition.check(user)
        await change_email(session, mailer, bans, user, values.pop("email"))
    else:
        user = await lock_authenticated_user(session, auth)
        precondition.check(user)
    if "username" in values:
        await claim_username(session, values["username"], user.id)
    user.sqlmodel_update(values)
    await flush_unique(session, or_raise=EmailTaken)
    await index_names(session, {user.id: user.name})
    set_etag_row(request, user)
    return user


@router.put(
    "/users/me/password",
    status_code=204,
    responses=problem_responses(*PASSWORD_PROBLEMS, *BODY_PROBLEMS, PreconditionFailed),
)
async def change_password(
    change: PasswordUpdate,
    auth: CanWriteAccount,
    session: SessionDep,
    throttle: LoginThrottleDep,
    limiter: RateLimiterDep,
    mailer: MailerDep,
    precondition: PreconditionDep,
) -> None:
    """Change the password. Revokes all tokens except the token of this request.

    A pending email address is dropped.
    """
    check_new_password(
        throttle.passwords,
        change.new_password,
        name=auth.user.name,
        email=auth.user.email,
        field="new_password",
    )
    verified_hash = await verify_password(session, throttle, auth.user, change.current_password)
    async with connection_released(session):
        # Each change is mailed to the user.
        await count_write(limiter, PASSWORD_CHANGES, auth)
        new_hash = await throttle.hash_password(change.new_password)
    user = await lock_authenticated_user(session, auth, verified_hash)
    precondition.check(user)
    user.password_hash = new_hash
    user.pending_email = None
    await void_codes(
        session, user, IS_RESET | IS_VERIFICATION & (col(Mail.recipient) != user.email)
    )
    mailer.notify(MailKind.password_changed, user)
    await revoke_other_sessions(session, auth)
    await throttle.remember_network(mailbox_key(user.email or ""), new_hash)
