"""Pictures in a folder of posts: import them into the storage, and export them beside the posts."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import unquote

import anyio
from anyio.to_thread import run_sync

from blog_api.accounts.service import lock_user
from blog_api.core.characters import escape_unprintable
from blog_api.core.errors import Conflict, ContentTooLarge, ServiceUnavailable
from blog_api.core.fields import MAX_CONTENT_LENGTH
from blog_api.core.security import open_private
from blog_api.core.urls import is_media_path, is_relative, is_relative_to_site
from blog_api.db.session import Database
from blog_api.media.errors import MediaBlocked, UnsupportedPicture
from blog_api.media.pictures import TYPES
from blog_api.media.service import (
    check_not_blocked,
    insert_media,
    stored_file,
    verify_picture,
)
from blog_api.media.storage import Storage
from blog_api.text.addresses import MarkedText, ShownAddress, find_addresses, replace_all
from blog_api.text.markdown import Source
from blog_api.text.renderer import Renderer

QUERY_OR_FRAGMENT = re.compile(r"[?#].*", re.DOTALL)
PICTURE_SUFFIXES = {"jpeg", *(suffix for _, suffix in TYPES.values())}
SHOWN_SUFFIXES = PICTURE_SUFFIXES | {"bmp", "ico", "svg", "tif", "tiff"}
# Folders whose files are at the root of a site: in Jekyll, Hugo and Zola, Astro, Hexo, Pelican.
SITE_FOLDERS = ("", "static", "public", "source", "content", "assets")
NOT_CONFIGURED = "BLOG_MEDIA_URL is not set: pictures stay where they are"
TOO_LONG = "with the addresses of its pictures the text would be too long; they stay"
NO_PICTURE = "is no complete JPEG, PNG, GIF, WebP or AVIF picture"


async def change_shown(
    renderer: Renderer,
    source: Source,
    is_wanted: Callable[[str], bool],
    change: Callable[[ShownAddress], Awaitable[str | None]],
) -> str:
    """Return the content with its wanted addresses changed; one stays if the change is None."""
    addresses = find_addresses(source, is_wanted)
    if not addresses:
        return source.content
    marked = MarkedText(source, addresses)
    changed = {}
    for shown in marked.find_shown(await renderer.render(marked.source)):
        value = await change(shown)
        if value is not None:
            changed[shown.address] = value
    return replace_all(source.content, list(changed), list(changed.values()))


class PictureRejected(Exception):
    """A message that follows the address of the picture."""


class StorageNotConfigured(Exception):
    """There is a picture, and no storage for it."""


@dataclass(frozen=True)
class PostFile:
    """A file with a post, and the folder that is imported; None if the file was named itself.

    `cover` is the address of a file with the cover, `line` the first one of the content.
    """

    path: Path
    folder: Path | None
    cover: str | None
    line: int
    cover_line: int = 1

    def find_picture(self, address: str) -> Path:
        """Return the file of a relative address, without symbolic links in its path.

        A path from the root of the site is looked for where generators have such files. Raises
        PictureRejected, also for each file outside of the folder: it is never opened.
        """
        if self.folder is None:
            raise PictureRejected("is imported only with its folder")
        parents = [self.path.parent]
        if not is_relative(address):
            parents = [self.folder / name for name in SITE_FOLDERS]
        try:
            name = unquote(QUERY_OR_FRAGMENT.sub("", address), errors="strict").lstrip("/")
            for parent in parents:
                path = (parent / name).resolve()
                if not path.is_relative_to(self.folder.resolve()):
                    raise PictureRejected("is outside of the folder")
                if path.is_file():
                    return path
        # A name that is too long, has NUL or is not UTF-8, and links that form a circle.
        except (OSError, RuntimeError, ValueError):
            raise PictureRejected("is not the name of a file") from None
        raise PictureRejected("is no file")

    def has_picture(self, address: str) -> bool:
        """Return whether a link leads to a file with the name of a picture."""
        if get_suffix(address) not in PICTURE_SUFFIXES:
            return False
        try:
            return self.find_picture(address).is_file()
        except PictureRejected:
            return False


def get_suffix(address: str) -> str:
    return QUERY_OR_FRAGMENT.sub("", address).rpartition(".")[2].lower()


def may_be_file(address: str) -> bool:
    """Return whether an address may lead to a file of the folder."""
    return is_relative(address) or (
        is_relative_to_site(address) and get_suffix(address) in SHOWN_SUFFIXES
    )


class PictureWarning(NamedTuple):
    """A picture that was not imported: a line of the file, and a message of one line.

    One by a path from the root of the old site is not expected in the folder.
    """

    line: int
    message: str
    is_expected: bool = True


class PostPictures(NamedTuple):
    """The content and the cover of a post after its pictures were imported or exported."""

    content: str
    cover_url: str | None


class FolderImport:
    """Store the pictures of a folder for the authors of its posts.

    They are verified and encoded again like an upload. They count in the quota of the author but
    are not limited by it: the operator imports them. Without a storage there is one warning. A dry
    run verifies the pictures and stores none.
    """

    def __init__(
        self,
        database: Database,
        renderer: Renderer,
        storage: Storage | None,
        *,
        max_bytes: int,
        dry_run: bool = False,
    ) -> None:
        self.database = database
        self.renderer = renderer
        self.storage = storage
        self.max_bytes = max_bytes
        self.dry_run = dry_run
        # By author and file.
        self._stored: dict[tuple[int, Path], str | PictureRejected] = {}
        self._is_warned = False

    async def import_pictures(
        self, file: PostFile, source: Source, cover_url: str | None, user_id: int
    ) -> tuple[PostPictures, list[PictureWarning]]:
        """Store the pictures of a post; one that cannot be stored keeps its address."""
        warnings: list[PictureWarning] = []

        async def import_picture(address: str, line: int) -> str | None:
            try:
                return await self._import(file.find_picture(address), user_id)
            except PictureRejected as error:
                message = escape_unprintable(f"{address}: {error}")
                warnings.append(PictureWarning(line, message, is_relative(address)))
            except StorageNotConfigured:
                if not self._is_warned:
                    warnings.append(PictureWarning(line, NOT_CONFIGURED))
                self._is_warned = True
            return None

        async def change(shown: ShownAddress) -> str | None:
            address, is_picture = shown
            # A link may lead to anything, also on another page.
            if not is_picture and not file.has_picture(address.value):
                return None
            line = file.line + source.content.count("\n", 0, address.start)
            return await import_picture(address.value, line)

        content = await change_shown(self.renderer, source, may_be_file, change)
        if len(content) > MAX_CONTENT_LENGTH:
            content = source.content
            warnings.append(PictureWarning(file.line, TOO_LONG))
        if file.cover is not None:
            cover_url = await import_picture(file.cover, file.cover_line)
        return PostPictures(content, cover_url), warnings

    async def _import(self, path: Path, user_id: int) -> str:
        """Return the address of a picture. Raises PictureRejected and StorageNotConfigured."""
        if self.storage is None:
            raise StorageNotConfigured
        key = (user_id, path)
        if key not in self._stored:
            try:
                self._stored[key] = await self._store(self.storage, path, user_id)
            except PictureRejected as error:
                self._stored[key] = error
        stored = self._stored[key]
        if isinstance(stored, PictureRejected):
            raise stored
        return stored

    async def _store(self, storage: Storage, path: Path, user_id: int) -> str:
        """Return the address of a picture after it is stored. Raises PictureRejected."""
        with TemporaryDirectory(prefix="blog-api-import-", ignore_cleanup_errors=True) as folder:
            source, target = Path(folder, "source"), Path(folder, "target")
            digest = await run_sync(copy_file, path, source, self.max_bytes)
            try:
                picture = await verify_picture(
                    self.renderer, source, target, owner=user_id, name=path.name
                )
                if self.dry_run:
                    return f"/media/{picture.name}"
                async with self.database.session(writes=True) as session:
                    await check_not_blocked(session, digest, picture.digest)
                    async with stored_file(session, storage, picture.name, target):
                        await lock_user(session, user_id)
                        media = await insert_media(
                            session,
                            storage,
                            picture,
                            user_id=user_id,
                            source_digest=digest,
                            alt=None,
                            quota=None,
                        )
            except UnsupportedPicture:
                raise PictureRejected(NO_PICTURE) from None
            except (Conflict, ContentTooLarge, MediaBlocked, ServiceUnavailable) as error:
                raise PictureRejected(f"cannot be stored: {error.detail}") from None
            return media.url


def copy_file(path: Path, target: Path, max_bytes: int) -> str:
    """Copy a file, and return its SHA-256. Raises PictureRejected."""
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise PictureRejected(f"cannot be read: {error.strerror}") from None
    if len(content) > max_bytes:
        raise PictureRejected("is larger than BLOG_MEDIA_MAX_BYTES")
    target.write_bytes(content)
    return sha256(content).hexdigest()


class FolderExport:
    """Write the pictures that posts show into a folder, each once, as `media/{digest}.{ext}`."""

    def __init__(self, renderer: Renderer, storage: Storage, folder: Path) -> None:
        self.renderer = renderer
        self.storage = storage
        self.folder = folder / "media"
        self._written: dict[str, bool] = {}

    async def export_pictures(self, source: Source, cover_url: str | None) -> PostPictures:
        """Write the pictures of a post; the addresses of missing ones stay. Raises OSError."""

        async def change(shown: ShownAddress) -> str | None:
            return await self._export(shown.address.value)

        content = await change_shown(self.renderer, source, is_media_path, change)
        if cover_url is not None and is_media_path(cover_url):
            cover_url = await self._export(cover_url) or cover_url
        return PostPictures(content, cover_url)

    async def _export(self, url: str) -> str | None:
        """Return the relative address of a picture, or None if its file is missing."""
        name = url.rpartition("/")[2]
        if name not in self._written:
            self._written[name] = await self._write(name)
        return f"{self.folder.name}/{name}" if self._written[name] else None

    async def _write(self, name: str) -> bool:
        stored = await self.storage.open(name)
        if stored is None:
            return False
        await anyio.Path(self.folder).mkdir(mode=0o700, exist_ok=True)
        path = self.folder / name
        async with await anyio.open_file(path, "xb", opener=open_private) as file:
            async for chunk in stored.read(0, stored.size):
                await file.write(chunk)
        return True
