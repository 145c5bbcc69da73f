"""Exporting: posts to an archive."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from blog_api.accounts.models import User
from blog_api.archive.formats import write_jsonl
from blog_api.archive.markdown_files import write_markdown
from blog_api.archive.record import PostRecord
from blog_api.archive.wordpress import WXRWriter
from blog_api.posts.models import Post


def make_author_key(user: User) -> str:
    """By what an import knows an author again, here or on another instance."""
    return user.import_key or f"user:{user.id}:{user.created_at:%Y%m%d%H%M%S%f}"


def to_record(post: Post) -> PostRecord:
    """A post, as an archive holds it."""
    key = make_author_key(post.user)
    return PostRecord.model_construct(
        slug=post.slug,
        title=post.title,
        author=post.user_name,
        author_key=None if key == post.user_name else key,
        published_at=post.published_at,
        taken_down_at=post.taken_down_at,
        tags=post.tags,
        content=post.content,
    )


class ArchiveWriteError(Exception):
    """A post that a file or folder does not take; the message says why."""


WriteRecord = Callable[[PostRecord, str], None]


def wrap_write_errors(write: Callable[[PostRecord, str], object]) -> WriteRecord:
    """The same, but that what goes wrong with a file is told from what does with the database."""

    def write_or_tell(record: PostRecord, content_html: str) -> None:
        try:
            write(record, content_html)
        except OSError as error:
            raise ArchiveWriteError(str(error)) from error

    return write_or_tell


@contextmanager
def create_archive(path: Path, *, title: str, link: str) -> Iterator[WriteRecord]:
    """A function that adds a post and its HTML: to a folder where the path has no suffix, to WXR
    (`.xml`), or else to JSON Lines.

    A file stands in its place when all is written, and not before. Raises OSError.
    """
    if not path.suffix or path.is_dir():
        path.mkdir(exist_ok=True)
        if any(path.iterdir()):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        yield wrap_write_errors(lambda record, _: write_markdown(path, record))
        return
    with NamedTemporaryFile(
        "w", encoding="utf-8", newline="", dir=path.parent, delete=False
    ) as file:
        written = Path(file.name)
        try:
            if path.suffix.lower() == ".xml":
                with WXRWriter(file, title=title, link=link) as wxr:
                    yield wrap_write_errors(wxr.write)
            else:
                yield wrap_write_errors(lambda record, _: write_jsonl(file, record))
            file.close()
            written.replace(path)
        finally:
            written.unlink(missing_ok=True)
