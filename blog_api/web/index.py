"""`GET /`: the name, the version and links to start from."""

from fastapi import APIRouter, Request
from sqlmodel import SQLModel

from blog_api.web.links import make_link

router = APIRouter(tags=["index"])

PATHS = {
    "docs": "/docs",
    "openapi": "/openapi.json",
    "posts": "/posts",
    "tags": "/tags",
    "users": "/users",
    "json_feed": "/feed.json",
    "atom_feed": "/feed.atom",
    "rss_feed": "/feed.rss",
}


class Index(SQLModel):
    """The service and where to go on."""

    name: str
    version: str
    links: dict[str, str]


@router.get("/")
async def read_index(request: Request) -> Index:
    """Return the name, the version and links to the documentation and the lists."""
    links = {name: make_link(request, path) for name, path in PATHS.items()}
    return Index(name=request.app.title, version=request.app.version, links=links)
