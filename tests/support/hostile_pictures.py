"""Uploads of an attacker: pictures that are something else too, broken ones, bombs, bad forms."""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from random import Random
from typing import Any, NamedTuple

from PIL import Image, ImageCms, PngImagePlugin

from tests.support.pictures import make_noise, make_picture

SCRIPT = b"<script>alert(1)</script>"
PLACE = b"52.5167N 13.3833E"
# Nothing that is stored contains one of these.
MARKERS = (SCRIPT, b"<script", b"<?php", PLACE, b"PK\x05\x06", b"%PDF", b"__HALT_COMPILER")
KINDS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "WEBP": "webp", "AVIF": "avif"}
STORED = {201}
UNSUPPORTED = {415}
TOO_LARGE = {413}
INVALID = {400, 415, 422}
STORED_OR_REJECTED = {201, 413, 415}
MANY_FRAMES = 10_000
HUGE = 10_000

TAILS = {
    "html": b"<html>" + SCRIPT,
    "js": b"*/=1;alert(1)//" + SCRIPT,
    "zip": b"PK\x05\x06" + bytes(18),
    "pdf": b"%PDF-1.7\n1 0 obj<</S/JavaScript/JS(alert(1))>>\n%%EOF",
    "phar": b"<?php __HALT_COMPILER(); ?>" + bytes(64) + b"GBMB",
}


class HostileUpload(NamedTuple):
    """A request body with its media type, and the statuses that are right for it."""

    name: str
    statuses: set[int]
    content: bytes
    media_type: str = "image/png"


def make_form(
    content: bytes, filename: bytes = b"a.png", media_type: bytes = b"image/png"
) -> tuple[bytes, str]:
    """Return a form with one file as its body and its media type."""
    head = b'--a\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n' % filename
    return head + b"Content-Type: %s\r\n\r\n%s\r\n--a--\r\n" % (media_type, content), FORM


FORM = "multipart/form-data; boundary=a"


def make_png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return len(content).to_bytes(4) + kind + content + checksum.to_bytes(4)


def make_png(width: int, height: int, depth: int, color: int, data: bytes, *more: bytes) -> bytes:
    """Return a PNG with uncompressed rows `data` and other chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = [make_png_chunk(b"IHDR", header), *more]
    chunks += [make_png_chunk(b"IDAT", zlib.compress(data)), make_png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def make_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = SCRIPT.decode()
    exif[0x0112] = 3
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 0.0), 0x12: PLACE.decode()})
    return exif


def make_animation(kind: str, **options: Any) -> bytes:
    output = BytesIO()
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "green", "blue")]
    frames[0].save(output, kind, save_all=True, append_images=frames[1:], duration=90, **options)
    return output.getvalue()


def list_metadata() -> Iterator[HostileUpload]:
    """Yield pictures with scripts and a place in all the metadata that their formats have."""
    exif = make_exif()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>%s%s</x:xmpmeta>" % (SCRIPT, PLACE)
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", SCRIPT.decode())
    text.add_text("Place", PLACE.decode(), zip=True)
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    text.add(b"prVt", SCRIPT)
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"xmp": xmp, "comment": SCRIPT + PLACE},
        "PNG": {"pnginfo": text},
        "WEBP": {"xmp": xmp},
        "AVIF": {"xmp": xmp},
    }
    for kind, values in options.items():
        for name, icc in {"no": None, "icc": profile, "script": profile + SCRIPT}.items():
            picture = make_noise(kind, exif=exif, icc_profile=icc, **values)
            yield HostileUpload(f"metadata-{kind}-{name}", STORED, picture)
    yield HostileUpload("metadata-GIF", STORED, make_picture("GIF", comment=SCRIPT + PLACE))
    jpeg = make_noise("JPEG")
    for marker in (0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE, 0xFE):
        segment = bytes([0xFF, marker]) + (2 + len(SCRIPT)).to_bytes(2) + SCRIPT
        yield HostileUpload(f"segment-{marker:x}", STORED, jpeg[:2] + segment + jpeg[2:])
    for chunk in ("tEXt", "prVt", "eXIf", "iCCP", "zTXt", "iTXt", "tIME", "sPLT"):
        content = make_png_chunk(chunk.encode(), SCRIPT + PLACE)
        picture = make_png(1, 1, 8, 0, bytes(2), content)
        yield HostileUpload(f"chunk-{chunk}", STORED_OR_REJECTED, picture)
    table = jpeg.index(b"\xff\xdb") + 5
    marked = jpeg[:table] + SCRIPT + jpeg[table + len(SCRIPT) :]
    yield HostileUpload("quantization-table", STORED, marked)


def list_polyglots() -> Iterator[HostileUpload]:
    for kind in KINDS:
        picture = make_noise(kind, mode="L" if kind == "GIF" else "RGB")
        for name, tail in TAILS.items():
            yield HostileUpload(f"{kind}-then-{name}", STORED_OR_REJECTED, picture + tail)
            yield HostileUpload(f"{name}-then-{kind}", UNSUPPORTED, tail + picture)
        for other in KINDS:
            yield HostileUpload(f"{kind}-then-{other}", STORED_OR_REJECTED, picture + SCRIPT)
    gif = bytearray(make_noise("GIF", mode="L"))
    gif[6:8] = b"/*"
    yield HostileUpload("gif-js", STORED_OR_REJECTED, bytes(gif) + TAILS["js"])


def list_broken() -> Iterator[HostileUpload]:
    """Yield truncated pictures and pictures with flipped bits, always the same."""
    random = Random(2)
    for kind in KINDS:
        whole = make_noise(kind, mode="L" if kind == "GIF" else "RGB", size=(24, 24))
        for part in range(12):
            size = 1 + (len(whole) - 24) * part // 12
            yield HostileUpload(f"{kind}-cut-{size}", UNSUPPORTED, whole[:size])
        for number in range(18):
            flipped = bytearray(
                make_animation(kind) if number % 3 == 0 and kind != "JPEG" else whole
            )
            for _ in range(1 + number % 4):
                flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
            yield HostileUpload(f"{kind}-flip-{number}", STORED_OR_REJECTED, bytes(flipped))


def make_huge(kind: str) -> bytes:
    """Return a small file that declares 100 megapixels."""
    if kind == "PNG":
        # Complete: its rows have one bit a pixel, and are all zero.
        return make_png(HUGE, HUGE, 1, 0, bytes((HUGE // 8 + 1) * HUGE))
    picture = bytearray(make_picture(kind))
    if kind == "JPEG":
        start = picture.index(b"\xff\xc0") + 5
        picture[start : start + 4] = HUGE.to_bytes(2) * 2
    elif kind == "GIF":
        start = picture.index(b",", 13 + 3 * 2 ** (1 + (picture[10] & 7))) + 5
        for at in (6, start):
            picture[at : at + 4] = HUGE.to_bytes(2, "little") * 2
    elif kind == "WEBP":
        size = (HUGE - 1).to_bytes(3, "little") * 2
        extended = b"VP8X" + (10).to_bytes(4, "little") + b"\x02\0\0\0" + size
        frame = b"ANIM" + (6).to_bytes(4, "little") + bytes(6)
        content = bytes(6) + size + bytes(4) + picture[12:]
        frame += b"ANMF" + len(content).to_bytes(4, "little") + content
        picture[12:] = extended + frame
        picture[4:8] = (len(picture) - 8).to_bytes(4, "little")
    else:
        start = picture.index(b"ispe") + 8
        picture[start : start + 8] = HUGE.to_bytes(4) * 2
    return bytes(picture)


def make_many_frames(kind: str) -> bytes:
    """Return an animation that has one frame again and again."""
    animation = make_animation(kind)
    if kind == "GIF":
        first = animation.index(b"\x21\xf9")
        return animation[:first] + animation[first:-1] * (MANY_FRAMES // 3) + b";"
    if kind == "WEBP":
        first = animation.index(b"ANMF")
        content = animation[12:first] + animation[first:] * (MANY_FRAMES // 3)
        return b"RIFF" + (len(content) + 4).to_bytes(4, "little") + b"WEBP" + content
    data = zlib.compress(bytes(2))
    chunks = [make_png_chunk(b"acTL", struct.pack(">II", MANY_FRAMES, 0))]
    for number in range(MANY_FRAMES):
        control = struct.pack(">IIIIIHHBB", 2 * number, 1, 1, 0, 0, 1, 10, 0, 0)
        chunks.append(make_png_chunk(b"fcTL", control))
        chunks.append(make_png_chunk(b"fdAT", (2 * number + 1).to_bytes(4) + data))
    whole = make_png(1, 1, 8, 0, bytes(2))
    return whole[:33] + chunks[0] + whole[33:-12] + b"".join(chunks[1:]) + whole[-12:]


def list_bombs() -> Iterator[HostileUpload]:
    for kind in KINDS:
        statuses = TOO_LARGE if kind in ("JPEG", "PNG", "GIF") else {413, 415}
        yield HostileUpload(f"{kind}-100-megapixels", statuses, make_huge(kind))
    for kind in ("GIF", "WEBP", "PNG"):
        yield HostileUpload(f"{kind}-10000-frames", TOO_LARGE, make_many_frames(kind))
    bomb = zlib.compress(bytes(30_000_000))
    for name in (b"zTXt", b"iCCP"):
        chunk = make_png_chunk(name, b"a\0\0" + bomb)
        picture = make_png(1, 1, 8, 0, bytes(2), chunk)
        yield HostileUpload(f"bomb-{name.decode()}", STORED_OR_REJECTED, picture)
    yield HostileUpload("bomb-rows", STORED_OR_REJECTED, make_png(1, 1, 8, 0, bytes(30_000_000)))
    yield HostileUpload("no-pixels", UNSUPPORTED, make_png(0, 0, 8, 0, b""))


def list_modes() -> Iterator[HostileUpload]:
    modes = {
        "JPEG": ("L", "RGB", "CMYK"),
        "PNG": ("L", "LA", "RGB", "RGBA", "P"),
        "GIF": ("L", "P"),
        "WEBP": ("RGB", "RGBA"),
        "AVIF": ("RGB", "RGBA"),
    }
    for kind, names in modes.items():
        for mode in names:
            options: dict[str, Any] = {"transparency": 3} if mode == "P" else {}
            yield HostileUpload(f"{kind}-{mode}", STORED, make_noise(kind, mode=mode, **options))
    for kind in ("PNG", "GIF", "WEBP", "AVIF"):
        yield HostileUpload(f"{kind}-animated", STORED, make_animation(kind))
    rows = bytes(range(200))
    for color, row in {0: 9, 2: 25, 4: 17, 6: 33}.items():
        picture = make_png(4, 4, 16, color, b"".join(b"\0" + rows[: row - 1] for _ in range(4)))
        yield HostileUpload(f"png-16-bit-{color}", STORED, picture)
    short = make_png_chunk(b"PLTE", b"\1\2\3") + make_png_chunk(b"tRNS", b"\0")
    yield HostileUpload(
        "png-short-palette", STORED_OR_REJECTED, make_png(2, 1, 8, 3, b"\0\0\xff", short)
    )
    yield HostileUpload("jpeg-progressive", STORED, make_noise("JPEG", progressive=True))


def list_other_formats() -> Iterator[HostileUpload]:
    """Yield formats that Pillow reads, but the service does not, and other files."""
    for kind in ("BMP", "TIFF", "ICO", "PPM", "TGA", "PCX", "JPEG2000", "EPS", "PDF", "DDS", "SGI"):
        yield HostileUpload(f"is-{kind}", UNSUPPORTED, make_noise(kind, mode="RGB"))
    others = {
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg">' + SCRIPT + b"</svg>",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n%%EOF\n",
        "psd": b"8BPS\0\1" + bytes(6) + b"\0\3" + b"\0\0\0\1" * 2 + b"\0\10\0\3" + bytes(40),
        "pdf": TAILS["pdf"],
        "html": TAILS["html"],
        "zip": TAILS["zip"],
        "xbm": b"#define a_width 1\n#define a_height 1\nstatic char a_bits[] = { 0x01 };\n",
        "wmf": b"\xd7\xcd\xc6\x9a" + bytes(40),
        "fli": bytes(4) + b"\x11\xaf" + bytes(140),
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
        "empty": b"",
        "one-byte": b"\x89",
    }
    for name, content in others.items():
        yield HostileUpload(f"is-{name}", UNSUPPORTED, content)


def make_box(kind: bytes, content: bytes = b"", *, size: int | None = None) -> bytes:
    return (len(content) + 8 if size is None else size).to_bytes(4) + kind + content


def list_avif_boxes() -> Iterator[HostileUpload]:
    whole = make_noise("AVIF")
    end = int.from_bytes(whole[:4])
    brand, rest = whole[:end], whole[end:]
    boxes = {
        "script": make_box(b"uuid", bytes(16) + SCRIPT),
        "free": make_box(b"free", SCRIPT),
        "to-the-end": make_box(b"free", SCRIPT, size=0),
        "long": make_box(b"free", (2**63).to_bytes(8) + SCRIPT, size=1),
        "too-long": make_box(b"free", SCRIPT, size=2**32 - 1),
        "too-short": make_box(b"free", SCRIPT, size=4),
        "second-brand": brand,
        "empty-meta": make_box(b"meta", bytes(4)),
        "empty-moov": make_box(b"moov"),
        "nested": make_box(b"moov", make_box(b"trak", make_box(b"mdia", make_box(b"minf")))),
    }
    for name, box in boxes.items():
        yield HostileUpload(f"avif-{name}-inside", STORED_OR_REJECTED, brand + box + rest)
        yield HostileUpload(f"avif-{name}-after", STORED_OR_REJECTED, whole + box)
    yield HostileUpload("avif-brand-only", UNSUPPORTED, brand)


def list_names_and_types() -> Iterator[HostileUpload]:
    picture = make_picture()
    for number, name in enumerate(
        (
            b"../../../etc/passwd", b"..\\..\\a.png", b"/etc/passwd", b"C:\\a.png", b"a\0.png",
            b"a%00.png", "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe".encode(), b"a" * 3_900, b"", b".",
            b"a.php", b"a.svg", b"a.html;a=b", b"\xff\xfe.png", b"$(id).png", b"a.png\\", SCRIPT,
        )
    ):  # fmt: skip
        yield HostileUpload(f"name-{number}", {201, 400, 422}, *make_form(picture, name))
    for kind, suffix in KINDS.items():
        for declared in ("text/html", "image/svg+xml", "application/x-php", "image/bmp", "a", ""):
            form = make_form(make_picture(kind), b"a.html", declared.encode())
            yield HostileUpload(f"{kind}-as-{declared}", STORED, *form)
        yield HostileUpload(f"{kind}-as-svg", STORED, make_picture(kind), "image/svg+xml")
        yield HostileUpload(f"{suffix}-as-html", UNSUPPORTED, make_picture(kind), "text/html")


def list_forms() -> Iterator[HostileUpload]:
    whole, _ = make_form(make_picture())
    part = whole.removesuffix(b"--a--\r\n")
    nested = b"--b\r\n" + part + b"--b--\r\n"
    header = b'--a\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
    bodies = {
        "two-files": part + whole,
        "no-end": part,
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "only-end": b"--a--\r\n",
        "no-name": b"--a\r\nContent-Disposition: form-data\r\n\r\n1\r\n--a--\r\n",
        "no-disposition": b"--a\r\n\r\n1\r\n--a--\r\n",
        "huge-header": header + b"X: " + b"a" * 100_000 + b"\r\n\r\n1\r\n--a--\r\n",
        "many-headers": header + b"X: a\r\n" * 1_000 + b"\r\n1\r\n--a--\r\n",
        "header-without-colon": header + b"X" * 100 + b"\r\n\r\n1\r\n--a--\r\n",
        "many-parts": b'--a\r\nContent-Disposition: form-data; name="alt"\r\n\r\n1\r\n' * 1_000
        + whole,
        "nested": header
        + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + nested
        + b"--a--\r\n",
        "preamble": SCRIPT + whole,
        "newlines": whole.replace(b"\r\n", b"\n"),
        "large-field": b'--a\r\nContent-Disposition: form-data; name="alt"\r\n\r\n'
        + b"a" * 100_000
        + b"\r\n"
        + whole,
        "base64": header + b"Content-Transfer-Encoding: base64\r\n\r\niVBORw0K\r\n--a--\r\n",
        "dashes": header + b"\r\n" + b"\r\n-" * 50_000 + b"\r\n--a--\r\n",
    }
    for name, body in bodies.items():
        yield HostileUpload(f"form-{name}", INVALID, body, FORM)
    for name, media_type in {
        "no-boundary": "multipart/form-data",
        "empty-boundary": "multipart/form-data; boundary=",
        "other-boundary": "multipart/form-data; boundary=other",
        "long-boundary": "multipart/form-data; boundary=" + "a" * 5_000,
        "mixed": "multipart/mixed; boundary=a",
        "two-boundaries": "multipart/form-data; boundary=b; boundary=c",
        "charset": "multipart/form-data; boundary=b; charset=utf-99",
    }.items():
        yield HostileUpload(f"form-{name}", INVALID, whole, media_type)
    yield HostileUpload("form-epilogue", {201, 400}, whole + SCRIPT, FORM)


def list_hostile_uploads() -> list[HostileUpload]:
    """Return all of them, always the same and in the same order."""
    lists = (
        list_metadata(), list_polyglots(), list_broken(), list_bombs(), list_modes(),
        list_other_formats(), list_avif_boxes(), list_names_and_types(), list_forms(),
    )  # fmt: skip
    return [one for group in lists for one in group]
