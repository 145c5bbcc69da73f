"""Scopes: what a token is good for."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from blog_api.errors import BadRequest, Forbidden, OAuth2Problem
from blog_api.users import User, UserRow


class Scope(StrEnum):
    """What a token is good for."""

    users_read = "users:read"
    users_write = "users:write"
    posts_read = "posts:read"
    posts_write = "posts:write"
    admin = "admin"


SCOPES = {
    Scope.users_read: "Read your account and list your personal tokens.",
    Scope.users_write: "Change your account, your password and your personal tokens.",
    Scope.posts_read: "Read your own posts, drafts too.",
    Scope.posts_write: "Write, change and delete posts.",
    Scope.admin: "Administrate. It has to be asked for, and is given to administrators alone.",
}
USUAL_SCOPES = frozenset(SCOPES) - {Scope.admin}


class InvalidScope(OAuth2Problem, BadRequest):
    detail = "There is no such scope, or it is not for you"
    error = "invalid_scope"


class InsufficientScope(Forbidden):
    """The token is not good for this; `WWW-Authenticate` names the scope (RFC 6750, 3.1)."""

    detail = "This token lacks the scope that is needed"
    shown_headers = ("WWW-Authenticate",)

    @classmethod
    def members(cls) -> dict[str, Any]:
        return {"scope": (str, Field(description="What is needed."))}

    def content(self) -> dict[str, Any]:
        return {"scope": self.scope}

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}


def scopes_of(user: User | UserRow) -> frozenset[str]:
    """What a user may have."""
    return frozenset(SCOPES) if user.is_admin else USUAL_SCOPES


def choose_scopes(asked: str, may_have: frozenset[str]) -> frozenset[str]:
    """What is asked for; all that one may have but `admin` if nothing is. Raises InvalidScope."""
    scopes = frozenset(asked.split()) or may_have & USUAL_SCOPES
    if not scopes <= may_have:
        raise InvalidScope
    return scopes
