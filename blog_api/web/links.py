"""Links: addresses of this service, as its clients see them."""

from urllib.parse import quote

from fastapi import Request
from starlette._utils import get_route_path

from blog_api.core.settings import Settings


def get_base_url(request: Request) -> str:
    """What every link begins with.

    The public address where it is set, or else nothing: what a request says of its host is
    nothing to go by. Then the prefix under which the request came.
    """
    settings: Settings = request.app.state.settings
    origin = (settings.public_url or "").removesuffix(settings.public_path)
    root: str = request.scope.get("root_path", "")
    return origin + root


def make_link(request: Request, path: str) -> str:
    """A link to a path of this service, which is not quoted yet."""
    return get_base_url(request) + quote(path)


def make_self_link(request: Request) -> str:
    """A link to where the request went, without its query."""
    return make_link(request, get_route_path(request.scope))


def append_query(address: str, query: str) -> str:
    """An address that has no query yet, with one, which is quoted, if there is any."""
    return f"{address}?{query}" if query else address
