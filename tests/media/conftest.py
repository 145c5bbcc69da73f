"""The storage of the tests of pictures."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from blog_api.media.storage import FolderStorage


@pytest.fixture
def folder(empty_app: FastAPI, tmp_path: Path) -> Iterator[Path]:
    """The folder of the pictures, empty at first."""
    storage = empty_app.state.media_storage
    empty_app.state.media_storage = FolderStorage(tmp_path / "media")
    yield tmp_path / "media"
    empty_app.state.media_storage = storage
