"""Changes that only administrators and commands make."""

from collections.abc import Mapping, Sequence

from sqlalchemy import literal
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.addresses import find_by_email, set_email
from blog_api.accounts.auth import AuthenticatedUser
from blog_api.accounts.bans import Bans
from blog_api.accounts.errors import EmailBanned, EmailTaken, InsufficientScope, UserNotFound
from blog_api.accounts.mail_codes import IS_RESET, IS_VERIFICATION, void_codes
from blog_api.accounts.mailer import Mailer
from blog_api.accounts.models import Token, User, UserCreate
from blog_api.accounts.names import index_names
from blog_api.accounts.scopes import Scope
from blog_api.accounts.service import (
    build_user,
    insert_account,
    lock_admins,
    lock_user,
    revoke_tokens,
)
from blog_api.admin.audit import record_audit_entry
from blog_api.admin.models import AccountCreate, AuditAction
from blog_api.db.queries import flush_unique
from blog_api.mail.models import MailKind

ACTIONS = {
    ("is_active", True): AuditAction.activate_user,
    ("is_active", False): AuditAction.deactivate_user,
    ("is_admin", True): AuditAction.make_admin,
    ("is_admin", False): AuditAction.dismiss_admin,
    ("is_author", True): AuditAction.make_author,
    ("is_author", False): AuditAction.dismiss_author,
}

# Scopes are separated by spaces.
HAS_ADMIN_SCOPE = (literal(" ") + col(Token.scope) + " ").contains(f" {Scope.admin} ")


async def lock_account(
    session: AsyncSession, admin: AuthenticatedUser, user_id: int
) -> tuple[User, Sequence[User]]:
    """Lock all active administrators and a user; return the user, and all of them.

    Raises InsufficientScope if another administrator has dismissed this one meanwhile, and
    UserNotFound.
    """
    users = await lock_admins(session, and_user=user_id)
    if not any(user.id == admin.id and user.is_admin and user.is_active for user in users):
        raise InsufficientScope(Scope.admin)
    for user in users:
        if user.id == user_id:
            return user, users
    raise UserNotFound


async def update_flags(
    session: AsyncSession,
    mailer: Mailer,
    admin: AuthenticatedUser | None,
    user: User,
    changes: Mapping[str, bool],
) -> None:
    """Change flags of a locked account; add an audit entry for each that differs.

    Promotion and dismissal are mailed to the user.

    Deactivation revokes all tokens and codes for good, and dismissal the tokens with the scope
    `admin`. The tokens of an inactive account are deleted by its activation: until then they say
    why they are rejected.
    """
    for field, value in changes.items():
        if getattr(user, field) != value:
            setattr(user, field, value)
            record_audit_entry(session, admin, ACTIONS[field, value], user_id=user.id)
            if field == "is_admin":
                # A promotion too: a former administrator may have kept such a token.
                await revoke_tokens(session, user, HAS_ADMIN_SCOPE)
                mailer.notify(MailKind.admin_made if value else MailKind.admin_dismissed, user)
            elif field == "is_active" and value:
                await revoke_tokens(session, user)
            elif field == "is_active":
                user.pending_email = None
                await void_codes(session, user, IS_RESET | IS_VERIFICATION)


async def make_admin(session: AsyncSession, mailer: Mailer, user_id: int) -> None:
    """Make an administrator of an account, from the command line."""
    user = (await session.exec(select(User).where(col(User.id) == user_id).with_for_update())).one()
    await update_flags(session, mailer, None, user, {"is_active": True, "is_admin": True})


async def create_admin(session: AsyncSession, new: UserCreate, password_hash: str) -> User:
    """Create an administrator. Raises EmailTaken."""
    user = await build_user(session, new, password_hash)
    user.is_admin = True
    await insert_account(session, user)
    record_audit_entry(session, None, AuditAction.make_admin, user_id=user.id)
    return user


async def open_account(
    session: AsyncSession,
    mailer: Mailer,
    bans: Bans,
    admin: AuthenticatedUser,
    new: AccountCreate,
    password_hash: str | None,
) -> User:
    """Create an account; mail a code that sets a password or, if it has one, verifies the address.

    Raises EmailBanned, EmailTaken and UsernameTaken.
    """
    holder = await find_by_email(session, new.email)
    if holder is not None and not holder.is_active:
        raise EmailBanned
    given = new.model_dump(include={"is_author"}, exclude_unset=True)
    is_author = given.get("is_author", mailer.settings.new_users_are_authors)
    user = await build_user(session, new, password_hash, is_author=is_author)
    await insert_account(session, user)
    await bans.check(new.email, or_raise=EmailBanned)
    record_audit_entry(session, admin, AuditAction.open_account, user_id=user.id)
    has_password = password_hash is not None
    mailer.notify(MailKind.email_verification if has_password else MailKind.account_opened, user)
    return user


async def set_user_password(
    session: AsyncSession, user_id: int, email: str, password_hash: str
) -> None:
    """Set the email address and the password of a user, and revoke all tokens and mailed codes.

    Raises UserNotFound and EmailTaken.
    """
    user = await lock_user(session, user_id)
    if user is None:
        raise UserNotFound
    await set_email(session, user, email)
    user.password_hash = password_hash
    user.pending_email = None
    # From now on it is an account like others: no imported comment becomes its own.
    user.is_listed, user.commenter_digest = True, None
    await flush_unique(session, or_raise=EmailTaken)
    await index_names(session, {user.id: user.name})
    await revoke_tokens(session, user)
    await void_codes(session, user)
    record_audit_entry(session, None, AuditAction.set_password, user_id=user_id)
