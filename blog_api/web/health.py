"""Health checks for load balancers and process supervisors."""

import logging
from types import MappingProxyType
from typing import Literal

from anyio import to_thread
from fastapi import APIRouter, Request
from sqlmodel import Field, SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette import status as codes

from blog_api.core.errors import Problem, ServiceUnavailable, problem_responses
from blog_api.core.fields import schema_example
from blog_api.db.readiness import check_disk, require_writable
from blog_api.db.revisions import Fit, Schema, get_schema
from blog_api.db.session import SessionDep

log = logging.getLogger(__name__)

router = APIRouter(prefix="/health", tags=["health"])


class Health(SQLModel):
    """The check has succeeded."""

    status: Literal["ok"] = Field(description="Always `ok`; a failed check is a 503.")
    detail: str | None = Field(
        default=None,
        description="Present if a newer version migrated the database, or if the disk of uploaded "
        "pictures is full.",
        schema_extra=schema_example(None),
    )


class NotReady(Problem):
    """This version of the service cannot use the schema of the database."""

    status = codes.HTTP_503_SERVICE_UNAVAILABLE
    detail = Fit.OLDER.value
    headers = MappingProxyType({"Retry-After": "5"})
    documented_headers = ("Retry-After",)

    def __init__(self, schema: Schema) -> None:
        self.detail = str(schema)


async def require_migrated(session: AsyncSession) -> Schema:
    """Raise NotReady unless this version can use the schema of the database."""
    connection = await session.connection()
    schema = await connection.run_sync(get_schema)
    if not schema.is_usable:
        raise NotReady(schema)
    return schema


@router.get("/live", response_model_exclude_none=True)
async def check_live() -> Health:
    """Check that the process responds. Does not use the database."""
    return Health(status="ok")


@router.get(
    "/ready",
    response_model_exclude_none=True,
    responses=problem_responses(ServiceUnavailable, NotReady),
)
async def check_ready(request: Request, session: SessionDep) -> Health:
    """Check that the database can be written, and that this version can use its schema."""
    schema = await require_migrated(session)
    await require_writable(session)
    details = [str(schema)] if schema.fit is Fit.NEWER else []
    folder = request.app.state.settings.media_folder
    if folder is not None and (reason := await to_thread.run_sync(check_disk, folder)):
        log.error("Pictures cannot be stored: %s", reason)
        details.append(f"Pictures cannot be stored: {reason}")
    return Health(status="ok", detail="; ".join(details) or None)
