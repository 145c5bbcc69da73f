"""Model families of the administration."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import MISSING, StrictBool
from sqlalchemy import ColumnElement, Index
from sqlmodel import Field, col

from blog_api.accounts.models import NewAccount, UserRead
from blog_api.core.fields import (
    MAX_INT32,
    MAX_SUMMARY_LENGTH,
    Email,
    NewPassword,
    RequestBody,
    ResponseModel,
    ShortText,
    Timestamp,
    schema_example,
)
from blog_api.db.base import Invalidates, TableModel
from blog_api.web.pagination import Page, PageQuery

AuditId = Annotated[int, Field(ge=1, le=MAX_INT32)]


class AuditAction(StrEnum):
    """An action of an administrator."""

    activate_user = "activate-user"
    deactivate_user = "deactivate-user"
    make_admin = "make-admin"
    dismiss_admin = "dismiss-admin"
    make_author = "make-author"
    dismiss_author = "dismiss-author"
    open_account = "open-account"
    delete_user = "delete-user"
    lift_ban = "lift-ban"
    set_password = "set-password"
    take_down_post = "take-down-post"
    restore_post = "restore-post"
    delete_post = "delete-post"
    delete_comment = "delete-comment"
    approve_comment = "approve-comment"
    withdraw_approval = "withdraw-approval"
    delete_media = "delete-media"


class AuditEntry(TableModel, table=True):
    """An action. Its ids are no foreign keys, since it outlives the rows; ids are never reused."""

    __tablename__ = "audit_entries"
    invalidates: ClassVar = Invalidates.NOTHING

    # Null: done on the command line.
    admin_id: int | None = None
    action: str = Field(max_length=50)
    user_id: int | None = None
    post_id: int | None = None
    comment_id: int | None = None
    media_id: int | None = None
    reason: str | None = Field(default=None, max_length=MAX_SUMMARY_LENGTH)


# The list is a range of one of these indexes, with a filter or a time.
AUDIT_FILTERS = ("action", "admin_id", "user_id", "post_id", "comment_id", "media_id")
for name in AUDIT_FILTERS:
    Index(
        f"ix_audit_entries_{name}_created_at_id",
        getattr(AuditEntry, name),
        col(AuditEntry.created_at),
        col(AuditEntry.id),
    )
Index("ix_audit_entries_created_at_id", col(AuditEntry.created_at), col(AuditEntry.id))


class AuditEntryRead(ResponseModel):
    """An action of an administrator."""

    id: int
    """Id."""
    created_at: datetime
    """Time of the action."""
    admin_id: int | None = Field(description="Null: done on the command line.")
    action: AuditAction
    """The action."""
    user_id: int | None
    """Id of the affected user."""
    post_id: int | None
    """Id of the affected post."""
    comment_id: int | None
    """Id of the affected comment."""
    media_id: int | None
    """Id of the affected picture."""
    reason: str | None
    """The administrator's reason for a takedown. Null: none was given."""


class AuditEntryPage(Page[AuditEntryRead]):
    """A page of the audit log."""


class AuditQuery(PageQuery):
    """Filters, combined with AND, and the page of the audit log."""

    action: AuditAction | None = Field(default=None, description="The action.")
    admin: AuditId | None = Field(default=None, description="Id of the administrator.")
    user: AuditId | None = Field(default=None, description="Id of the affected user.")
    post: AuditId | None = Field(default=None, description="Id of the affected post.")
    comment: AuditId | None = Field(default=None, description="Id of the affected comment.")
    media: AuditId | None = Field(default=None, description="Id of the affected picture.")
    since: Timestamp | None = Field(default=None, description="At this time or later.")
    until: Timestamp | None = Field(default=None, description="Before this time.")

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions of the filters that were sent, the time last."""
        values = {
            "action": self.action,
            "admin_id": self.admin,
            "user_id": self.user,
            "post_id": self.post,
            "comment_id": self.comment,
            "media_id": self.media,
        }
        found = [
            col(getattr(AuditEntry, name)) == value
            for name, value in values.items()
            if value is not None
        ]
        created_at = col(AuditEntry.created_at)
        if self.since is not None:
            found.append(created_at >= self.since)
        if self.until is not None:
            found.append(created_at < self.until)
        return found


class TakedownUpdate(RequestBody):
    """Why a post is taken down."""

    reason: ShortText | MISSING | None = Field(
        default=MISSING,
        description="Reason, one line, which the author and administrators see. Omitted: "
        "unchanged. Null: none.",
        schema_extra=schema_example("Advertising."),
    )


class BanLift(RequestBody):
    """The address of a deleted account that was banned."""

    email: Email


class PostState(StrEnum):
    """The state of a post."""

    draft = "draft"
    scheduled = "scheduled"
    published = "published"
    taken_down = "taken-down"


class AccountCreate(NewAccount):
    """A new account of somebody else."""

    is_author: StrictBool | MISSING = Field(
        default=MISSING,
        description="Whether the user may write posts. Default: as for those who sign up.",
    )
    password: NewPassword | None = Field(
        default=None,
        description="Required if the service sends no mail. Default: the user chooses one by a "
        "code that is mailed to the address and valid for a week.",
    )


class AccountUpdate(RequestBody):
    """Fields to change; the others stay."""

    is_active: StrictBool | MISSING = Field(
        default=MISSING, description="Whether the user may log in."
    )
    is_admin: StrictBool | MISSING = Field(
        default=MISSING, description="Whether the user is an administrator."
    )
    is_author: StrictBool | MISSING = Field(
        default=MISSING, description="Whether the user may write posts. Administrators always may."
    )


class AccountPage(Page[UserRead]):
    """A page of accounts."""


class UserStats(ResponseModel):
    """Numbers of users."""

    total: int
    """All users."""
    active: int
    """Active users."""
    admins: int = Field(description="Active administrators.")


class PostStats(ResponseModel):
    """Numbers of posts by state."""

    draft: int
    """Drafts."""
    scheduled: int
    """Scheduled posts."""
    published: int
    """Published posts."""
    taken_down: int
    """Posts that were taken down."""


class Stats(ResponseModel):
    """Numbers of users and posts."""

    users: UserStats
    """Numbers of users."""
    posts: PostStats
    """Numbers of posts."""
