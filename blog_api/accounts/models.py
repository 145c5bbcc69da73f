"""Model families of users and tokens."""

from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator
from sqlalchemy import Row as RowOfColumns
from sqlmodel import Field, Relationship, SQLModel

from blog_api.accounts.scopes import Scope, effective_scopes
from blog_api.core.fields import (
    MAX_EMAIL_LENGTH,
    Email,
    Name,
    NewPassword,
    Password,
    RequestBody,
    Timestamp,
    schema_example,
)
from blog_api.db.base import Invalidates, ReadModel, TableModel
from blog_api.web.pagination import Page


class UserBase(SQLModel):
    name: Name


class UserCreate(RequestBody, UserBase):
    """A new account."""

    email: Email
    # An address is nobody's business: a name is never made from it.
    name: Name = "Anonymous"
    password: NewPassword


class User(UserBase, TableModel, table=True):
    __tablename__ = "users"

    # Who was imported as an author has neither, until `blog-api set-password`.
    email: str | None = Field(default=None, max_length=MAX_EMAIL_LENGTH)
    email_key: str | None = Field(default=None, max_length=MAX_EMAIL_LENGTH, unique=True)
    password_hash: str | None = Field(default=None, max_length=255)
    # By this an import knows its authors again. A name would make anybody their namesake.
    import_key: str | None = Field(default=None, max_length=255, unique=True)
    is_active: bool = True
    is_admin: bool = False


# A user who is read and not changed: a row of what is known of them.
UserRow = RowOfColumns[*tuple[Any, ...]]


class UserRead(UserBase, ReadModel):
    """An account, as its owner sees it."""

    email: str | None = Field(description="Null: an imported author who does not log in yet.")
    is_active: bool
    is_admin: bool


class ProfileRead(SQLModel):
    """A user, as everybody sees them."""

    id: int
    name: str
    created_at: datetime


SESSION_LIFETIME = timedelta(weeks=2)


class Token(TableModel, table=True):
    """One log-in, or one personal token: what is revoked as a whole.

    A log-in with JWT has a handle, with which its refresh tokens begin. Its JWTs carry the
    handle's digest; of the refresh tokens the last is good.
    """

    __tablename__ = "tokens"
    invalidates: ClassVar = Invalidates.NOTHING

    user_id: int = Field(foreign_key="users.id", ondelete="CASCADE", index=True)
    # Of the token itself, or of the handle.
    digest: str = Field(max_length=64, unique=True)
    refresh_digest: str | None = Field(default=None, max_length=64)
    # Personal tokens alone have one.
    name: str | None = Field(default=None, max_length=100)
    scope: str = Field(max_length=100)
    expires_at: datetime
    user: User = Relationship(sa_relationship_kwargs={"lazy": "joined", "innerjoin": True})

    @property
    def scopes(self) -> frozenset[str]:
        return effective_scopes(self.scope, is_admin=self.user.is_admin)


class TokenRead(SQLModel):
    """A new token. It is shown this once."""

    access_token: str
    expires: datetime
    token_type: Literal["bearer"]


class SignUp(UserCreate):
    """A new account, which is logged in to at once."""

    name: Name


class SignUpRead(UserRead):
    """A new account, and a token for it."""

    token: TokenRead


class PersonalTokenCreate(RequestBody):
    """A new token."""

    name: Name
    scopes: list[Scope] | None = Field(
        default=None,
        min_length=1,
        max_length=len(Scope),
        description="Left out: those of the token that is presented, but `admin`.",
    )
    expires_at: Timestamp | None = Field(
        default=None,
        description="Left out: with the token presented; with `current_password`, in 90 days.",
        schema_extra=schema_example(None),
    )
    current_password: Password | None = Field(
        default=None,
        description="Needed for scopes that the token presented does not have, and for a "
        "longer life, up to a year.",
        schema_extra=schema_example(None),
    )


class PersonalTokenRead(SQLModel):
    """A personal token, without its secret."""

    id: int
    name: str
    scopes: Annotated[list[Scope], BeforeValidator(sorted)]
    created_at: datetime
    expires_at: datetime


class PersonalTokenPage(Page[PersonalTokenRead]):
    """A page of personal tokens, and how many there are on all pages."""


class NewPersonalTokenRead(PersonalTokenRead):
    """A new token. The secret is shown this once."""

    access_token: str
    token_type: Literal["bearer"]


class UserUpdate(RequestBody):
    """What changes of an account; what is left out stays."""

    # Only what is sent is used; a factory keeps the default out of OpenAPI, where generated
    # clients would find and send it.
    name: Name = Field(default_factory=str)
    email: Email = Field(default_factory=str)
    current_password: Password | None = Field(
        default=None, description="Needed where the email address changes."
    )


class PasswordUpdate(RequestBody):
    """Another password."""

    current_password: Password
    new_password: NewPassword


class PasswordConfirmation(RequestBody):
    """The password, to confirm what cannot be undone."""

    current_password: Password
