"""Model families of users and tokens."""

from datetime import datetime, timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import MISSING, BeforeValidator
from sqlalchemy import JSON, Index, LargeBinary, SmallInteger, String, true
from sqlmodel import Field, Relationship, SQLModel, and_, col

from blog_api.accounts.scopes import Scope, effective_scopes
from blog_api.accounts.usernames import MAX_USERNAME_LENGTH, Username
from blog_api.core.fields import (
    MAX_EMAIL_LENGTH,
    Bio,
    Email,
    Name,
    NewPassword,
    Password,
    PictureAddress,
    RequestBody,
    ResponseModel,
    Timestamp,
    schema_example,
    utc_now,
)
from blog_api.core.urls import MAX_URL_LENGTH
from blog_api.db.base import Invalidates, ReadModel, TableBase, TableModel
from blog_api.web.clients import MAX_USER_AGENT_LENGTH
from blog_api.web.pagination import Page

SESSION_LIFETIME = timedelta(weeks=2)
MAX_NAME_KEY_LENGTH = 100
MAX_ROUTE_LENGTH = 255


class UserBase(SQLModel):
    name: Name


class NewAccount(RequestBody, UserBase):
    """Fields of every new account."""

    email: Email
    username: Username | None = Field(
        default=None, description="Default: made from the name, or random."
    )


class UserCreate(NewAccount):
    """A new account."""

    # Never derived from the email address, which is private.
    name: Name = Field(
        default="Anonymous", description="Name for display, one line. Default: `Anonymous`."
    )
    password: NewPassword


class UserUpdate(RequestBody):
    """Fields to change; the others stay."""

    name: Name | MISSING = MISSING
    username: Username | MISSING = MISSING
    bio: Bio | MISSING | None = Field(
        default=MISSING,
        description="About the user, plain text. Null removes it.",
        schema_extra=schema_example("Writes about Python."),
    )
    avatar_url: PictureAddress | MISSING | None = Field(
        default=MISSING,
        description="Address of a picture of the user: http or https, or the `url` of an uploaded "
        "picture. Null removes it.",
        schema_extra=schema_example("https://example.com/ann.jpg"),
    )
    email: Email | MISSING = MISSING
    current_password: Password | None = Field(
        default=None, description="Required if the email address changes."
    )


class User(UserBase, TableModel, table=True):
    __tablename__ = "users"

    # A trigger gives a random one to users whom the version before inserts.
    username: str | None = Field(
        default=None, max_length=MAX_USERNAME_LENGTH, index=True, unique=True
    )
    bio: str | None = Field(default=None, max_length=1000)
    avatar_url: str | None = Field(default=None, max_length=MAX_URL_LENGTH)
    # Null for an imported author, until `blog-api set-password`.
    email: str | None = Field(default=None, max_length=MAX_EMAIL_LENGTH)
    # The spelling casefolded. Only the version before identifies accounts by it.
    email_key: str | None = Field(default=None, max_length=MAX_EMAIL_LENGTH, unique=True)
    # The local part casefolded, and the domain as A-labels: see `addresses.py`.
    mailbox_key: str | None = Field(default=None, max_length=2 * MAX_EMAIL_LENGTH)
    # The address is verified if it is this one: versions without the column change `email` alone.
    verified_email: str | None = Field(default=None, max_length=MAX_EMAIL_LENGTH)
    verified_at: datetime | None = None
    # Replaces `email` when it is confirmed.
    pending_email: str | None = Field(default=None, max_length=MAX_EMAIL_LENGTH)
    password_hash: str | None = Field(default=None, max_length=255)
    # Identifies an imported author in later imports: names are not unique.
    import_key: str | None = Field(default=None, max_length=255, unique=True)
    # Identifies the author of imported comments in later imports: an HMAC of the address.
    commenter_digest: str | None = Field(default=None, max_length=43)
    # False for the author of imported comments who has no posts.
    is_listed: bool = Field(default=True, sa_column_kwargs={"server_default": true()})
    is_active: bool = True
    is_admin: bool = False
    # The default is for users whom the version before inserts.
    is_author: bool = Field(default=True, sa_column_kwargs={"server_default": true()})

    @property
    def email_verified_at(self) -> datetime | None:
        return self.verified_at if self.verified_email == self.email else None

    def verify_email(self) -> None:
        """Record that a code which was mailed to the address came back."""
        if self.email_verified_at is None:
            self.verified_email, self.verified_at = self.email, utc_now()


LACKS_MAILBOX_KEY = and_(col(User.mailbox_key).is_(None), col(User.email).is_not(None))
# Partial: otherwise SQLite finds missing keys by the unique index, and reads all imported authors.
for name, column, where in (
    ("mailbox_key", col(User.mailbox_key), col(User.mailbox_key).is_not(None)),
    ("commenter_digest", col(User.commenter_digest), col(User.commenter_digest).is_not(None)),
    ("id_without_mailbox_key", col(User.id), LACKS_MAILBOX_KEY),
    ("id_listed", col(User.id), col(User.is_listed)),
):
    is_unique = not name.startswith("id_")
    Index(f"ix_users_{name}", column, unique=is_unique, postgresql_where=where, sqlite_where=where)


class UsernameClaim(TableBase, table=True):
    """A current or former username. It is never given to another user."""

    __tablename__ = "usernames"
    invalidates: ClassVar = Invalidates.NOTHING  # The user does.

    username: str = Field(max_length=MAX_USERNAME_LENGTH, primary_key=True)
    # Null: the user was deleted.
    user_id: int | None = Field(
        default=None, foreign_key="users.id", ondelete="SET NULL", index=True
    )


class NameKey(TableBase, table=True):
    """The folded name of a user from one of its words on (see `names`)."""

    __tablename__ = "name_keys"
    invalidates: ClassVar = Invalidates.NOTHING  # The user does.
    __table_args__ = (
        Index("ix_name_keys_key_user_id_shared_length", "key", "user_id", "shared_length"),
    )

    user_id: int = Field(foreign_key="users.id", ondelete="CASCADE", primary_key=True)
    # Compared by code point: the keys with a prefix are a range of the index.
    key: str = Field(
        primary_key=True,
        sa_type=String(MAX_NAME_KEY_LENGTH).with_variant(
            String(MAX_NAME_KEY_LENGTH, collation="C"), "postgresql"
        ),
    )
    shared_length: int = Field(sa_type=SmallInteger)


class BannedAddress(TableModel, table=True):
    """A digest of the address of a deleted account that was banned (see `bans`)."""

    __tablename__ = "banned_addresses"
    invalidates: ClassVar = Invalidates.NOTHING

    digest: str = Field(max_length=43, unique=True)


class UserRead(UserBase, ReadModel):
    """An account as its owner and administrators see it."""

    username: str
    """Unique name in addresses."""
    bio: str | None
    """About the user, plain text."""
    avatar_url: str | None
    """Address of a picture of the user; `/media/…` is relative to the service."""
    email: str | None
    """Email address. Null for an imported author who cannot log in yet."""
    email_verified_at: datetime | None
    """Time at which the address was verified by a mail. Null: it was not."""
    pending_email: str | None
    """Address that replaces `email` when it is confirmed. Null: there is none."""
    is_active: bool
    """False: deactivated by an administrator."""
    is_admin: bool
    """Whether the user is an administrator."""
    is_author: bool
    """Whether the user may write posts. Administrators always may."""


class AuthorRead(ResponseModel):
    """The author of a post or a comment."""

    id: int
    """Id."""
    username: str
    """Unique name in addresses."""
    name: str
    """Name."""
    avatar_url: str | None
    """Address of a picture of the user; `/media/…` is relative to the service."""


class ProfileRead(AuthorRead):
    """The public profile of a user."""

    bio: str | None
    """About the user, plain text."""
    post_count: int
    """Number of published posts."""
    created_at: datetime
    """Time of sign-up."""


class PasswordUpdate(RequestBody):
    """A new password."""

    current_password: Password
    new_password: NewPassword


class PasswordConfirmation(RequestBody):
    """The password, which confirms an action that cannot be undone."""

    current_password: Password


class TokenBase(SQLModel):
    expires_at: datetime
    """Time of expiry."""


class PersonalTokenCreate(RequestBody):
    """A new personal token."""

    name: Name
    scopes: list[Scope] | None = Field(
        default=None,
        min_length=1,
        max_length=len(Scope),
        description="Default: the scopes of the token of this request without `admin`.",
    )
    expires_at: Timestamp | None = Field(
        default=None,
        description="Default: with the token of this request; in 90 days with `current_password`.",
        schema_extra=schema_example(None),
    )
    current_password: Password | None = Field(
        default=None,
        description="Required for scopes that the token of this request lacks, and for a longer "
        "lifetime, up to a year.",
        schema_extra=schema_example(None),
    )


class Token(TokenBase, TableModel, table=True):
    """A session or a personal token: the unit of revocation.

    A session with JWT has a handle, which begins its refresh tokens and whose digest its JWTs
    carry (see `refresh_tokens`).
    """

    __tablename__ = "tokens"
    invalidates: ClassVar = Invalidates.NOTHING

    user_id: int = Field(foreign_key="users.id", ondelete="CASCADE", index=True)
    # Digest of the opaque token or of the handle.
    digest: str = Field(max_length=64, unique=True)
    # Of the current refresh token: its digest, its number, and the time since which it is current.
    # Versions without numbers change the digest alone.
    refresh_digest: str | None = Field(default=None, max_length=64)
    refresh_number: int | None = None
    refreshed_at: datetime | None = None
    # Accurate to a minute; null if the token was never used.
    last_used_at: datetime | None = None
    # Where a session began: the `User-Agent` and the network. Null for a personal token.
    client: str | None = Field(default=None, max_length=MAX_USER_AGENT_LENGTH)
    network: str | None = Field(default=None, max_length=50)
    # Null for a session.
    name: str | None = Field(default=None, max_length=100)
    scope: str = Field(max_length=100)
    user: User = Relationship(sa_relationship_kwargs={"lazy": "joined", "innerjoin": True})

    @property
    def scopes(self) -> frozenset[str]:
        return effective_scopes(self.scope, is_admin=self.user.is_admin)


class SessionRead(ResponseModel, TokenBase):
    """A session without its token."""

    id: int
    """Id."""
    created_at: datetime
    """Time of the log-in."""
    last_used_at: datetime | None
    """Time of the last use, accurate to a minute. Null: not used yet."""
    client: str | None
    """The program that logged in, as its `User-Agent` says."""
    network: str | None
    """The network from which it logged in: an IPv4 address, or a /64 of IPv6."""
    is_current: bool
    """Whether this is the session of this request."""


class SessionPage(Page[SessionRead]):
    """A page of sessions."""


class IdempotencyKey(TableBase, table=True):
    """An `Idempotency-Key` with the response of its first request (see `idempotency`)."""

    __tablename__ = "idempotency_keys"
    invalidates: ClassVar = Invalidates.NOTHING

    user_id: int = Field(foreign_key="users.id", ondelete="CASCADE", primary_key=True)
    # The path with its ids.
    route: str = Field(max_length=MAX_ROUTE_LENGTH, primary_key=True)
    digest: str = Field(max_length=64, primary_key=True)
    # Digest of the query and the body.
    fingerprint: str = Field(max_length=64)
    expires_at: datetime = Field(index=True)
    # The response is null only within the transaction that creates it.
    status: int | None = Field(default=None, sa_type=SmallInteger)
    headers: dict[str, str] | None = Field(default=None, sa_type=JSON)
    body: bytes | None = Field(default=None, sa_type=LargeBinary)


class PersonalTokenRead(ResponseModel, TokenBase):
    """A personal token without its secret."""

    id: int
    """Id."""
    name: str
    """Name."""
    scopes: Annotated[list[Scope], BeforeValidator(sorted)]
    """Scopes."""
    created_at: datetime
    """Time of creation."""
    last_used_at: datetime | None
    """Time of the last use, accurate to a minute. Null: not used yet."""


class PersonalTokenPage(Page[PersonalTokenRead]):
    """A page of personal tokens."""


class NewPersonalTokenRead(PersonalTokenRead):
    """A new personal token. Its secret is shown only once."""

    access_token: str
    """The secret, to send as `Authorization: Bearer`."""
    token_type: Literal["bearer"]
    """Always `bearer`."""


class TokenRead(ResponseModel):
    """The opaque token of a new session. It is shown only once."""

    access_token: str
    """The token, to send as `Authorization: Bearer`."""
    expires: datetime
    """Time of expiry."""
    token_type: Literal["bearer"]
    """Always `bearer`."""


class SignUp(UserCreate):
    """A new account with a session."""

    name: Name


class SignUpRead(UserRead):
    """A new account and its token."""

    token: TokenRead
    """The token of the new session."""
