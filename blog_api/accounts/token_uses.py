"""The times at which tokens were last used, written once a minute."""

import json
import logging

import anyio
from sqlalchemy import Integer, String, bindparam, update
from sqlmodel import col, select

from blog_api.accounts.models import Token
from blog_api.core.errors import ServiceUnavailable
from blog_api.db.base import NOW
from blog_api.db.functions import json_values
from blog_api.db.queries import execute_write
from blog_api.db.session import Database

WRITE_INTERVAL_SECONDS = 60.0

log = logging.getLogger(__name__)

# Tokens that another transaction changes are skipped: waiting for them could be a deadlock.
USED = (
    select(Token.id)
    .where(col(Token.id).op("IN")(json_values(bindparam("token_ids", type_=String), type_=Integer)))
    .with_for_update(skip_locked=True)
)
WRITE_USES = (
    update(Token)
    .where(col(Token.id).in_(USED))
    .values(last_used_at=NOW, updated_at=col(Token.updated_at))
)


class TokenUses:
    """Collect the uses of tokens in this process, so that no request waits for a write."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._token_ids: set[int] = set()

    def record(self, token_id: int) -> None:
        self._token_ids.add(token_id)

    async def write_periodically(self) -> None:
        """Write every `WRITE_INTERVAL_SECONDS` until cancelled."""
        while True:
            await anyio.sleep(WRITE_INTERVAL_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write the uses since the last write; keep them if the database is unavailable."""
        token_ids, self._token_ids = self._token_ids, set()
        if not token_ids:
            return
        try:
            async with self._database.background_session(writes=True) as session:
                values = {"token_ids": json.dumps(sorted(token_ids))}
                await execute_write(session, WRITE_USES, values)
        except ServiceUnavailable as error:
            log.warning("The last uses of tokens were not written: %s", error.detail)
            self._token_ids |= token_ids
