"""Where files are stored: a folder, or what another class with the same methods offers.

A storage knows names and bytes, and nothing of users. The name of a file is the SHA-256 of its
bytes with a suffix, so saving one that is already there changes nothing.
"""

import logging
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Annotated, Protocol

import anyio
from anyio.to_thread import run_sync
from fastapi import Depends, Request

from blog_api.core.errors import ServiceUnavailable
from blog_api.core.settings import Settings
from blog_api.media.errors import MediaNotConfigured

CHUNK_BYTES = 64 * 1024
# The end of the names of files that are being written.
UNFINISHED = ".tmp"


log = logging.getLogger(__name__)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Log an error of a disk, such as a full one, and raise ServiceUnavailable."""
    try:
        yield
    except OSError as error:
        log.error("A picture cannot be stored or read: %s", error)
        raise ServiceUnavailable from error


class StoredFile(Protocol):
    @property
    def size(self) -> int: ...

    def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` to before `end`, in chunks."""
        ...


class Storage(Protocol):
    async def save(self, name: str, file: Path) -> None:
        """Store a copy of a local file. Afterwards it is there as a whole, or not at all."""
        ...

    async def open(self, name: str) -> StoredFile | None:
        """Return a stored file, or None."""
        ...

    async def delete(self, name: str) -> None:
        """Delete a file. Idempotent."""
        ...

    async def list_older_than(self, seconds: float) -> list[str]:
        """Return the names of the files, also unfinished ones, that were written so long ago."""
        ...


class FileInFolder:
    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self.size = size

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        async with await anyio.open_file(self._path, "rb") as file:
            await file.seek(start)
            while start < end and (chunk := await file.read(min(CHUNK_BYTES, end - start))):
                start += len(chunk)
                yield chunk


def measure_file(path: Path) -> int:
    """Return the size of a file that can be read: the response begins before it is."""
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_size


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk: a power failure may lose a new one otherwise."""
    # Windows cannot open a folder.
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class FolderStorage:
    """Files in a folder, in subfolders by the first two digits of their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def save(self, name: str, file: Path) -> None:
        await run_sync(self._copy, name, file)

    async def open(self, name: str) -> FileInFolder | None:
        path = self._path(name)
        with storage_errors():
            try:
                return FileInFolder(path, await run_sync(measure_file, path))
            except FileNotFoundError:
                return None

    async def delete(self, name: str) -> None:
        await run_sync(lambda: self._path(name).unlink(missing_ok=True))

    async def list_older_than(self, seconds: float) -> list[str]:
        return await run_sync(self._list_before, time.time() - seconds)

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name

    def _copy(self, name: str, file: Path) -> None:
        path = self._path(name)
        if path.exists():
            return
        # For its owner alone: the names are secrets.
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        unfinished = path.with_name(f"{name}.{token_hex(8)}{UNFINISHED}")
        try:
            with file.open("rb") as source, unfinished.open("xb") as target:
                shutil.copyfileobj(source, target)
                target.flush()
                os.fsync(target.fileno())
            unfinished.replace(path)
            sync_folder(path.parent)
            sync_folder(self.folder)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise

    def _list_before(self, moment: float) -> list[str]:
        return [path.name for path in self.folder.glob("??/*") if is_older_than(path, moment)]


def is_older_than(path: Path, moment: float) -> bool:
    """Return whether a file or folder exists that was changed before this Unix time."""
    try:
        return path.stat().st_mtime < moment
    except FileNotFoundError:
        return False


@contextmanager
def open_storage(settings: Settings) -> Iterator[Storage | None]:
    """Yield the storage of the settings, or None; with a database in memory, a temporary folder."""
    if settings.media_folder is not None:
        yield FolderStorage(settings.media_folder)
    elif settings.is_in_memory:
        with TemporaryDirectory(prefix="blog-api-media-", ignore_cleanup_errors=True) as folder:
            yield FolderStorage(Path(folder))
    else:
        yield None


async def get_storage(request: Request) -> Storage:
    storage: Storage | None = request.app.state.media_storage
    if storage is None:
        raise MediaNotConfigured
    return storage


StorageDep = Annotated[Storage, Depends(get_storage)]
