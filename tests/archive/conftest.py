"""The database of the commands that import and export."""

from pathlib import Path

import pytest
from sqlalchemy import URL

from blog_api.db.migrate import migrate
from tests.support.clients import MINIMUM_HASHING, SECRET_KEY, make_settings


@pytest.fixture
async def url(empty_url: URL, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> URL:
    """A migrated database that the commands use."""
    await migrate(make_settings(database_url=empty_url, **MINIMUM_HASHING))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLOG_DATABASE_URL", empty_url.render_as_string(hide_password=False))
    monkeypatch.setenv("BLOG_SECRET_KEY", SECRET_KEY)
    monkeypatch.setenv("BLOG_ARGON2_MEMORY_KIB", "19456")
    monkeypatch.setenv("BLOG_ARGON2_PASSES", "2")
    return empty_url
