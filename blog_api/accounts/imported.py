"""Accounts of the authors of imported posts and comments. They have no log-in.

The author of a post has a key. The author of a comment may have an address instead: the account
has its HMAC under a key derived from the secret key, so that a later import finds it, and a random
key for exports. Such an account is in no list of users until it has a post or a log-in.
"""

import re
import secrets
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sqlmodel import col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.models import User
from blog_api.accounts.names import index_names
from blog_api.accounts.service import claim_generated_username, set_username_owners
from blog_api.core.security import SecretKeys
from blog_api.db.queries import insert_if_missing

PURPOSE = "commenter"
# Postgres takes 32,767 values.
AUTHORS_PER_QUERY = 1_000
KEY_OF_ACCOUNT = re.compile(r"user:(\d{1,9}):\d+", re.ASCII)


class Identity(NamedTuple):
    """By what an import knows an author: a key, or the address of a commenter."""

    key: str | None
    address: str | None = None


def make_author_key(user: User) -> str:
    """Return the key by which an import recognizes an author, here or on another instance."""
    return user.import_key or f"user:{user.id}:{user.created_at:%Y%m%d%H%M%S%f}"


async def get_or_create_authors(
    session: AsyncSession,
    keys: SecretKeys,
    names: Mapping[Identity, str],
    *,
    of_posts: Collection[Identity],
) -> dict[Identity, int]:
    """Return the ids of authors; those who are missing get accounts with these names."""
    identities = sorted(names, key=lambda one: (one.key or "", one.address or ""))
    found: dict[Identity, User] = {}
    for start in range(0, len(identities), AUTHORS_PER_QUERY):
        batch = identities[start : start + AUTHORS_PER_QUERY]
        found |= await get_or_create(session, keys, {one: names[one] for one in batch})
    await list_users(session, [found[one] for one in of_posts])
    return {identity: user.id for identity, user in found.items()}


async def get_or_create(
    session: AsyncSession, keys: SecretKeys, names: Mapping[Identity, str]
) -> dict[Identity, User]:
    digests = {
        identity: keys.make_digests(PURPOSE, identity.address or "")
        for identity in names
        if identity.key is None
    }
    found = await find_authors(session, names, digests)
    # Sorted by the caller, so that concurrent imports cannot deadlock.
    missing = [one for one in names if one not in found]
    rows: list[dict[str, Any]] = [
        {
            "name": names[one],
            "username": await claim_generated_username(session, names[one]),
            "import_key": one.key or f"{PURPOSE}:{secrets.token_urlsafe(16)}",
            "commenter_digest": digests[one][0] if one in digests else None,
            "is_listed": False,
            "is_author": False,
        }
        for one in missing
    ]
    if rows:
        await insert_if_missing(session, User, *rows)
        found |= await find_authors(session, missing, digests)
        claimed = {row["username"] for row in rows}
        users = (found[one] for one in missing)
        owners = {user.username or "": user.id for user in users if user.username in claimed}
        await set_username_owners(session, owners)
    return found


async def list_users(session: AsyncSession, users: Collection[User]) -> None:
    """Let the authors of imported comments be authors of posts, in the list of users."""
    for user in users:
        if not user.is_listed:
            user.is_listed = user.is_author = True
    await index_names(session, {user.id: user.name for user in users})


async def find_authors(
    session: AsyncSession,
    identities: Collection[Identity],
    digests: Mapping[Identity, tuple[str, ...]],
) -> dict[Identity, User]:
    wanted = [one.key for one in identities if one.key is not None]
    ids = [int(key[1]) for one in wanted if (key := KEY_OF_ACCOUNT.fullmatch(one))]
    of_commenters = [digest for one in identities for digest in digests.get(one, ())]
    query = select(User).where(
        or_(
            col(User.import_key).in_(wanted),
            col(User.commenter_digest).in_(of_commenters),
            col(User.id).in_(ids),
        )
    )
    users = (await session.exec(query)).all()
    by_key = {make_author_key(user): user for user in users}
    by_digest = {user.commenter_digest: user for user in users if user.commenter_digest}
    found: dict[Identity, User] = {}
    for one in identities:
        candidates = [by_key.get(one.key)] if one.key else map(by_digest.get, digests[one])
        if (user := next(filter(None, candidates), None)) is not None:
            found[one] = user
    return found
