"""Links to this service: with the public origin if it is set, never with the `Host` header."""

from urllib.parse import quote

from fastapi import Request
from starlette.types import Scope

from blog_api.core.settings import Settings

HEALTH_PATHS = ("/health/live", "/health/ready")


def get_route_path(scope: Scope) -> str:
    """Return the path without `root_path`, which `PathPrefixes` has put before it."""
    path: str = scope["path"]
    return path.removeprefix(scope["root_path"])


def get_base_url(request: Request) -> str:
    """Return the start of every link: the public origin, if it is set, and the path prefix."""
    settings: Settings = request.app.state.settings
    origin = (settings.public_url or "").removesuffix(settings.public_path)
    root: str = request.scope["root_path"]
    return origin + root


def make_link(request: Request, path: str) -> str:
    """Return a link to an unquoted path."""
    return get_base_url(request) + quote(path)


def make_self_link(request: Request) -> str:
    """Return a link to the requested path, without the query."""
    return make_link(request, get_route_path(request.scope))


def append_query(url: str, query: str) -> str:
    """Append an encoded query, unless it is empty, to a URL without one."""
    return f"{url}?{query}" if query else url
