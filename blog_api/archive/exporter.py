"""Export of all posts to an archive."""

from collections.abc import AsyncIterator
from itertools import islice

from sqlmodel import select

from blog_api.archive.formats import WriteRecord
from blog_api.archive.record import make_record
from blog_api.comments.imported import find_exported_comments, split_by_comments
from blog_api.db.queries import iterate_batches
from blog_api.db.session import Database
from blog_api.media.folders import FolderExport
from blog_api.posts.models import Post
from blog_api.posts.slugs import find_public_old_slugs


class ArchiveWriteError(Exception):
    """The archive cannot be written; not an OSError, which means the database here."""


async def export_posts(
    database: Database, write: WriteRecord, pictures: FolderExport | None = None
) -> AsyncIterator[Post]:
    """Write posts in all states by id; yields each once written. Raises ArchiveWriteError.

    Into a folder, their pictures are written too.
    """
    async for batch in iterate_batches(database, select(Post), Post):
        async with database.session(writes=False) as session:
            old_slugs = await find_public_old_slugs(session, batch)
            parts = await split_by_comments(session, [post.id for post in batch])
        posts = iter(batch)
        for part in parts:
            async with database.session(writes=False) as session:
                comments = await find_exported_comments(session, part)
            for post in islice(posts, len(part)):
                record = make_record(post, old_slugs[post.id], comments.pop(post.id))
                try:
                    if pictures is not None:
                        exported = await pictures.export_pictures(record.source, record.cover_url)
                        record = record.model_copy(update=exported._asdict())
                    write(record, post.content_html)
                except OSError as error:
                    raise ArchiveWriteError(str(error)) from error
                yield post
