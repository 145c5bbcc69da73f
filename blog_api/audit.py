"""The audit: what administrators did."""

from datetime import datetime
from enum import StrEnum

from fastapi import APIRouter
from sqlmodel import Field, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.collection import Collection, Sort
from blog_api.errors import ServiceUnavailable, ValidationFailed, raises
from blog_api.paging import Page, PagesDep, Paging
from blog_api.tables import Row
from blog_api.tokens import USER_PROBLEMS, Admin
from blog_api.users import UserRow

router = APIRouter(
    prefix="/admin", tags=["admin"], responses=raises(ServiceUnavailable, *USER_PROBLEMS)
)


class AuditAction(StrEnum):
    """What was done."""

    activate_user = "activate-user"
    deactivate_user = "deactivate-user"
    make_admin = "make-admin"
    dismiss_admin = "dismiss-admin"
    set_password = "set-password"
    take_down_post = "take-down-post"
    restore_post = "restore-post"
    delete_post = "delete-post"
    delete_comment = "delete-comment"


class AuditEntry(Row, table=True):
    """One change. Its ids refer to no row, since it outlives them all; no id is used twice."""

    __tablename__ = "audit_entries"

    # Nobody's where it was done on the command line.
    admin_id: int | None = None
    action: str = Field(max_length=50)
    user_id: int | None = None
    post_id: int | None = None
    comment_id: int | None = None


class AuditEntryRead(SQLModel):
    """A change by an administrator."""

    id: int
    created_at: datetime
    admin_id: int | None = Field(description="Null: on the command line.")
    action: AuditAction
    user_id: int | None
    post_id: int | None
    comment_id: int | None


class AuditEntryPage(Page[AuditEntryRead]):
    """A page of the audit, and how long that is."""


ENTRIES = Collection(select(AuditEntry))
LATEST = Sort("-id", (col(AuditEntry.id),), is_descending=True)


def record(
    session: AsyncSession,
    admin: UserRow | None,
    action: AuditAction,
    *,
    user_id: int | None = None,
    post_id: int | None = None,
    comment_id: int | None = None,
) -> None:
    """Leave a line, in the transaction of what it tells."""
    admin_id = admin.id if admin else None
    session.add(
        AuditEntry(
            admin_id=admin_id,
            action=action,
            user_id=user_id,
            post_id=post_id,
            comment_id=comment_id,
        )
    )


@router.get("/audit", response_model=AuditEntryPage, responses=raises(ValidationFailed))
async def list_audit_entries(_: Admin, paging: Paging, pages: PagesDep) -> Page[AuditEntry]:
    """List what administrators did, the latest first."""
    return await pages.show(ENTRIES, paging, LATEST)
