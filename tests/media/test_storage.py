"""Where pictures are stored, by the settings, and the folder itself."""

from pathlib import Path

import anyio
import pytest
from pydantic import ValidationError

from blog_api.media.storage import FolderStorage, open_storage
from tests.support.clients import make_settings

NAME = f"{'0a' * 32}.png"


def test_by_default_the_folder_is_beside_the_sqlite_file():
    settings = make_settings(database_url="sqlite:////srv/blog.db")

    assert settings.media_folder == Path("/srv/blog.db.media")


def test_the_setting_names_a_folder():
    settings = make_settings(database_url="sqlite://", media_url="file:///srv/my%20media")

    assert settings.media_folder == Path("/srv/my media")


def test_on_postgres_there_is_no_default():
    settings = make_settings(database_url="postgresql://ann@db.example/blog")

    with open_storage(settings) as storage:
        assert storage is None


def test_with_a_database_in_memory_the_folder_is_temporary():
    with open_storage(make_settings(database_url="sqlite://")) as storage:
        assert isinstance(storage, FolderStorage)
        assert storage.folder.is_dir()

    assert not storage.folder.exists()


@pytest.mark.parametrize(
    "url",
    [
        "media", "/srv/media", "s3://bucket", "file://host/srv", "file:media", "file:///",
        "file:///srv?a=1", "file:///srv#a", "file:///a%00b",
    ],
)  # fmt: skip
def test_another_url_is_rejected(url: str):
    with pytest.raises(ValidationError, match="must be a folder"):
        make_settings(media_url=url)


async def test_a_file_is_there_as_a_whole_or_not_at_all(tmp_path: Path):
    storage = FolderStorage(tmp_path / "media")
    source = tmp_path / "source"
    source.write_bytes(b"0123456789" * 20_000)

    assert await storage.open(NAME) is None
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(storage.save, NAME, source)

    file = await storage.open(NAME)
    assert file is not None and file.size == 200_000
    assert [chunk async for chunk in file.read(5, 12)] == [b"5678901"]
    assert b"".join([chunk async for chunk in file.read(0, file.size)]) == source.read_bytes()
    assert [path.name for path in (tmp_path / "media").rglob("*.*")] == [NAME]
    await storage.delete(NAME)
    await storage.delete(NAME)
    assert await storage.open(NAME) is None


async def test_a_failed_copy_leaves_no_file(tmp_path: Path):
    storage = FolderStorage(tmp_path / "media")

    with pytest.raises(FileNotFoundError):
        await storage.save(NAME, tmp_path / "missing")

    assert [path for path in (tmp_path / "media").rglob("*") if path.is_file()] == []
