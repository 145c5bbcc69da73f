"""Decode a picture and encode it again, within limits; runs in a worker process.

What is stored was written by our encoder: nothing of the upload but its pixels and the timing of
its frames. So there is no metadata, and nothing before or after the picture. Pixels can still spell
a text, such as the colors of a palette: the headers of the response keep browsers from reading a
file as anything but a picture.

An import of posts keeps the bytes of a picture of an export: encoding JPEG, WebP and AVIF again
would change pixels and name each time. It is decoded too, and its parts are those of our encoder.
"""

import struct
import warnings
import zlib
from contextlib import suppress
from enum import StrEnum
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from blog_api.core.processes import MEMORY_BYTES, limited_resources

if TYPE_CHECKING:
    # Serving does without Pillow: worker processes import it.
    from PIL import Image, JpegImagePlugin

# Of all frames together: each takes four bytes, and some are copied.
MAX_PIXELS = 50_000_000
MAX_FRAMES = 500
CPU_SECONDS = 20
# Longer than the CPU time: the machine may be busy.
DECODE_SECONDS = 45.0

# The media type and the suffix of a stored file, by Pillow's format.
TYPES = {
    "JPEG": ("image/jpeg", "jpg"),
    "PNG": ("image/png", "png"),
    "GIF": ("image/gif", "gif"),
    "WEBP": ("image/webp", "webp"),
    "AVIF": ("image/avif", "avif"),
}
SUFFIXES = dict(TYPES.values())
# The sum of the luminance quantization table of JPEG (ITU-T T.81, K.1), which is quality 50.
STANDARD_QUANTIZATION = 3688
# What our encoders write: JFIF without a thumbnail, the chunks of WebP, and the boxes of AVIF.
JPEG_SEGMENTS = [("APP0", 14)]
PARTS = {
    "WEBP": {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"},
    "AVIF": {b"ftyp", b"meta", b"mdat", b"moov"},
}
JPEG_END = b"\xff\xd9"
METADATA = {"exif", "icc_profile", "xmp"}
# Fast encoders, and one thread: CPU time is limited for all threads together.
ENCODING: dict[str, dict[str, Any]] = {
    "WEBP": {"quality": 90, "method": 3},
    "AVIF": {"quality": 80, "speed": 8, "max_threads": 1},
}
# Pillow's decoders raise any of these for broken data.
DECODER_ERRORS = (
    ArithmeticError, EOFError, LookupError, OSError, RuntimeError, SyntaxError, TypeError,
    ValueError, struct.error, zlib.error,
)  # fmt: skip


class Picture(NamedTuple):
    """A stored picture. `digest` is the SHA-256 of its bytes, `size` their number."""

    digest: str
    content_type: str
    width: int
    height: int
    size: int

    @property
    def name(self) -> str:
        return make_name(self.digest, self.content_type)


class Rejection(StrEnum):
    unreadable = "unreadable"
    too_large = "too-large"


class TooManyPixels(Exception):
    """The picture has too many pixels or frames."""


def make_name(digest: str, content_type: str) -> str:
    """Return the name of a stored file."""
    return f"{digest}.{SUFFIXES[content_type]}"


def process_picture(source: Path, target: Path, name: str | None = None) -> Picture | Rejection:
    """Verify the picture in `source` by decoding it, and write it to `target` without metadata.

    The bytes stay if `name` is that of a stored file with these bytes, and without metadata.
    """
    with limited_resources(MEMORY_BYTES, CPU_SECONDS):
        return process_within_limits(source, target, name)


def process_within_limits(
    source: Path, target: Path, name: str | None = None
) -> Picture | Rejection:
    from PIL import Image

    # Pillow raises DecompressionBombError over twice this number, and warns before.
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            content_type, (width, height), content = encode_again(source)
            if name is not None:
                sent = source.read_bytes()
                is_named = name == make_name(sha256(sent).hexdigest(), content_type)
                content = sent if is_named and is_encoded(sent) else content
        except (Image.DecompressionBombError, MemoryError, TooManyPixels):
            return Rejection.too_large
        except DECODER_ERRORS:
            return Rejection.unreadable
    target.write_bytes(content)
    return Picture(sha256(content).hexdigest(), content_type, width, height, len(content))


def encode_again(source: Path) -> tuple[str, tuple[int, int], bytes]:
    """Return the media type, the size in pixels and the new bytes of a picture.

    Raises DECODER_ERRORS, TooManyPixels, MemoryError and DecompressionBombError.
    """
    from PIL import AvifImagePlugin, Image, JpegImagePlugin

    # Of the decoder, for the same reason as of the encoders.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    with Image.open(source, formats=list(TYPES)) as image:
        # Several JPEGs in one file, as cameras write them; the first one is the picture.
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        frames, durations = read_frames(image, is_single=kind == "JPEG")
        options = dict(ENCODING.get(kind, {}))
        if kind == "JPEG":
            assert isinstance(image, JpegImagePlugin.JpegImageFile)
            options = {"quality": estimate_quality(image)}
            if image.mode == "RGB":
                options["subsampling"] = JpegImagePlugin.get_sampling(image)
            if frames[0].mode not in ("L", "RGB"):
                frames = [frames[0].convert("RGB")]
        if len(frames) > 1:
            options |= {"save_all": True, "append_images": frames[1:], "duration": durations}
            options |= {"loop": image.info["loop"]} if "loop" in image.info else {}
            # Each frame is a whole picture: a transparent pixel hides that of the frame before.
            options |= {"disposal": 2} if kind == "GIF" else {}
    # Its decoder has copies of the largest pictures, hundreds of megabytes.
    del image
    output = BytesIO()
    frames[0].save(output, kind, **options)
    return TYPES[kind][0], frames[0].size, output.getvalue()


def estimate_quality(image: "JpegImagePlugin.JpegImageFile") -> int:
    """Return the quality with which a JPEG stays about as large and as good.

    Its own tables are not used: they could hold a text.
    """
    table = next(iter(image.quantization.values()), [])
    scale = sum(table) / STANDARD_QUANTIZATION
    # How libjpeg scales the standard table.
    return max(1, round(100 - 50 * scale if scale < 1 else 50 / scale))


def make_tables(quality: int, mode: str) -> dict[int, list[int]]:
    """Return the quantization tables of the encoder."""
    from PIL import Image, JpegImagePlugin

    output = BytesIO()
    Image.new(mode, (1, 1)).save(output, "JPEG", quality=quality)
    with Image.open(output) as image:
        assert isinstance(image, JpegImagePlugin.JpegImageFile)
        return image.quantization


def is_encoded(content: bytes) -> bool:
    """Return whether a JPEG, WebP or AVIF has only the parts that our encoder writes.

    False for PNG and GIF: encoding them again changes nothing.
    """
    from PIL import Image, JpegImagePlugin

    with Image.open(BytesIO(content), formats=list(TYPES)) as image:
        image.load()
        if image.format == "JPEG" and isinstance(image, JpegImagePlugin.JpegImageFile):
            segments = [(name, len(data)) for name, data in image.applist]
            is_whole = content.find(JPEG_END) + 2 == len(content)
            has_our_tables = image.quantization == make_tables(estimate_quality(image), image.mode)
            return segments == JPEG_SEGMENTS and is_whole and has_our_tables
        if image.format not in PARTS or METADATA & image.info.keys():
            return False
        return find_parts(content, is_riff=image.format == "WEBP") <= PARTS[image.format]


def find_parts(content: bytes, *, is_riff: bool) -> set[bytes]:
    """Return the names of the chunks of a RIFF file, or of the boxes of an ISO media file.

    The end is a part with an empty name if the parts do not fill the file.
    """
    parts = set()
    position = 12 if is_riff else 0
    while position + 8 <= len(content):
        if is_riff:
            name, size = struct.unpack_from("<4sI", content, position)
            position += 8 + size + size % 2
        else:
            size, name = struct.unpack_from(">I4s", content, position)
            position += max(size, 8)
        parts.add(name)
    is_riff_whole = not is_riff or int.from_bytes(content[4:8], "little") == len(content) - 8
    return parts if position == len(content) and is_riff_whole else {b""}


def read_frames(image: "Image.Image", *, is_single: bool) -> tuple[list["Image.Image"], list[int]]:
    """Return the frames without metadata, and their durations in milliseconds."""
    from PIL import ImageSequence

    frames: list[Image.Image] = []
    durations: list[int] = []
    for frame in ImageSequence.Iterator(image):
        pixels = frame.width * frame.height * (len(frames) + 1)
        if pixels > MAX_PIXELS or len(frames) == MAX_FRAMES:
            raise TooManyPixels
        frames.append(clean_frame(frame))
        durations.append(round(frame.info.get("duration", 100)))
        if is_single:
            break
    if len(frames) > 1:
        frames = [frame.convert("RGBA") for frame in frames]
    return frames, durations


def clean_frame(frame: "Image.Image") -> "Image.Image":
    """Return a copy with its orientation and its colors applied, and without metadata."""
    from PIL import ImageCms, ImageOps

    frame.load()
    profile = frame.info.get("icc_profile")
    cleaned = ImageOps.exif_transpose(frame)
    if profile and cleaned.mode in ("RGB", "RGBA", "CMYK"):
        mode = "RGBA" if cleaned.mode == "RGBA" else "RGB"
        # Most viewers ignore a broken profile too.
        with suppress(ImageCms.PyCMSError, OSError):
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            converted = ImageCms.profileToProfile(
                cleaned, source, ImageCms.createProfile("sRGB"), outputMode=mode
            )
            cleaned = converted or cleaned
    transparency = cleaned.info.get("transparency")
    cleaned.info = {} if transparency is None else {"transparency": transparency}
    return cleaned
