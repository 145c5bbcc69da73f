"""Model families of the administration."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import StrictBool
from sqlmodel import Field, SQLModel

from blog_api.accounts.models import UserRead
from blog_api.core.fields import RequestBody
from blog_api.db.base import Invalidates, TableModel
from blog_api.web.pagination import Page


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


class AuditEntry(TableModel, table=True):
    """One change. Its ids refer to no row, since it outlives them all; no id is used twice."""

    __tablename__ = "audit_entries"
    invalidates: ClassVar = Invalidates.NOTHING

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


class PostState(StrEnum):
    """What a post is for its readers."""

    draft = "draft"
    scheduled = "scheduled"
    published = "published"
    taken_down = "taken-down"


class AccountUpdate(RequestBody):
    """What changes of an account; what is left out stays."""

    # Only what is sent is used; a factory keeps the default out of OpenAPI.
    is_active: StrictBool = Field(default_factory=bool)
    is_admin: StrictBool = Field(default_factory=bool)


class AccountPage(Page[UserRead]):
    """A page of accounts, and how many there are on all pages."""


class UserStats(SQLModel):
    """How many users there are."""

    total: int
    active: int
    admins: int = Field(description="Those who are active.")


class PostStats(SQLModel):
    """How many posts there are in each state."""

    draft: int
    scheduled: int
    published: int
    taken_down: int


class Stats(SQLModel):
    """How much there is of everything."""

    users: UserStats
    posts: PostStats
