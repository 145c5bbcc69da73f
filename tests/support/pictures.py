"""Pictures for tests, and the requests that upload them."""

from io import BytesIO
from random import Random
from typing import Any

from httpx import AsyncClient
from PIL import Image


def make_picture(
    kind: str = "PNG", size: tuple[int, int] = (4, 3), color: Any = "red", **options: Any
) -> bytes:
    """Return a picture of one color as a file."""
    output = BytesIO()
    Image.new("RGB", size, color).save(output, kind, **options)
    return output.getvalue()


def make_noise(
    kind: str = "PNG", size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: Any
) -> bytes:
    """Return a picture that cannot be compressed, always the same."""
    output = BytesIO()
    pixels = Random(1).randbytes(size[0] * size[1] * len(Image.new(mode, (1, 1)).getbands()))
    Image.frombytes(mode, size, pixels).save(output, kind, **options)
    return output.getvalue()


def open_picture(content: bytes) -> Image.Image:
    picture = Image.open(BytesIO(content))
    picture.load()
    return picture


async def upload(client: AsyncClient, content: bytes, alt: str | None = None) -> dict[str, Any]:
    """Upload a picture as a form."""
    data = {} if alt is None else {"alt": alt}
    response = await client.post("/media", files={"file": ("a.png", content)}, data=data)
    assert response.status_code == 201, response.text
    media: dict[str, Any] = response.json()
    return media
