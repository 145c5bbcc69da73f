"""OAuth2 scopes (RFC 6749, 3.3)."""

from collections.abc import Collection
from enum import StrEnum

from blog_api.accounts.errors import InvalidScope


class Scope(StrEnum):
    """A permission of a token."""

    users_read = "users:read"
    users_write = "users:write"
    posts_read = "posts:read"
    posts_write = "posts:write"
    admin = "admin"


SCOPES = {
    Scope.users_read: "Read your account and list your personal tokens.",
    Scope.users_write: "Change your account, your password and your personal tokens.",
    Scope.posts_read: "Read your own posts, including drafts.",
    Scope.posts_write: "Write, change and delete posts and comments; approve those on your posts.",
    Scope.admin: "Administrate. Granted on request only, and only to administrators.",
}
DEFAULT_SCOPES = frozenset(SCOPES) - {Scope.admin}


def allowed_scopes(*, is_admin: bool) -> frozenset[str]:
    """Return the scopes that a user may have."""
    return frozenset(SCOPES) if is_admin else DEFAULT_SCOPES


def effective_scopes(granted: str, *, is_admin: bool) -> frozenset[str]:
    """Return the granted scopes that the user still may have: a former administrator lost one."""
    return frozenset(granted.split()) & allowed_scopes(is_admin=is_admin)


def resolve_scopes(requested: str, allowed: frozenset[str]) -> frozenset[str]:
    """Return the requested scopes, by default all but `admin`. Raises InvalidScope."""
    # Only U+0020 separates (RFC 6749, 3.3): other blank text must not mean the default.
    scopes = frozenset(requested.split(" ")) - {""} or allowed & DEFAULT_SCOPES
    if not scopes <= allowed:
        raise InvalidScope
    return scopes


def join_scopes(scopes: Collection[str]) -> str:
    return " ".join(sorted(scopes))
