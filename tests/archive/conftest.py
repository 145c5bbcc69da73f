"""The database of the commands that import and export."""

from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.support.clients import SECRET_KEY


@pytest.fixture
async def url(migrated_url: URL, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> URL:
    """A migrated database that the commands use."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLOG_DATABASE_URL", migrated_url.render_as_string(hide_password=False))
    monkeypatch.setenv("BLOG_SECRET_KEY", SECRET_KEY)
    monkeypatch.setenv("BLOG_ARGON2_MEMORY_KIB", "19456")
    monkeypatch.setenv("BLOG_ARGON2_PASSES", "2")
    return migrated_url
