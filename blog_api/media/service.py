"""Store and remove pictures: a file is written before its row, and goes with its last row.

A commit and a file cannot change together, so a lock on the digest orders them. Example: Ann
deletes the last row of a picture while Bob uploads the same. Either Bob's row is committed before
Ann's request looks for other rows, and the file stays; or the file is deleted first, and Bob's
request finds that, within the lock, and is a 409. Every file is served, so it is deleted again if
its row is rejected. A process that is killed between file and row leaves a file without a row,
which `blog-api media-clean` deletes.
"""

import re
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import case, func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.core.background import errors_logged
from blog_api.core.errors import Conflict, ContentTooLarge, Problem
from blog_api.db.queries import insert_row_if_missing
from blog_api.db.session import Database, connection_released, roll_back
from blog_api.media.errors import (
    MediaBlocked,
    MediaNotFound,
    MediaQuotaExceeded,
    UnsupportedPicture,
)
from blog_api.media.models import DIGEST_LENGTH, BlockedDigest, Media
from blog_api.media.pictures import (
    DECODE_SECONDS,
    MAX_FRAMES,
    MAX_PIXELS,
    Picture,
    Rejection,
    process_picture,
)
from blog_api.media.storage import UNFINISHED, Storage, storage_errors
from blog_api.text.renderer import Renderer

# Of the quota: a smaller file takes a block of the disk, and each has a row.
MIN_COUNTED_BYTES = 4_096
# A younger file may belong to an upload whose row is not committed yet.
ORPHAN_SECONDS = 24 * 60 * 60
# Other files of the folder are left alone.
FILE_NAME = re.compile(rf"[0-9a-f]{{64}}\.[a-z]{{3,4}}(\.[0-9a-f]{{16}}{UNFINISHED})?", re.ASCII)
# Files that are deleted within one transaction.
BATCH_SIZE = 100

TOO_LARGE = (
    f"A picture has at most {MAX_PIXELS // 1_000_000} megapixels in all frames together, "
    f"{MAX_FRAMES} frames, and must be decoded within seconds"
)


async def verify_picture(
    renderer: Renderer, source: Path, target: Path, *, owner: int, name: str | None = None
) -> Picture:
    """Verify a picture, and write it to `target` without metadata.

    One of an export, which `name` shows, keeps its bytes: see `process_picture()`.
    Raises UnsupportedPicture, ContentTooLarge and ServiceUnavailable. The caller holds no
    transaction.
    """
    with storage_errors():
        result = await renderer.run_in_process(
            process_picture, source, target, name, owner=owner, seconds=DECODE_SECONDS
        )
    if result is Rejection.unreadable:
        raise UnsupportedPicture
    if not isinstance(result, Picture):
        raise ContentTooLarge(TOO_LARGE)
    return result


@asynccontextmanager
async def stored_file(
    session: AsyncSession, storage: Storage, name: str, file: Path
) -> AsyncIterator[None]:
    """Store a copy of a file; delete it if the block, which inserts its row, raises a problem.

    Holds no connection while the file is copied. Raises ServiceUnavailable.
    """
    try:
        async with connection_released(session):
            with storage_errors():
                await storage.save(name, file)
        yield
    except Problem:
        await roll_back(session)
        with errors_logged("deletion of a rejected picture"):
            await remove_unused_files(session.info["database"], storage, [name])
        raise


async def lock_digests(session: AsyncSession, digests: Collection[str]) -> None:
    """Wait for other transactions that change these files, until the end of this one.

    After the lock of a user. A writer on SQLite is alone anyway.
    """
    database: Database = session.info["database"]
    if database.engine.dialect.name == "postgresql":
        for digest in sorted(digests):
            key = int.from_bytes(bytes.fromhex(digest)[:8], signed=True)
            await session.exec(select(func.pg_advisory_xact_lock(key)))


async def check_not_blocked(session: AsyncSession, *digests: str) -> None:
    """Raise MediaBlocked if an administrator removed a picture with one of these digests."""
    query = select(BlockedDigest.id).where(col(BlockedDigest.digest).in_(digests))
    if (await session.exec(query)).first() is not None:
        raise MediaBlocked


async def check_quota(session: AsyncSession, user_id: int, size: int, quota: int | None) -> None:
    """Raise MediaQuotaExceeded unless there is room for a file. Exact if the user is locked."""
    if quota is None:
        return
    used = case((col(Media.size) < MIN_COUNTED_BYTES, MIN_COUNTED_BYTES), else_=col(Media.size))
    query = select(func.coalesce(func.sum(used), 0)).where(col(Media.user_id) == user_id)
    if (await session.exec(query)).one() + max(size, MIN_COUNTED_BYTES) > quota:
        raise MediaQuotaExceeded


async def insert_media(
    session: AsyncSession,
    storage: Storage,
    picture: Picture,
    *,
    user_id: int,
    source_digest: str,
    alt: str | None,
    quota: int | None,
) -> Media:
    """Insert the row of a stored file for a locked user, or return the one that exists.

    Without a quota there is no limit.
    Raises MediaBlocked, MediaQuotaExceeded, and Conflict if the file was deleted meanwhile.
    """
    await lock_digests(session, [picture.digest])
    await check_not_blocked(session, source_digest, picture.digest)
    query = select(Media).where(col(Media.user_id) == user_id, col(Media.digest) == picture.digest)
    found = (await session.exec(query)).first()
    if found is not None:
        return found
    await check_quota(session, user_id, picture.size, quota)
    if await storage.open(picture.name) is None:
        raise Conflict
    media = Media(user_id=user_id, source_digest=source_digest, alt=alt, **picture._asdict())
    session.add(media)
    await session.flush()
    return media


def media_of(user_id: int) -> SelectOfScalar[Media]:
    return select(Media).where(col(Media.user_id) == user_id)


async def find_media(session: AsyncSession, query: SelectOfScalar[Media], media_id: int) -> Media:
    """Raises MediaNotFound."""
    media = (await session.exec(query.where(col(Media.id) == media_id))).first()
    if media is None:
        raise MediaNotFound
    return media


async def remove_everywhere(session: AsyncSession, media: Media) -> Sequence[Media]:
    """Delete the rows of all users that have this picture, and block its bytes; return the rows."""
    await lock_digests(session, [media.digest])
    query = select(Media).where(col(Media.digest) == media.digest).order_by(col(Media.id))
    rows = (await session.exec(query)).all()
    digests = {media.digest, media.source_digest, *(row.source_digest for row in rows)}
    for digest in sorted(digests):
        await insert_row_if_missing(session, BlockedDigest, {"digest": digest})
    for row in rows:
        await session.delete(row)
    return rows


async def commit_and_remove_files(
    session: AsyncSession, storage: Storage | None, names: Sequence[str]
) -> None:
    """Commit the deletion of rows, then delete those of their files that have no other row.

    An error is logged: the rows are gone, and `blog-api media-clean` deletes the files.
    """
    if storage is not None and names:
        async with connection_released(session):
            with errors_logged("deletion of pictures"):
                await remove_unused_files(session.info["database"], storage, names)


async def remove_unused_files(database: Database, storage: Storage, names: Sequence[str]) -> int:
    """Delete files that have no row, and unfinished ones; return their number."""
    removed = 0
    for start in range(0, len(names), BATCH_SIZE):
        batch = names[start : start + BATCH_SIZE]
        digests = {name[:DIGEST_LENGTH] for name in batch}
        async with database.session(writes=True) as session:
            await lock_digests(session, digests)
            used = await find_used_digests(session, digests)
            for name in batch:
                if is_unused(name, used):
                    await storage.delete(name)
                    removed += 1
    return removed


async def find_unused_files(database: Database, storage: Storage) -> list[str]:
    """Return the names of the files without a row, and of unfinished ones, older than a day."""
    listed = await storage.list_older_than(ORPHAN_SECONDS)
    names = [name for name in sorted(listed) if FILE_NAME.fullmatch(name)]
    found: list[str] = []
    for start in range(0, len(names), BATCH_SIZE):
        batch = names[start : start + BATCH_SIZE]
        async with database.session(writes=False) as session:
            used = await find_used_digests(session, {name[:DIGEST_LENGTH] for name in batch})
        found += [name for name in batch if is_unused(name, used)]
    return found


async def find_used_digests(session: AsyncSession, digests: Collection[str]) -> set[str]:
    query = select(Media.digest).where(col(Media.digest).in_(digests))
    return set((await session.exec(query)).all())


def is_unused(name: str, used: Collection[str]) -> bool:
    """Return whether a file is of no row, or an unfinished one."""
    return name.endswith(UNFINISHED) or name[:DIGEST_LENGTH] not in used
