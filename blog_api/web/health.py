"""Health checks for load balancers and process supervisors."""

from types import MappingProxyType
from typing import Literal

from fastapi import APIRouter
from sqlmodel import Field, SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette import status as codes

from blog_api.core.errors import Problem, ServiceUnavailable, problem_responses
from blog_api.db.migrate import get_current_revision, get_head_revision
from blog_api.db.session import SessionDep

router = APIRouter(prefix="/health", tags=["health"])


class Health(SQLModel):
    """The check has succeeded."""

    status: Literal["ok"] = Field(description="Always `ok`; a failed check is a 503.")


class NotReady(Problem):
    """The database does not have the schema revision of this version of the service."""

    status = codes.HTTP_503_SERVICE_UNAVAILABLE
    detail = "The database is not migrated: run blog-api migrate of the newest version"
    headers = MappingProxyType({"Retry-After": "5"})
    documented_headers = ("Retry-After",)


async def require_migrated(session: AsyncSession) -> None:
    """Raise NotReady unless the database has the schema revision of this version."""
    connection = await session.connection()
    if await connection.run_sync(get_current_revision) != get_head_revision():
        raise NotReady


@router.get("/live")
async def check_live() -> Health:
    """Check that the process responds. Does not use the database."""
    return Health(status="ok")


@router.get("/ready", responses=problem_responses(ServiceUnavailable, NotReady))
async def check_ready(session: SessionDep) -> Health:
    """Check that the database is reachable and migrated."""
    await require_migrated(session)
    return Health(status="ok")
