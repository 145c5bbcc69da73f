"""A rejected or interrupted upload leaves nothing that is served."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from anyio.lowlevel import checkpoint
from fastapi import FastAPI
from httpx import AsyncClient
from typer.testing import CliRunner

from blog_api.cli.commands import cli
from blog_api.core.errors import ServiceUnavailable
from blog_api.core.processes import NICENESS
from blog_api.core.security import count_available_cores
from blog_api.media.service import verify_picture
from blog_api.media.storage import FolderStorage, is_older_than
from blog_api.text.renderer import Renderer
from blog_api.web import body_limits
from tests.support.clients import (
    ChangeSettings,
    assert_problem,
    client_of,
    make_settings,
    running,
    sign_up,
)
from tests.support.pictures import make_noise, make_picture, upload

PNG = {"Content-Type": "image/png"}
DAY = 24 * 60 * 60


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def test_a_picture_over_the_quota_is_not_stored(
    ann: AsyncClient, bob: AsyncClient, folder: Path, change_settings: ChangeSettings
):
    """Its size is known when it is encoded; until then there seems to be room."""
    large = make_noise(size=(100, 100))
    change_settings(media_quota_bytes=3 * 4_096)

    assert_problem(await ann.post("/media", files={"file": large}), 409)

    assert names_in(folder) == []
    change_settings(media_quota_bytes=50_000)
    of_bob = await upload(bob, large)
    change_settings(media_quota_bytes=3 * 4_096)
    assert_problem(await ann.post("/media", files={"file": large}), 409)
    assert (await ann.get(of_bob["url"])).status_code == 200


async def test_a_token_revoked_while_the_file_is_stored_leaves_no_file(
    ann: AsyncClient, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    save = FolderStorage.save

    async def save_and_log_out(self: FolderStorage, name: str, file: Path) -> None:
        await save(self, name, file)
        assert (await ann.delete("/auth")).status_code == 204

    monkeypatch.setattr(FolderStorage, "save", save_and_log_out)

    assert_problem(await ann.post("/media", files={"file": make_picture()}), 401)

    assert names_in(folder) == []


async def test_a_picture_removed_while_another_stores_it_leaves_no_file(
    ann: AsyncClient,
    bob: AsyncClient,
    admin: AsyncClient,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    media = await upload(ann, make_picture())
    save = FolderStorage.save

    async def remove_and_save(self: FolderStorage, name: str, file: Path) -> None:
        assert (await admin.delete(f"/admin/media/{media['id']}")).status_code == 204
        await save(self, name, file)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStorage, "save", remove_and_save)
        assert_problem(await bob.post("/media", files={"file": make_picture()}), 403)

    assert names_in(folder) == []


async def test_a_removed_picture_is_never_stored_again(
    ann: AsyncClient, admin: AsyncClient, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """These are other bytes of the same picture; a cache could store the file within a moment."""
    media = await upload(ann, make_picture())
    await admin.delete(f"/admin/media/{media['id']}")
    saved = []

    async def save(self: FolderStorage, name: str, file: Path) -> None:
        saved.append(name)

    monkeypatch.setattr(FolderStorage, "save", save)

    assert_problem(await ann.post("/media", files={"file": make_picture() + b"1"}), 403)

    assert saved == []


async def test_a_full_temporary_folder_is_503(
    ann: AsyncClient, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    assert_problem(await ann.post("/media", content=make_picture(), headers=PNG), 503)


async def test_a_disk_that_fills_up_while_a_picture_is_encoded_is_503(tmp_path: Path):
    source = tmp_path / "source"
    source.write_bytes(make_picture())

    with pytest.raises(ServiceUnavailable):
        await verify_picture(Renderer(), source, tmp_path / "missing" / "target", owner=1)


async def test_uploads_in_flight_are_limited(monkeypatch: pytest.MonkeyPatch):
    """One network may use a quarter of the bytes."""
    monkeypatch.setattr(body_limits, "MAX_SIMULTANEOUS_UPLOADS", 8)
    may_finish = asyncio.Event()
    arrived = asyncio.Semaphore(0)

    async def send_slowly() -> AsyncIterator[bytes]:
        content = make_picture()
        yield content[:10]
        arrived.release()
        await may_finish.wait()
        yield content[10:]

    settings = make_settings(database_url="sqlite://", media_max_bytes=100_000)
    async with running(settings) as app, client_of(app) as ann:
        await sign_up(ann, "Ann")
        async with asyncio.TaskGroup() as tasks:
            # Chunked, so that each may become as large as allowed.
            slow = [
                tasks.create_task(ann.post("/media", content=send_slowly(), headers=PNG))
                for _ in range(2)
            ]
            for _ in slow:
                await arrived.acquire()
            rejected = await ann.post("/media", content=send_slowly(), headers=PNG)
            small = await ann.post("/media", content=make_picture(color="blue"), headers=PNG)
            async with client_of(app, "192.0.2.1") as elsewhere:
                elsewhere.headers.update(ann.headers)
                may_finish.set()
                accepted = await elsewhere.post("/media", content=send_slowly(), headers=PNG)
        after = await ann.post("/media", content=send_slowly(), headers=PNG)

    assert_problem(rejected, 503)
    assert_problem(small, 503)
    for response in (accepted, after, *(task.result() for task in slow)):
        assert response.status_code == 201


async def test_pictures_do_not_delay_long_texts(
    ann: AsyncClient, empty_app: FastAPI, monkeypatch: pytest.MonkeyPatch
):
    """Each picture may take longer than a text waits for its slot."""
    monkeypatch.setattr("blog_api.text.renderer.QUEUE_TIMEOUT_SECONDS", 5.0)
    renderer: Renderer = empty_app.state.renderer
    async with asyncio.TaskGroup() as tasks:
        pictures = [
            tasks.create_task(renderer.run_in_process(signal.pause, owner=-number, seconds=60))
            for number in range(count_available_cores())
        ]
        await checkpoint()
        response = await ann.post("/posts", json={"title": "Long", "content": "word " * 10_000})
        for task in pictures:
            task.cancel()

    assert response.status_code == 201


async def test_pictures_are_decoded_with_a_low_priority(tmp_path: Path):
    renderer = Renderer()
    source = tmp_path / "source"
    source.write_bytes(make_picture())

    for _ in range(2):
        await verify_picture(renderer, source, tmp_path / "target", owner=1)

    # The process that decoded it is idle, and used again.
    values = os.PRIO_PROCESS, 0
    niceness = await renderer.run_in_process(os.getpriority, *values, owner=1, seconds=60)
    assert niceness == max(NICENESS, os.getpriority(*values))


def test_a_file_that_was_deleted_meanwhile_is_not_listed(tmp_path: Path):
    assert not is_older_than(tmp_path / "deleted", float("inf"))


def test_media_clean_deletes_old_temporary_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BLOG_DATABASE_URL", f"sqlite:///{tmp_path}/blog.db")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    runner = CliRunner()
    assert runner.invoke(cli, ["migrate"]).exit_code == 0
    old, young = tmp_path / "blog-api-upload-old", tmp_path / "blog-api-upload-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "source").write_bytes(b"1")
    two_days_ago = time.time() - 2 * DAY
    os.utime(old, (two_days_ago, two_days_ago))

    result = runner.invoke(cli, ["media-clean"])

    assert (result.exit_code, result.stdout) == (0, "0 files and 1 temporary folders deleted.\n")
    assert young.exists() and not old.exists()


async def test_a_jpeg_keeps_its_quality_and_not_its_tables(ann: AsyncClient):
    """A table could hold a text."""
    for quality in (30, 90):
        content = make_noise("JPEG", (64, 64), quality=quality, subsampling=0)
        mark = b"<script>alert(1)</script>"
        table = content.index(b"\xff\xdb") + 5
        marked = content[:table] + mark + content[table + len(mark) :]

        for sent in (content, marked):
            media = await upload(ann, sent)
            stored = (await ann.get(media["url"])).content
            assert mark not in stored
            if sent == content:
                assert abs(len(stored) - len(content)) < len(content) / 10
