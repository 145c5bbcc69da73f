"""Model families of the administration."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import MISSING, StrictBool
from sqlmodel import Field

from blog_api.accounts.models import NewAccount, UserRead
from blog_api.core.fields import NewPassword, RequestBody, ResponseModel
from blog_api.db.base import Invalidates, TableModel
from blog_api.web.pagination import Page


class AuditAction(StrEnum):
    """An action of an administrator."""

    activate_user = "activate-user"
    deactivate_user = "deactivate-user"
    make_admin = "make-admin"
    dismiss_admin = "dismiss-admin"
    make_author = "make-author"
    dismiss_author = "dismiss-author"
    open_account = "open-account"
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


class AuditEntryPage(Page[AuditEntryRead]):
    """A page of the audit log."""


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
