"""The blog as tutorials write it: asynchronous SQLModel, on asyncpg."""

import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from .models import (
    Post,
    PostCreate,
    PostDetail,
    PostPage,
    PostRead,
    Slug,
    Tag,
    Token,
    User,
    UserRead,
    new_post,
    tagged,
)
from .texts import another_slug, digest, slug_of, utc_now

engine = create_async_engine(
    make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg")
)
sessions = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)

app = FastAPI()
bearer = HTTPBearer()


async def get_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]


async def get_current_user(
    session: SessionDep, credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]
) -> User:
    query = (
        select(User)
        .join(Token, col(Token.user_id) == col(User.id))
        .where(
            Token.digest == digest(credentials.credentials),
            col(Token.refresh_digest).is_(None),
            Token.expires_at > utc_now(),
        )
    )
    user = (await session.exec(query)).first()
    if user is None or not user.is_active:
        raise HTTPException(401, "Not authenticated")
    return user


CurrentUser = Annotated[User, Depends(get_current_user)]


def is_published() -> tuple[Any, ...]:
    return col(Post.published_at) <= utc_now(), col(Post.taken_down_at).is_(None)


@app.get("/posts", response_model=PostPage)
async def list_posts(
    session: SessionDep,
    page: Annotated[int, Query(ge=1)] = 1,
    size: Annotated[int, Query(ge=1, le=100)] = 10,
) -> dict[str, Any]:
    count = select(func.count()).select_from(Post).where(*is_published())
    query = (
        select(Post)
        .where(*is_published())
        .order_by(col(Post.published_at).desc(), col(Post.id).desc())
        .offset((page - 1) * size)
        .limit(size)
    )
    return {
        "total_count": (await session.exec(count)).one(),
        "results": (await session.exec(query)).all(),
    }


@app.get("/posts/{post_id}", response_model=PostDetail)
async def read_post(post_id: int, session: SessionDep) -> Post:
    post = (await session.exec(select(Post).where(Post.id == post_id, *is_published()))).first()
    if post is None:
        raise HTTPException(404, "Post not found")
    return post


@app.get("/users/me", response_model=UserRead)
async def read_me(user: CurrentUser) -> User:
    return user


@app.post("/posts", status_code=201, response_model=PostRead)
async def create_post(new: PostCreate, user: CurrentUser, session: SessionDep) -> Post:
    slug = slug_of(new.title)
    if (await session.exec(select(Slug).where(Slug.slug == slug))).first() is not None:
        slug = another_slug(slug)
    post = new_post(new, user, slug)
    session.add(post)
    await session.flush()
    session.add(Slug(slug=slug, post_id=post.id))
    for name in new.tags:
        key = name.casefold()
        tag = (await session.exec(select(Tag).where(Tag.key == key))).first()
        if tag is None:
            tag = Tag(name=name, key=key)
            session.add(tag)
            await session.flush()
        session.add(tagged(post, tag))
    await session.commit()
    return post
