"""The audit log: `/admin/audit`."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.auth import Admin, AuthenticatedUser
from blog_api.accounts.errors import SCOPE_PROBLEMS
from blog_api.admin.models import AuditAction, AuditEntry, AuditEntryPage, AuditQuery
from blog_api.core.errors import ServiceUnavailable, ValidationFailed, problem_responses
from blog_api.db.list_query import ListQuery, Sort
from blog_api.web.pagination import Page, PaginatorDep

router = APIRouter(
    prefix="/admin",
    tags=["admin"],
    responses=problem_responses(ServiceUnavailable, *SCOPE_PROBLEMS),
)

ENTRIES = ListQuery(select(AuditEntry))

NEWEST_FIRST = Sort("-id", (col(AuditEntry.id),), is_descending=True)
# With a filter: a range of its index.
LATEST_FIRST = Sort(
    "-created_at", (col(AuditEntry.created_at), col(AuditEntry.id)), is_descending=True
)


def record_audit_entry(
    session: AsyncSession,
    admin: AuthenticatedUser | None,
    action: AuditAction,
    *,
    user_id: int | None = None,
    post_id: int | None = None,
    comment_id: int | None = None,
    media_id: int | None = None,
    reason: str | None = None,
) -> None:
    """Add an audit entry in the transaction of the action itself."""
    admin_id = admin.id if admin else None
    session.add(
        AuditEntry(
            admin_id=admin_id,
            action=action,
            user_id=user_id,
            post_id=post_id,
            comment_id=comment_id,
            media_id=media_id,
            reason=reason,
        )
    )


@router.get("/audit", response_model=AuditEntryPage, responses=problem_responses(ValidationFailed))
async def list_audit_entries(
    _: Admin, query: Annotated[AuditQuery, Query()], paginator: PaginatorDep
) -> Page[AuditEntry]:
    """List the actions of administrators, newest first: all, or those by filters."""
    conditions = query.conditions()
    if not conditions:
        return await paginator.paginate(ENTRIES, query, NEWEST_FIRST)
    found = ListQuery(select(AuditEntry).where(*conditions))
    return await paginator.paginate(found, query, LATEST_FIRST)
