"""Create, find and lock users."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from fastapi import Depends, Request
from sqlalchemy import ColumnElement, delete, update
from sqlmodel import and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.addresses import mailbox_key, set_email
from blog_api.accounts.bans import Bans
from blog_api.accounts.errors import (
    EmailTaken,
    LastAdmin,
    SignUpClosed,
    UsernameTaken,
    UserNotFound,
)
from blog_api.accounts.mailer import Mailer
from blog_api.accounts.models import (
    SESSION_LIFETIME,
    NewAccount,
    Token,
    User,
    UserCreate,
    UsernameClaim,
)
from blog_api.accounts.names import index_names
from blog_api.accounts.passwords import check_new_password
from blog_api.accounts.rate_limits import SIGN_UPS, LoginThrottle
from blog_api.accounts.scopes import join_scopes
from blog_api.accounts.usernames import generate_usernames
from blog_api.core.errors import Conflict
from blog_api.core.fields import utc_now
from blog_api.core.networks import get_client_networks
from blog_api.core.security import hash_token
from blog_api.core.settings import Settings
from blog_api.db.queries import insert_row_if_missing, insert_unique
from blog_api.db.session import connection_released
from blog_api.mail.models import MailKind
from blog_api.web.clients import Client


async def require_open_sign_up(request: Request) -> None:
    """Raise SignUpClosed if administrators open all accounts."""
    settings: Settings = request.app.state.settings
    if settings.sign_up == "closed":
        raise SignUpClosed


SIGN_UP_IS_OPEN = Depends(require_open_sign_up)


async def build_user(
    session: AsyncSession, new: NewAccount, password_hash: str | None, *, is_author: bool = True
) -> User:
    user = User(
        name=new.name, username=new.username, password_hash=password_hash, is_author=is_author
    )
    await set_email(session, user, new.email)
    return user


async def insert_user(
    session: AsyncSession, throttle: LoginThrottle, mailer: Mailer, bans: Bans, new: UserCreate
) -> User:
    """Create an account, and mail a code that verifies its address.

    Raises EmailTaken, ValidationFailed and TooManyRequests.
    """
    check_new_password(
        throttle.passwords, new.password, name=new.name, email=new.email, field="password"
    )
    async with connection_released(session):
        await throttle.count_request(SIGN_UPS)
        password_hash = await throttle.hash_password(new.password)
    is_author = mailer.settings.new_users_are_authors
    user = await build_user(session, new, password_hash, is_author=is_author)
    await insert_account(session, user)
    await bans.check(new.email)
    mailer.notify(MailKind.email_verification, user)
    await throttle.remember_network(mailbox_key(new.email), password_hash)
    return user


async def insert_account(session: AsyncSession, user: User) -> None:
    """Insert a user and index the name. Raises EmailTaken and UsernameTaken."""
    if user.username is None:
        user.username = await claim_generated_username(session, user.name)
    else:
        await claim_username(session, user.username)
    await insert_unique(session, user, or_raise=EmailTaken)
    await set_username_owners(session, {user.username: user.id})
    await index_names(session, {user.id: user.name})


async def claim_username(session: AsyncSession, username: str, user_id: int | None = None) -> None:
    """Reserve a username for ever. Raises UsernameTaken if another user has or had it."""
    claim = {"username": username, "user_id": user_id}
    if await insert_row_if_missing(session, UsernameClaim, claim) is not None:
        return
    owner = select(UsernameClaim.user_id).where(col(UsernameClaim.username) == username)
    if user_id is None or (await session.exec(owner)).first() != user_id:
        raise UsernameTaken


async def claim_generated_username(session: AsyncSession, name: str) -> str:
    """Reserve a username made from a name. Raises Conflict if none is found."""
    for username in generate_usernames(name):
        with suppress(UsernameTaken):
            await claim_username(session, username)
            return username
    raise Conflict


async def set_username_owners(session: AsyncSession, owners: Mapping[str, int]) -> None:
    """Connect reserved usernames with their new users."""
    for username, user_id in owners.items():
        claim = update(UsernameClaim).where(col(UsernameClaim.username) == username)
        await session.exec(claim.values(user_id=user_id))


async def lock_admins(session: AsyncSession, *, and_user: int) -> Sequence[User]:
    """Lock and return all active administrators and one more user, in the order of their ids."""
    is_admin = and_(col(User.is_admin), col(User.is_active))
    query = (
        select(User)
        .where(or_(is_admin, col(User.id) == and_user))
        .order_by(col(User.id))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return (await session.exec(query)).all()


def require_other_admin(users: Sequence[User], without: User) -> None:
    """Raise LastAdmin if no other of these users is an active administrator."""
    if [user.id for user in users if user.is_admin and user.is_active] == [without.id]:
        raise LastAdmin


async def lock_user(session: AsyncSession, user_id: int) -> User | None:
    """Lock and return a user, as it is in the database."""
    query = select(User).where(col(User.id) == user_id).with_for_update()
    return (await session.exec(query.execution_options(populate_existing=True))).first()


async def find_user(session: AsyncSession, user_id: int) -> User:
    """Return a user by id. Raises UserNotFound."""
    user = await session.get(User, user_id)
    if user is None:
        raise UserNotFound
    return user


async def find_user_by_username(session: AsyncSession, username: str) -> User:
    """Return a user by the current username. Raises UserNotFound."""
    query = select(User).where(col(User.username) == username)
    user = (await session.exec(query)).first()
    if user is None:
        raise UserNotFound
    return user


async def find_user_by_key(session: AsyncSession, key: str) -> User:
    """Return a user by id or current username. Raises UserNotFound."""
    if key.isdecimal():
        return await find_user(session, int(key))
    return await find_user_by_username(session, key)


async def revoke_tokens(
    session: AsyncSession, user: User, *conditions: ColumnElement[bool]
) -> None:
    """Revoke the tokens of a locked user, or those that meet the conditions."""
    await session.exec(delete(Token).where(col(Token.user_id) == user.id, *conditions))


async def delete_expired_tokens(session: AsyncSession, user: User) -> None:
    await session.exec(
        delete(Token).where(col(Token.user_id) == user.id, col(Token.expires_at) <= utc_now())
    )


def build_session(user: User, secret: str, scopes: frozenset[str], client: Client) -> Token:
    token = build_token(user, secret, scopes, utc_now() + SESSION_LIFETIME)
    token.client = client.user_agent
    token.network = get_client_networks(client.address)["network"]
    return token


def build_token(
    user: User, secret: str, scopes: frozenset[str], expires_at: datetime, name: str | None = None
) -> Token:
    return Token(
        user_id=user.id,
        digest=hash_token(secret),
        scope=join_scopes(scopes),
        expires_at=expires_at,
        name=name,
    )
