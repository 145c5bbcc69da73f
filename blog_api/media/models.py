"""Model families of uploaded pictures."""

from datetime import datetime
from typing import ClassVar

from sqlmodel import Field, SQLModel, UniqueConstraint

from blog_api.core.fields import MAX_SUMMARY_LENGTH, RequestBody, ResponseModel, ShortText
from blog_api.db.base import Invalidates, TableModel
from blog_api.media.pictures import make_name
from blog_api.web.pagination import Page

DIGEST_LENGTH = 64


class MediaBase(SQLModel):
    content_type: str = Field(max_length=20)
    width: int
    height: int
    # In bytes.
    size: int
    alt: str | None = Field(max_length=MAX_SUMMARY_LENGTH)


class MediaUpdate(RequestBody):
    """The new alternative text."""

    alt: ShortText | None = Field(
        description="Alternative text, one line. Null: none.",
        schema_extra={"json_schema_extra": {"examples": ["A river at dawn."]}},
    )


class Media(MediaBase, TableModel, table=True):
    """A picture of one user; users who uploaded the same one share its file.

    `digest` is the SHA-256 of the stored bytes, `source_digest` that of the uploaded ones.
    """

    __tablename__ = "media_files"
    __table_args__ = (UniqueConstraint("user_id", "digest"),)
    # No cached response shows a row.
    invalidates: ClassVar = Invalidates.NOTHING

    user_id: int = Field(foreign_key="users.id", ondelete="CASCADE")
    digest: str = Field(max_length=DIGEST_LENGTH, index=True)
    source_digest: str = Field(max_length=DIGEST_LENGTH)

    @property
    def name(self) -> str:
        return make_name(self.digest, self.content_type)

    @property
    def url(self) -> str:
        return f"/media/{self.name}"


class BlockedDigest(TableModel, table=True):
    """The digest of a picture that an administrator removed: uploading it again is rejected."""

    __tablename__ = "blocked_digests"
    invalidates: ClassVar = Invalidates.NOTHING

    digest: str = Field(max_length=DIGEST_LENGTH, unique=True)


class MediaRead(ResponseModel, MediaBase):
    """A picture."""

    id: int
    """Id."""
    url: str
    """Path of the file, from the address of the service."""
    width: int
    """Width in pixels."""
    height: int
    """Height in pixels."""
    size: int
    """Size of the file in bytes."""
    content_type: str
    """Media type of the file."""
    alt: str | None
    """Alternative text."""


class MediaPage(Page[MediaRead]):
    """A page of the user's pictures."""


class AdminMediaRead(MediaRead):
    """A picture of any user."""

    created_at: datetime
    """Time of the upload."""
    user_id: int
    """Id of the user."""
    digest: str
    """SHA-256 of the file."""
    source_digest: str
    """SHA-256 of the bytes that were uploaded."""


class AdminMediaPage(Page[AdminMediaRead]):
    """A page of pictures of all users."""
