"""Health: whether the process lives, and whether it can serve."""

from types import MappingProxyType
from typing import Literal

from fastapi import APIRouter
from sqlmodel import SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette import status as codes

from blog_api.core.errors import Problem, ServiceUnavailable, problem_responses
from blog_api.db.migrate import get_current_revision, get_head_revision
from blog_api.db.session import SessionDep

router = APIRouter(prefix="/health", tags=["health"])


class Health(SQLModel):
    """All is well."""

    status: Literal["ok"]


class NotReady(Problem):
    """The database is not at the revision that this version of the service works with."""

    status = codes.HTTP_503_SERVICE_UNAVAILABLE
    detail = "The database is not migrated: run blog-api migrate"
    headers = MappingProxyType({"Retry-After": "5"})
    documented_headers = ("Retry-After",)


async def require_migrated(session: AsyncSession) -> None:
    """Raise NotReady unless the database is at this version's revision."""
    connection = await session.connection()
    if await connection.run_sync(get_current_revision) != get_head_revision():
        raise NotReady


@router.get("/live")
async def check_live() -> Health:
    """Tell that the process answers. It does not ask the database."""
    return Health(status="ok")


@router.get("/ready", responses=problem_responses(ServiceUnavailable, NotReady))
async def check_ready(session: SessionDep) -> Health:
    """Tell whether the database answers and is migrated, so that requests can be served."""
    await require_migrated(session)
    return Health(status="ok")
