"""Fixtures of the tests of texts."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.recording_page import RecordingPage


@pytest.fixture
async def recording_page(chromium: Any) -> AsyncIterator[RecordingPage]:
    page = await chromium.new_page()
    recording_page = RecordingPage(page)
    await recording_page.open()
    yield recording_page
    await page.close()
