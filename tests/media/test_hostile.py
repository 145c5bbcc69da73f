"""Hundreds of hostile uploads: each is stored clean or rejected with a problem document."""

from io import BytesIO

import pytest
from httpx import AsyncClient
from PIL import Image

from tests.support.clients import assert_problem
from tests.support.hostile_pictures import MARKERS, HostileUpload, list_hostile_uploads

TYPES = {"image/jpeg", "image/png", "image/gif", "image/webp", "image/avif"}


async def check_upload(client: AsyncClient, sent: HostileUpload) -> int:
    """Upload, and check the response and what is served; return the status."""
    headers = {"Content-Type": sent.media_type}
    response = await client.post("/media", content=sent.content, headers=headers)
    assert response.status_code in sent.statuses, (sent.name, response.text)
    if response.status_code != 201:
        assert_problem(response, *sent.statuses)
        return response.status_code
    media = response.json()
    served = await client.get(media["url"])
    assert served.status_code == 200
    assert served.headers["Content-Type"] == media["content_type"]
    assert media["content_type"] in TYPES
    assert served.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in served.headers["Content-Security-Policy"]
    assert not [marker for marker in MARKERS if marker in served.content], sent.name
    with Image.open(BytesIO(served.content)) as picture:
        assert f"image/{str(picture.format).lower()}" == media["content_type"]
        assert picture.size == (media["width"], media["height"])
        for frame in range(getattr(picture, "n_frames", 1)):
            picture.seek(frame)
            picture.load()
        assert not picture.getexif()
        assert not picture.info.keys() & {"xmp", "comment", "icc_profile"}
    return 201


# Starlette leaves the file of a form that ends too early to the garbage collector.
@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
@pytest.mark.usefixtures("folder")
async def test_some_hostile_uploads_are_stored_clean_or_rejected(ann: AsyncClient):
    """All of them are sent to a server process by another test."""
    some = list_hostile_uploads()[::5]

    statuses = {await check_upload(ann, sent) for sent in some}

    assert statuses >= {201, 413, 415}
