"""Settings: what is rejected, and what is escaped."""

import pytest
from pydantic import ValidationError

from tests.support.clients import client_of, make_settings, running


@pytest.mark.parametrize("character", ["x", "0", "я"])
def test_a_secret_key_of_one_repeated_character_is_rejected(character: str):
    with pytest.raises(ValidationError, match="one repeated character"):
        make_settings(secret_key=character * 40)


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_the_title_is_escaped_in_the_documentation(path: str):
    settings = make_settings(database_url="sqlite://", title="</title><script>alert(1)</script>")
    async with running(settings) as app, client_of(app) as client:
        page = (await client.get(path)).text

    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
