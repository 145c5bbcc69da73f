"""Export of all posts to an archive."""

from collections.abc import AsyncIterator

from sqlmodel import select

from blog_api.archive.formats import WriteRecord
from blog_api.archive.record import make_record
from blog_api.comments.imported import find_exported_comments
from blog_api.db.queries import iterate_rows
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
    async for post in iterate_rows(database, select(Post), Post):
        async with database.session(writes=False) as session:
            old_slugs = await find_public_old_slugs(session, post)
            comments = await find_exported_comments(session, post.id)
        record = make_record(post, old_slugs, comments)
        try:
            if pictures is not None:
                exported = await pictures.export_pictures(record.source, record.cover_url)
                record = record.model_copy(update=exported._asdict())
            write(record, post.content_html)
        except OSError as error:
            raise ArchiveWriteError(str(error)) from error
        yield post
