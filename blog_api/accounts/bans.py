"""Banned email addresses: those of accounts that an administrator deactivated.

While such an account exists, it has its mailbox, which no other account can take. When an
administrator deletes it, a digest of the mailbox stays: an HMAC under a key derived from the secret
key, so that the database alone tells neither the address nor whether a given one is banned.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from sqlalchemy import ColumnElement, delete
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.addresses import mailbox_key
from blog_api.accounts.auth import SecretKeysDep
from blog_api.accounts.errors import EmailTaken
from blog_api.accounts.models import BannedAddress, User
from blog_api.core.errors import Problem
from blog_api.core.security import SecretKeys
from blog_api.db.queries import insert_row_if_missing
from blog_api.db.session import SessionDep


@dataclass(frozen=True)
class Bans:
    """Adds, finds and lifts bans in the transaction of a request."""

    session: AsyncSession
    keys: SecretKeys

    def _make_digests(self, address: str) -> tuple[str, ...]:
        return self.keys.make_digests("banned address", mailbox_key(address))

    def _is_banned(self, address: str) -> ColumnElement[bool]:
        return col(BannedAddress.digest).in_(self._make_digests(address))

    async def outlive(self, user: User) -> None:
        """Let the ban of a locked user, if there is one, outlive the account."""
        if not user.is_active and user.email is not None:
            digest, *_ = self._make_digests(user.email)
            await insert_row_if_missing(self.session, BannedAddress, {"digest": digest})

    async def check(self, address: str, *, or_raise: type[Problem] = EmailTaken) -> None:
        """Raise `or_raise` if the address is banned.

        After the address was flushed: a concurrent deletion of the banned account makes that wait,
        and its ban is committed then.
        """
        query = select(BannedAddress.id).where(self._is_banned(address))
        if (await self.session.exec(query)).first() is not None:
            raise or_raise

    async def lift(self, address: str) -> bool:
        """Delete the ban of an address; return whether there was one."""
        deleted = await self.session.exec(delete(BannedAddress).where(self._is_banned(address)))
        return deleted.rowcount > 0


async def get_bans(session: SessionDep, keys: SecretKeysDep) -> Bans:
    return Bans(session, keys)


BansDep = Annotated[Bans, Depends(get_bans)]
