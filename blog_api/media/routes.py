"""Pictures: upload, list, change and delete one's own, and serve the files."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlmodel import col
from starlette.datastructures import Headers

from blog_api.accounts.auth import (
    CanReadDrafts,
    CanWrite,
    CanWritePosts,
    connection_released_for,
    lock_authenticated_user,
)
from blog_api.accounts.errors import SCOPE_PROBLEMS, WRITE_POST_PROBLEMS, WRITE_PROBLEMS
from blog_api.accounts.idempotency import IDEMPOTENCY_PROBLEMS, CreationDep, IdempotentRoute
from blog_api.accounts.write_limits import limit_uploads
from blog_api.core.errors import (
    BODY_PROBLEMS,
    Conflict,
    ServiceUnavailable,
    TooManyRequests,
    ValidationFailed,
    problem_responses,
)
from blog_api.core.fields import PathId, ShortText
from blog_api.core.settings import Settings
from blog_api.core.urls import MEDIA_NAME_PATTERN
from blog_api.db.list_query import ListQuery, Sort
from blog_api.db.session import SessionDep
from blog_api.media.errors import (
    MediaBlocked,
    MediaNotConfigured,
    MediaNotFound,
    MediaQuotaExceeded,
    RangeNotSatisfiable,
    UnsupportedPicture,
)
from blog_api.media.models import Media, MediaPage, MediaRead, MediaUpdate
from blog_api.media.pictures import SUFFIXES
from blog_api.media.service import (
    check_not_blocked,
    check_quota,
    commit_and_remove_files,
    find_media,
    insert_media,
    media_of,
    stored_file,
    verify_picture,
)
from blog_api.media.storage import StorageDep
from blog_api.media.uploads import receive_upload, upload_folder
from blog_api.text.renderer import RendererDep
from blog_api.web.conditional import (
    PreconditionDep,
    PreconditionFailed,
    matches_if_none_match,
    set_etag_row,
)
from blog_api.web.pagination import Page, PageParams, PaginatorDep

router = APIRouter(
    tags=["media"],
    route_class=IdempotentRoute,
    responses=problem_responses(ServiceUnavailable, MediaNotConfigured),
)

NEWEST_FIRST = Sort("-id", (col(Media.id),), is_descending=True)

MEDIA_TYPES = {suffix: content_type for content_type, suffix in SUFFIXES.items()}
MAX_NAME_LENGTH = 69
RANGE_PATTERN = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.ASCII | re.IGNORECASE)

FILE_HEADERS = {
    # The name is a digest of the bytes.
    "Cache-Control": "public, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Accept-Ranges": "bytes",
}
BINARY = {"type": "string", "format": "binary"}
UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": BINARY | {"description": "The picture.", "examples": ["(file)"]},
                        "alt": {
                            "type": "string",
                            "maxLength": 300,
                            "description": "Alternative text, one line.",
                            "examples": ["A river at dawn."],
                        },
                    },
                }
            },
            "image/*": {"schema": BINARY},
        },
    }
}
FILE_EXAMPLE = {"schema": BINARY, "example": "The bytes of the picture."}
FILE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": dict.fromkeys(SUFFIXES, FILE_EXAMPLE)},
    206: {"description": "A range of the file.", "content": dict.fromkeys(SUFFIXES, FILE_EXAMPLE)},
}


@router.post(
    "/media",
    status_code=201,
    response_model=MediaRead,
    responses=problem_responses(
        *BODY_PROBLEMS,
        *WRITE_POST_PROBLEMS,
        *IDEMPOTENCY_PROBLEMS,
        MediaBlocked,
        MediaNotConfigured,
        MediaQuotaExceeded,
        ServiceUnavailable,
        TooManyRequests,
        UnsupportedPicture,
    ),
    openapi_extra=UPLOAD_BODY,
    dependencies=[Depends(limit_uploads)],
)
async def upload_picture(
    request: Request,
    auth: CanWritePosts,
    creation: CreationDep,
    session: SessionDep,
    storage: StorageDep,
    renderer: RendererDep,
    alt: Annotated[
        ShortText | None,
        Query(description="Alternative text, one line, where the body is the picture itself."),
    ] = None,
) -> Media:
    """Store a picture: a JPEG, PNG, GIF, WebP or AVIF, without its metadata.

    The body is a multipart form with `file` and `alt`, or the picture itself. Uploading a picture
    again returns the one that exists.
    """
    settings: Settings = request.app.state.settings
    quota = settings.media_quota_bytes
    with upload_folder() as folder:
        source, target = folder / "source", folder / "target"
        async with connection_released_for(session, auth):
            upload = await receive_upload(request, source, settings.media_max_bytes)
        alt = upload.alt or alt
        # The boundary of a form differs between attempts.
        request.state.body_digest = f"{upload.digest} {alt or ''}"
        await creation.replay()
        await check_not_blocked(session, upload.digest)
        await check_quota(session, auth.user.id, 0, quota)
        async with connection_released_for(session, auth):
            picture = await verify_picture(renderer, source, target, owner=auth.user.id)
        # Once it is stored, everybody can read it.
        await check_not_blocked(session, picture.digest)
        async with stored_file(session, storage, picture.name, target):
            await creation.claim()
            user = await lock_authenticated_user(session, auth)
            return await insert_media(
                session,
                storage,
                picture,
                user_id=user.id,
                source_digest=upload.digest,
                alt=alt,
                quota=quota,
            )


@router.get(
    "/media/{name}",
    response_class=Response,
    responses=FILE_RESPONSES
    | problem_responses(
        MediaNotFound,
        MediaNotConfigured,
        RangeNotSatisfiable,
        ServiceUnavailable,
        ValidationFailed,
    ),
)
async def read_file(
    name: Annotated[
        str,
        Path(
            max_length=MAX_NAME_LENGTH,
            description="SHA-256 of the file, with its suffix.",
            examples=[f"{'0' * 64}.jpg"],
        ),
    ],
    storage: StorageDep,
    request: Request,
) -> Response:
    """Return the file of a picture. It never changes; supports `Range`."""
    match = re.fullmatch(MEDIA_NAME_PATTERN, name)
    file = await storage.open(name) if match else None
    if match is None or file is None:
        raise MediaNotFound
    etag = f'"{match[1]}"'
    headers = FILE_HEADERS | {"ETag": etag}
    if matches_if_none_match(request.scope, etag.encode()):
        return Response(status_code=304, headers=headers)
    start, end = 0, file.size
    part = parse_range(request.headers, etag, file.size)
    if part is not None:
        start, end = part
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    return StreamingResponse(
        file.read(start, end),
        status_code=200 if part is None else 206,
        headers=headers | {"Content-Length": str(end - start)},
        media_type=MEDIA_TYPES[match[2]],
    )


def parse_range(headers: Headers, etag: str, size: int) -> tuple[int, int] | None:
    """Return the first byte of a range, and the one after its last; None for the whole file.

    Several ranges and an invalid header are ignored (RFC 9110, 14.2). Raises RangeNotSatisfiable.
    """
    found = RANGE_PATTERN.fullmatch(headers.get("Range", ""))
    if found is None or headers.get("If-Range", etag) != etag:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        start, end = max(0, size - int(suffix)), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise RangeNotSatisfiable(size)
    return start, end


@router.get(
    "/users/me/media",
    response_model=MediaPage,
    responses=problem_responses(*SCOPE_PROBLEMS, ValidationFailed),
)
async def list_pictures(
    user: CanReadDrafts, params: PageParams, paginator: PaginatorDep
) -> Page[Any]:
    """List the user's pictures, newest first."""
    return await paginator.paginate(ListQuery(media_of(user.id)), params, NEWEST_FIRST)


async def get_own_media(
    media_id: PathId, auth: CanWrite, precondition: PreconditionDep, session: SessionDep
) -> Media:
    """Lock and return a picture of the user. Raises MediaNotFound and PreconditionFailed."""
    query = media_of(auth.user.id).with_for_update()
    media = await find_media(session, query, media_id)
    precondition.check(media)
    return media


OwnMedia = Annotated[Media, Depends(get_own_media)]
CHANGE_PROBLEMS = (*WRITE_PROBLEMS, MediaNotFound, PreconditionFailed)


@router.patch(
    "/media/{media_id:int}",
    response_model=MediaRead,
    responses=problem_responses(*BODY_PROBLEMS, *CHANGE_PROBLEMS),
)
async def update_picture(
    changes: MediaUpdate, media: OwnMedia, session: SessionDep, request: Request
) -> Media:
    """Change the alternative text."""
    media.alt = changes.alt
    await session.flush()
    set_etag_row(request, media)
    return media


@router.delete(
    "/media/{media_id:int}",
    status_code=204,
    responses=problem_responses(
        *CHANGE_PROBLEMS, Conflict, MediaNotConfigured, ServiceUnavailable, ValidationFailed
    ),
)
async def delete_picture(media: OwnMedia, session: SessionDep, storage: StorageDep) -> None:
    """Delete a picture. Its file goes too, unless another user has the same picture."""
    await session.delete(media)
    await commit_and_remove_files(session, storage, [media.name])
