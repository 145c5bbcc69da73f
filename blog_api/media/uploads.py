"""Receive an upload into a temporary file, as a form or as the body itself."""

import shutil
import time
from asyncio import timeout
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import NamedTuple

import anyio
from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from blog_api.core.errors import (
    BadRequest,
    ContentTooLarge,
    FieldError,
    RequestTimeout,
    ValidationFailed,
    get_media_type,
    missing_field,
    to_field_error,
)
from blog_api.core.fields import ShortText
from blog_api.media.errors import UnsupportedPicture
from blog_api.media.storage import is_older_than, storage_errors
from blog_api.web.body_limits import LARGE_BODY_SECONDS

FORM = "multipart/form-data"
UNKNOWN_TYPE = "application/octet-stream"
CHUNK_BYTES = 256 * 1024
MAX_FIELD_BYTES = 4_096
FOLDER_PREFIX = "blog-api-upload-"
ALT = TypeAdapter[str](ShortText)


class Upload(NamedTuple):
    """The SHA-256 of a picture as it was sent, and the alternative text of its form."""

    digest: str
    alt: str | None


@contextmanager
def upload_folder() -> Iterator[Path]:
    """Yield a temporary folder. Raises ServiceUnavailable."""
    with storage_errors():
        folder = TemporaryDirectory(prefix=FOLDER_PREFIX, ignore_cleanup_errors=True)
    with folder as path:
        yield Path(path)


def remove_abandoned_folders(seconds: float) -> int:
    """Delete the temporary folders that killed processes left so long ago; return their number."""
    moment = time.time() - seconds
    folders = Path(gettempdir()).glob(f"{FOLDER_PREFIX}*")
    abandoned = [folder for folder in folders if is_older_than(folder, moment)]
    for folder in abandoned:
        # Another service on this machine may have other rights.
        shutil.rmtree(folder, ignore_errors=True)
    return len(abandoned)


async def receive_upload(request: Request, path: Path, max_bytes: int) -> Upload:
    """Write the picture to a file, and return what was sent with it.

    The declared media type of the picture does not matter: it is decoded later. Raises
    UnsupportedPicture, ContentTooLarge, RequestTimeout, BadRequest and ValidationFailed.
    """
    media_type = get_media_type(request)
    try:
        # Inside: TimeoutError is an OSError.
        async with timeout(LARGE_BODY_SECONDS):
            with storage_errors():
                if media_type == FORM:
                    return await receive_form(request, path, max_bytes)
                if media_type != UNKNOWN_TYPE and not media_type.startswith("image/"):
                    raise UnsupportedPicture
                return await receive_body(request, path, max_bytes)
    except TimeoutError:
        raise RequestTimeout from None
    except ClientDisconnect:
        raise BadRequest from None


async def receive_body(request: Request, path: Path, max_bytes: int) -> Upload:
    digest = sha256()
    size = 0
    async with await anyio.open_file(path, "wb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_bytes:
                raise ContentTooLarge
            digest.update(chunk)
            await file.write(chunk)
    return Upload(digest.hexdigest(), None)


async def receive_form(request: Request, path: Path, max_bytes: int) -> Upload:
    """Receive a form with `file` and `alt`. Starlette writes it to a temporary file over 1 MB."""
    async with request.form(max_files=1, max_fields=1, max_part_size=MAX_FIELD_BYTES) as form:
        if unknown := form.keys() - {"file", "alt"}:
            error = {"type": "extra_forbidden", "loc": ["body", min(unknown)]}
            raise ValidationFailed([to_field_error(error)])
        sent, alt = form.get("file"), form.get("alt")
        if not isinstance(sent, UploadFile):
            raise ValidationFailed([missing_field("body", "file")])
        if (sent.size or 0) > max_bytes:
            raise ContentTooLarge
        digest = sha256()
        async with await anyio.open_file(path, "wb") as file:
            while chunk := await sent.read(CHUNK_BYTES):
                digest.update(chunk)
                await file.write(chunk)
        return Upload(digest.hexdigest(), None if alt in (None, "") else check_alt(alt))


def check_alt(value: object) -> str:
    """Validate the field `alt` of a form. Raises ValidationFailed."""
    try:
        return ALT.validate_python(value)
    except ValidationError as error:
        found = error.errors()[0]
        loc: list[str | int] = ["body", "alt"]
        raise ValidationFailed(
            [FieldError(loc=loc, type=found["type"], msg=found["msg"])]
        ) from None
