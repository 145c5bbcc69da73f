"""Queries of posts: which ones a user may see, how they are read, how they are locked."""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from types import MappingProxyType
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    String,
    Subquery,
    bindparam,
    case,
    inspect,
    null,
)
from sqlalchemy import cast as cast_type
from sqlalchemy import select as select_columns
from sqlalchemy.orm import QueryableAttribute, defer
from sqlmodel import and_, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from blog_api.accounts.auth import Auth, get_reader_id
from blog_api.accounts.models import User
from blog_api.db.base import NOW
from blog_api.db.functions import utf8_length
from blog_api.db.list_query import AnySelect, FoundRows, ListQuery, SelectRows
from blog_api.db.queries import NamedQuery, execute_query
from blog_api.posts.bodies import PostBody
from blog_api.posts.errors import PostGone, PostNotFound
from blog_api.posts.excerpts import complete_excerpt, excerpt_columns
from blog_api.posts.models import MAX_LISTED_BYTES, NOT_TAKEN_DOWN, Post, PostDetail, PostRead, Slug

# The posts whose contents are measured.
Sized = inspect(Post).local_table.alias("sized_posts")

# Ids of the author by the name of the bound parameter.
AUTHOR_IDS: dict[str, Any] = {
    "author": bindparam("author", type_=Integer),
    "user": bindparam("user", type_=Integer),
    "username": select(User.id)
    .where(col(User.username) == bindparam("username", type_=String))
    .scalar_subquery(),
}

IS_PUBLISHED = and_(col(Post.published_at) <= NOW, NOT_TAKEN_DOWN)
IS_SCHEDULED = and_(col(Post.published_at) > NOW, NOT_TAKEN_DOWN)


def is_visible_to(reader_id: Any) -> ColumnElement[bool]:
    """Return the condition of posts that a user may see by id or slug: published or their own."""
    return or_(IS_PUBLISHED, col(Post.user_id) == reader_id)


def select_posts(
    model: type[PostRead], texts: Mapping[str, ColumnElement[Any]] = MappingProxyType({})
) -> Select[*tuple[Any, ...]]:
    """Select the columns that a response model shows: a third of the cost of objects.

    `texts` are columns that replace the source and the HTML.
    """
    made = excerpt_columns(with_html="content_html" not in model.model_fields)
    names = model.model_fields.keys() - made.keys() - {"author", "user_name"}
    columns = {name: getattr(Post, name) for name in sorted(names)} | dict(made)
    columns |= {name: column.label(name) for name, column in texts.items()}
    return select_columns(
        *columns.values(),
        col(User.name).label("user_name"),
        col(User.username).label("author_username"),
        col(User.avatar_url).label("author_avatar_url"),
    ).join(User, col(User.id) == col(Post.user_id))


def complete_post(row: dict[str, Any]) -> None:
    """Complete a row of `select_posts()`, in place: its excerpt and its author."""
    complete_excerpt(row)
    row["author"] = {
        "id": row["user_id"],
        "username": row["author_username"],
        "name": row["user_name"],
        "avatar_url": row["author_avatar_url"],
    }


def select_found_posts(model: type[PostRead], body: PostBody = PostBody.source) -> SelectRows:
    """Return a function that selects the posts of a page, with as much text as a list holds.

    The sizes are summed in a subquery: the contents that are left out are never read.
    """

    def select_rows(found: FoundRows) -> tuple[AnySelect, Subquery]:
        ids = found.ids
        texts: dict[str, ColumnElement[Any]] = {"content": cast_type(null(), String)}
        if not body.fields:
            return select_posts(model, texts).join(ids, ids.c.id == col(Post.id)), ids
        size = reduce(add, (utf8_length(Sized.c[name]) for name in body.fields))
        sized = (
            select_columns(*ids.c, size.label("size"), found.sum_over_page(size).label("total"))
            .join(Sized, Sized.c.id == ids.c.id)
            .subquery("sized")
        )
        # The first row's total is its own size.
        fits = or_(sized.c.total <= MAX_LISTED_BYTES, sized.c.total == sized.c.size)
        texts |= {name: case((fits, getattr(Post, name))) for name in body.fields}
        return select_posts(model, texts).join(sized, sized.c.id == col(Post.id)), sized

    return select_rows


def list_of_posts(
    ids: AnySelect,
    model: type[PostRead],
    body: PostBody = PostBody.source,
    *,
    where: Sequence[ColumnElement[bool]] = (),
    total: ColumnElement[int] | None = None,
    is_reusable: bool = True,
) -> ListQuery:
    """Return the list of the posts whose ids a query selects."""
    return ListQuery(
        ids,
        where=where,
        total=total,
        select_rows=select_found_posts(model, body),
        complete_row=complete_post,
        is_reusable=is_reusable,
    )


def posts_without_html() -> SelectOfScalar[Post]:
    made = cast("list[QueryableAttribute[str]]", [Post.content_html, Post.content_text])
    return select(Post).options(*(defer(column, raiseload=True) for column in made))


async def find_post(session: AsyncSession, query: SelectOfScalar[Post]) -> Post:
    """Return the post of a query. Raises PostNotFound."""
    post = (await session.exec(query)).first()
    if post is None:
        raise PostNotFound
    return post


VISIBLE_POSTS = (
    select_posts(PostDetail)
    .add_columns(col(Post.version))
    .where(is_visible_to(bindparam("reader_id", type_=Integer)))
)
POST_BY_ID = NamedQuery(VISIBLE_POSTS.where(col(Post.id) == bindparam("post_id", type_=Integer)))
POST_BY_SLUG = NamedQuery(
    VISIBLE_POSTS.join(Slug, col(Slug.post_id) == col(Post.id)).where(
        col(Slug.slug) == bindparam("slug", type_=String),
        # Only the author sees a slug that the post had while it was hidden.
        or_(
            col(Slug.slug) == col(Post.slug),
            col(Slug.was_public),
            col(Post.user_id) == bindparam("reader_id", type_=Integer),
        ),
    )
)


async def find_visible_post(
    session: AsyncSession, auth: Auth | None, post_id: int
) -> dict[str, Any]:
    """Return the columns of a post that the user may see. Raises PostNotFound."""
    values = {"post_id": post_id, "reader_id": get_reader_id(auth)}
    posts = await execute_query(session, POST_BY_ID, values)
    if not posts:
        raise PostNotFound
    complete_post(posts[0])
    return posts[0]


async def find_visible_post_by_slug(
    session: AsyncSession, auth: Auth | None, slug: str
) -> dict[str, Any]:
    """Return the columns of the post that has a slug or was public under it.

    Raises PostGone if that post was deleted, and PostNotFound.
    """
    values = {"slug": slug, "reader_id": get_reader_id(auth)}
    posts = await execute_query(session, POST_BY_SLUG, values)
    if posts:
        complete_post(posts[0])
        return posts[0]
    of_deleted = select(Slug).where(
        col(Slug.slug) == slug, col(Slug.post_id).is_(None), col(Slug.was_public)
    )
    raise PostNotFound if (await session.exec(of_deleted)).first() is None else PostGone
