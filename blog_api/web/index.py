"""`GET /`: name, version and links."""

from fastapi import APIRouter, Request
from sqlmodel import Field, SQLModel

from blog_api.web.links import make_link

router = APIRouter(tags=["index"])

PATHS = {
    "docs": "/docs",
    "guide": "/guide",
    "openapi": "/openapi.json",
    "posts": "/posts",
    "tags": "/tags",
    "users": "/users",
    "json_feed": "/feed.json",
    "atom_feed": "/feed.atom",
    "rss_feed": "/feed.rss",
}


class Index(SQLModel):
    """The service and its entry points."""

    name: str = Field(description="`BLOG_TITLE`.")
    version: str = Field(description="Version of the service.")
    links: dict[str, str] = Field(description="URLs of the documentation, the lists and the feeds.")


@router.get("/")
async def read_index(request: Request) -> Index:
    """Get the name and version of the service, and links to start from."""
    links = {name: make_link(request, path) for name, path in PATHS.items()}
    return Index(name=request.app.title, version=request.app.version, links=links)
