"""How a picture is stored: formats, orientation, metadata, limits and broken files."""

from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from weakref import ref
from zlib import crc32

import pytest
from httpx import AsyncClient
from PIL import Image, ImageCms, PngImagePlugin

from blog_api.media import pictures
from tests.support.clients import assert_problem
from tests.support.pictures import make_picture, open_picture, upload

SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"><script>alert(1)</script></svg>'
)
ORIENTATION = 0x0112
GPS = 0x8825
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "WEBP": "webp", "AVIF": "avif"}


PROFILE = ImageCms.createProfile("sRGB")


def make_file(picture: Image.Image, kind: str, **options: Any) -> bytes:
    output = BytesIO()
    picture.save(output, kind, **options)
    return output.getvalue()


def make_frames(kind: str, count: int = 3, size: tuple[int, int] = (8, 6)) -> bytes:
    output = BytesIO()
    first, *others = (Image.new("RGB", size, (80 * n % 256, n % 256, 0)) for n in range(count))
    first.save(output, kind, save_all=True, append_images=others, duration=120, loop=2)
    return output.getvalue()


def make_huge_png(width: int, height: int) -> bytes:
    """Return the start of a PNG that declares its size, and has hardly any data."""
    picture = bytearray(make_picture())
    picture[16:24] = width.to_bytes(4) + height.to_bytes(4)
    picture[29:33] = crc32(picture[12:29]).to_bytes(4)
    return bytes(picture)


async def upload_and_read(client: AsyncClient, content: bytes) -> tuple[dict[str, Any], bytes]:
    media = await upload(client, content)
    response = await client.get(media["url"])
    assert response.headers["Content-Type"] == media["content_type"]
    return media, response.content


@pytest.mark.parametrize("kind", EXTENSIONS)
async def test_each_format_is_stored_as_it_is(ann: AsyncClient, kind: str):
    media, stored = await upload_and_read(ann, make_picture(kind, (40, 30)))

    assert media["content_type"] == f"image/{kind.lower()}"
    assert media["url"].endswith(f".{EXTENSIONS[kind]}")
    assert (media["width"], media["height"], media["size"]) == (40, 30, len(stored))
    picture = open_picture(stored)
    assert (picture.format, picture.size) == (kind, (40, 30))
    red, green, blue = picture.convert("RGB").getpixel((20, 15))  # type: ignore[misc]  # one per band
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
async def test_orientation_is_applied_and_metadata_removed(ann: AsyncClient, kind: str):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010E] = "secret words"
    exif.get_ifd(GPS).update({1: "N", 2: (52.0, 31.0, 12.0)})
    options: dict[str, Any] = {"exif": exif}
    if kind != "PNG":
        options["xmp"] = b"<x:xmpmeta>secret words</x:xmpmeta>"

    media, stored = await upload_and_read(ann, make_picture(kind, (40, 30), **options))

    assert (media["width"], media["height"]) == (30, 40)
    picture = open_picture(stored)
    assert picture.size == (30, 40)
    assert not picture.getexif()
    assert not picture.info.keys() & {"exif", "xmp", "comment", "icc_profile"}
    assert b"secret words" not in stored


async def test_comments_and_text_are_removed(ann: AsyncClient):
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "secret words")
    text.add_itxt("Place", "secret words")

    for content in (
        make_picture("PNG", pnginfo=text),
        make_picture("GIF", comment=b"secret words"),
        make_picture("JPEG", comment=b"secret words"),
    ):
        assert b"secret words" in content
        _, stored = await upload_and_read(ann, content)

        assert b"secret words" not in stored


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
async def test_what_follows_the_picture_is_not_stored(ann: AsyncClient, kind: str):
    """A polyglot is a picture and something else, such as a ZIP archive or a page."""
    tail = b"<script>alert(1)</script>PK\x05\x06" + bytes(18)

    _, stored = await upload_and_read(ann, make_picture(kind) + tail)

    assert b"script" not in stored and b"PK\x05\x06" not in stored


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF"])
async def test_an_animation_keeps_its_frames_and_their_durations(ann: AsyncClient, kind: str):
    media, stored = await upload_and_read(ann, make_frames(kind))

    picture = Image.open(BytesIO(stored))
    assert picture.n_frames == 3  # type: ignore[attr-defined]  # of formats with frames
    assert (media["width"], media["height"]) == (8, 6)
    picture.seek(1)
    picture.load()
    assert picture.info["duration"] == 120


async def test_transparency_is_kept(ann: AsyncClient):
    output = BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(output, "PNG")
    palette = BytesIO()
    Image.new("P", (4, 4), 0).save(palette, "GIF", transparency=0)

    for content in (output.getvalue(), palette.getvalue()):
        _, stored = await upload_and_read(ann, content)

        # A tuple for a picture with bands; the annotation allows a number or None as well.
        assert open_picture(stored).convert("RGBA").getpixel((0, 0))[3] == 0  # type: ignore[index]  # one per band


async def test_cmyk_becomes_rgb(ann: AsyncClient):
    output = BytesIO()
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(output, "JPEG")

    _, stored = await upload_and_read(ann, output.getvalue())

    assert open_picture(stored).mode == "RGB"


async def test_a_color_profile_is_applied(ann: AsyncClient):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    for sent in (profile, b"no profile at all"):
        _, stored = await upload_and_read(ann, make_picture("JPEG", icc_profile=sent))

        assert "icc_profile" not in open_picture(stored).info


@pytest.mark.parametrize("kind", EXTENSIONS)
async def test_a_truncated_picture_is_rejected(ann: AsyncClient, kind: str):
    whole = make_picture(kind, (64, 64), "blue")

    for size in (len(whole) // 2, 12):
        response = await ann.post("/media", files={"file": whole[:size]})

        assert_problem(response, 415)
        assert response.json()["type"] == "urn:blog-api:unsupported-picture"


@pytest.mark.parametrize(
    "content",
    [
        SVG,
        b"GIF89a",
        b"%PDF-1.7 hunter2",
        make_picture("BMP"),
        make_picture("TIFF"),
        make_picture("ICO"),
        b"hunter2" * 1_000,
        b"",
    ],
    ids=["svg", "gif-header", "pdf", "bmp", "tiff", "ico", "text", "empty"],
)
async def test_other_formats_are_rejected(ann: AsyncClient, content: bytes):
    for values in (
        {"files": {"file": ("../../a.png", content, "image/png")}},
        {"content": content, "headers": {"Content-Type": "image/png"}},
    ):
        response = await ann.post("/media", **values)

        assert_problem(response, 415)


async def test_a_picture_with_too_many_pixels_is_rejected(ann: AsyncClient):
    for width, height in ((60_000, 60_000), (10_000, 5_001), (2**31 - 1, 1)):
        response = await ann.post("/media", files={"file": make_huge_png(width, height)})

        assert_problem(response, 413)
        assert "megapixels" in response.json()["detail"]


async def test_an_animation_with_too_many_frames_is_rejected(ann: AsyncClient):
    frames = make_frames("GIF", pictures.MAX_FRAMES + 1, (1, 1))

    response = await ann.post("/media", files={"file": frames})

    assert_problem(response, 413)


async def test_the_pixels_of_all_frames_count_together(ann: AsyncClient):
    """Each frame is small enough by itself, and the file is small."""
    frames = make_frames("GIF", 14, (2_000, 2_000))
    assert len(frames) < 500_000

    response = await ann.post("/media", files={"file": frames})

    assert_problem(response, 413)


async def test_a_picture_that_takes_too_long_is_rejected(
    ann: AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    """The process is killed, and the next picture gets another one."""
    monkeypatch.setattr("blog_api.media.service.DECODE_SECONDS", 0.0)

    response = await ann.post("/media", files={"file": make_picture()})

    assert_problem(response, 413)
    monkeypatch.undo()
    await upload(ann, make_picture())


async def test_the_declared_type_does_not_matter(ann: AsyncClient):
    response = await ann.post(
        "/media", content=make_picture("GIF"), headers={"Content-Type": "image/png"}
    )

    assert response.status_code == 201
    assert response.json()["content_type"] == "image/gif"


def test_the_decoder_is_released_before_the_picture_is_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Both at once would take more memory than a process may have, for the largest AVIF."""
    source = tmp_path / "source"
    source.write_bytes(make_picture("WEBP"))
    opened, is_released = [], []
    open_image, save = Image.open, Image.Image.save

    def open_and_record(*arguments: Any, **options: Any) -> Any:
        image = open_image(*arguments, **options)
        opened.append(ref(image))
        return image

    def save_and_record(*arguments: Any, **options: Any) -> None:
        is_released.append(opened[0]() is None)
        save(*arguments, **options)

    monkeypatch.setattr(Image, "open", open_and_record)
    monkeypatch.setattr(Image.Image, "save", save_and_record)

    pictures.encode_again(source)

    assert is_released == [True]


def add_junk(content: bytes, kind: str) -> bytes:
    """Return a valid picture with data that no encoder of the service writes."""
    if kind == "JPEG":
        return content + b"junk\xff\xd9"
    if kind == "WEBP":
        content += b"JUNK\4\0\0\0junk"
        return content[:4] + (len(content) - 8).to_bytes(4, "little") + content[8:]
    return content + b"\0\0\0\x0cfreejunk"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("frames", [1, 3])
def test_the_bytes_of_an_exported_picture_stay(tmp_path: Path, kind: str, frames: int):
    source, stored, target = (tmp_path / name for name in ("source", "stored", "target"))
    noise = Image.effect_noise((64, 48), 90).convert("RGB")
    options = {"save_all": True, "append_images": [noise.rotate(90)] * (frames - 1)}
    noise.save(source, kind, **(options if frames > 1 and kind != "JPEG" else {}))
    picture = pictures.process_within_limits(source, stored)
    assert isinstance(picture, pictures.Picture)

    kept = pictures.process_within_limits(stored, target, picture.name)

    assert kept == picture
    assert target.read_bytes() == stored.read_bytes()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_other_bytes_are_encoded_again_whatever_their_name(tmp_path: Path, kind: str):
    source, target = tmp_path / "source", tmp_path / "target"
    noise = Image.effect_noise((64, 48), 90).convert("RGB")
    plain = make_file(noise, kind)
    exif = Image.Exif()
    exif[0x010E] = "secret words"
    variants = [
        make_file(noise, kind, exif=exif),
        make_file(noise, kind, xmp=b"secret words"),
        make_file(noise, kind, icc_profile=ImageCms.ImageCmsProfile(PROFILE).tobytes()),
        add_junk(plain, kind),
    ]
    suffix = EXTENSIONS[kind]
    for content in variants:
        source.write_bytes(content)
        name = f"{sha256(content).hexdigest()}.{suffix}"

        picture = pictures.process_within_limits(source, target, name)

        assert isinstance(picture, pictures.Picture)
        assert picture.name != name
        assert target.read_bytes() != content
        assert b"secret words" not in target.read_bytes()
        assert b"junk" not in target.read_bytes()
    # A name that is not that of the bytes.
    source.write_bytes(plain)
    picture = pictures.process_within_limits(source, target, f"{'0' * 64}.{suffix}")
    assert isinstance(picture, pictures.Picture)
    assert picture.digest != sha256(plain).hexdigest()
