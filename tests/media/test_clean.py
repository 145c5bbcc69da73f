"""Files without a row: what an interrupted upload leaves, and `blog-api media-clean`."""

import os
import time
from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from blog_api.db.session import Database
from blog_api.media.models import Media
from blog_api.media.service import find_unused_files, remove_unused_files
from blog_api.media.storage import FolderStorage
from tests.support.clients import assert_problem
from tests.support.pictures import make_picture, upload

DAY = 24 * 60 * 60
ORPHAN = f"{'0a' * 32}.png"
UNFINISHED = f"{ORPHAN}.{'0' * 16}.tmp"


def write_file(folder: Path, name: str, age: float) -> Path:
    path = folder / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"1")
    set_age(path, age)
    return path


def set_age(path: Path, seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def clean(app: FastAPI, folder: Path) -> list[str]:
    database: Database = app.state.database
    storage = FolderStorage(folder)
    names = await find_unused_files(database, storage)
    assert await remove_unused_files(database, storage, names) == len(names)
    return names


class Killed(Exception):
    """Stands for the end of the process."""


async def test_an_upload_that_dies_before_its_row_leaves_a_file_that_is_cleaned(
    ann: AsyncClient, empty_app: FastAPI, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    async def die(*_: object, **__: object) -> Media:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("blog_api.media.routes.insert_media", die)
        assert_problem(await ann.post("/media", files={"file": make_picture()}), 500)

    (name,) = names_in(folder)
    assert (await ann.get("/users/me/media")).json()["results"] == []
    assert await clean(empty_app, folder) == []
    set_age(folder / name[:2] / name, DAY + 60)
    assert await clean(empty_app, folder) == [name]
    assert names_in(folder) == []


async def test_a_deletion_that_dies_before_the_file_leaves_a_file_that_is_cleaned(
    ann: AsyncClient, empty_app: FastAPI, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    media = await upload(ann, make_picture())

    async def fail(*_: object) -> None:
        raise OSError("The disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(FolderStorage, "delete", fail)
        assert (await ann.delete(f"/media/{media['id']}")).status_code == 204

    (name,) = names_in(folder)
    set_age(folder / name[:2] / name, DAY + 60)
    assert await clean(empty_app, folder) == [name]


async def test_only_old_files_without_a_row_are_cleaned(
    ann: AsyncClient, empty_app: FastAPI, folder: Path
):
    used = (await upload(ann, make_picture()))["url"].removeprefix("/media/")
    set_age(folder / used[:2] / used, 2 * DAY)
    write_file(folder, UNFINISHED, 2 * DAY)
    write_file(folder, ORPHAN, 2 * DAY)
    young = f"{'0b' * 32}.png"
    write_file(folder, young, 60)
    write_file(folder, "notes.txt", 2 * DAY)
    unfinished = write_file(folder, f"{used}.{'1' * 16}.tmp", 2 * DAY).name

    assert await clean(empty_app, folder) == sorted([UNFINISHED, ORPHAN, unfinished])

    assert names_in(folder) == sorted([used, young, "notes.txt"])


async def test_an_upload_whose_file_is_cleaned_meanwhile_is_a_conflict(
    ann: AsyncClient, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    save = FolderStorage.save

    async def save_and_lose(self: FolderStorage, name: str, file: Path) -> None:
        await save(self, name, file)
        await self.delete(name)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStorage, "save", save_and_lose)
        assert_problem(await ann.post("/media", files={"file": make_picture()}), 409)

    assert (await ann.get("/users/me/media")).json()["results"] == []
    await upload(ann, make_picture())
