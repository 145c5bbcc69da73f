"""Tables and schemas, shared by both tutorials."""

from datetime import datetime

from pydantic import AwareDatetime
from sqlalchemy import JSON, DateTime
from sqlmodel import Field, Relationship, SQLModel

from .texts import to_html, utc_now


class User(SQLModel, table=True):
    __tablename__ = "users"

    id: int = Field(default=None, primary_key=True)
    created_at: datetime = Field(default_factory=utc_now, sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(default_factory=utc_now, sa_type=DateTime(timezone=True))
    name: str
    email: str | None = None
    is_active: bool = True
    is_admin: bool = False


class Token(SQLModel, table=True):
    __tablename__ = "tokens"

    id: int = Field(default=None, primary_key=True)
    user_id: int = Field(foreign_key="users.id")
    digest: str
    refresh_digest: str | None = None
    expires_at: datetime = Field(sa_type=DateTime(timezone=True))


class PostTag(SQLModel, table=True):
    __tablename__ = "post_tags"

    tag_id: int = Field(foreign_key="tags.id", primary_key=True)
    post_id: int = Field(foreign_key="posts.id", primary_key=True)
    # Copied from the post, for the index of the lists by tag.
    published_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(sa_type=DateTime(timezone=True))


class Tag(SQLModel, table=True):
    __tablename__ = "tags"

    id: int = Field(default=None, primary_key=True)
    created_at: datetime = Field(default_factory=utc_now, sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(default_factory=utc_now, sa_type=DateTime(timezone=True))
    name: str
    key: str


class Slug(SQLModel, table=True):
    __tablename__ = "slugs"

    id: int = Field(default=None, primary_key=True)
    created_at: datetime = Field(default_factory=utc_now, sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(default_factory=utc_now, sa_type=DateTime(timezone=True))
    slug: str
    post_id: int | None = Field(default=None, foreign_key="posts.id")


class Post(SQLModel, table=True):
    __tablename__ = "posts"

    id: int = Field(default=None, primary_key=True)
    created_at: datetime = Field(default_factory=utc_now, sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(default_factory=utc_now, sa_type=DateTime(timezone=True))
    title: str
    content: str
    content_html: str
    slug: str
    published_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    taken_down_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    tags: list[str] = Field(default_factory=list, sa_type=JSON)
    version: int = 1
    comment_count: int = 0
    bookmark_count: int = 0
    user_id: int = Field(foreign_key="users.id")
    user: User = Relationship(sa_relationship_kwargs={"lazy": "joined", "innerjoin": True})

    @property
    def user_name(self) -> str:
        return self.user.name


class UserRead(SQLModel):
    id: int
    created_at: datetime
    updated_at: datetime
    name: str
    email: str | None
    is_active: bool
    is_admin: bool


class PostCreate(SQLModel):
    title: str = Field(min_length=1, max_length=255)
    content: str = Field(min_length=1, max_length=500_000)
    published_at: AwareDatetime | None = Field(default_factory=utc_now)
    tags: list[str] = Field(default_factory=list, max_length=10)


class PostRead(SQLModel):
    id: int
    created_at: datetime
    updated_at: datetime
    title: str
    content: str
    slug: str
    published_at: datetime | None
    user_id: int
    user_name: str
    tags: list[str]
    comment_count: int
    bookmark_count: int


class PostDetail(PostRead):
    content_html: str


class PostPage(SQLModel):
    total_count: int
    results: list[PostRead]


def new_post(new: PostCreate, user: User, slug: str) -> Post:
    return Post(
        title=new.title,
        content=new.content,
        content_html=to_html(new.content),
        published_at=new.published_at,
        tags=new.tags,
        slug=slug,
        user_id=user.id,
        user=user,
    )


def tagged(post: Post, tag: Tag) -> PostTag:
    return PostTag(
        tag_id=tag.id, post_id=post.id, published_at=post.published_at, updated_at=post.updated_at
    )
