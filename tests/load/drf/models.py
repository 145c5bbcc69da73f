"""The tables of the service, without the columns that the blog of a tutorial does not have."""

from typing import Any

from django.contrib.postgres.search import SearchVectorField
from django.db import models

from ..tutorial.texts import utc_now


class JSONList(models.JSONField):
    """A column of the type `json`, which the driver parses; Django's own is `jsonb`."""

    def db_type(self, connection: Any) -> str:
        return "json"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return value


class Table(models.Model):
    """A table that the migrations of the service create."""

    created_at = models.DateTimeField(default=utc_now)
    updated_at = models.DateTimeField(default=utc_now)

    class Meta:
        abstract = True
        managed = False


class User(Table):
    name = models.TextField()
    username = models.TextField()
    bio = models.TextField(null=True)
    avatar_url = models.TextField(null=True)
    email = models.TextField(null=True)
    is_active = models.BooleanField(default=True)
    is_admin = models.BooleanField(default=False)

    # What the permissions of REST framework read.
    is_authenticated = True

    class Meta(Table.Meta):
        db_table = "users"


class Token(Table):
    user = models.ForeignKey(User, models.CASCADE)
    digest = models.TextField()
    refresh_digest = models.TextField(null=True)
    expires_at = models.DateTimeField()

    class Meta(Table.Meta):
        db_table = "tokens"


class Post(Table):
    title = models.CharField(max_length=255)
    content = models.CharField(max_length=500_000)
    content_html = models.TextField()
    slug = models.TextField()
    published_at = models.DateTimeField(default=utc_now, null=True)
    taken_down_at = models.DateTimeField(null=True)
    tags = JSONList(default=list)
    version = models.IntegerField(default=1)
    comment_count = models.IntegerField(default=0)
    bookmark_count = models.IntegerField(default=0)
    user = models.ForeignKey(User, models.CASCADE, related_name="posts")

    class Meta(Table.Meta):
        db_table = "posts"


class SearchEntry(models.Model):
    post = models.OneToOneField(Post, models.CASCADE, primary_key=True, related_name="search")
    vector = SearchVectorField()

    class Meta(Table.Meta):
        db_table = "post_search"


class Slug(Table):
    slug = models.TextField()
    post = models.ForeignKey(Post, models.CASCADE)

    class Meta(Table.Meta):
        db_table = "slugs"


class Tag(Table):
    name = models.TextField()
    key = models.TextField()

    class Meta(Table.Meta):
        db_table = "tags"


class PostTag(models.Model):
    pk = models.CompositePrimaryKey("tag_id", "post_id")
    tag = models.ForeignKey(Tag, models.CASCADE)
    post = models.ForeignKey(Post, models.CASCADE)
    published_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField()

    class Meta(Table.Meta):
        db_table = "post_tags"


class Comment(Table):
    content = models.CharField(max_length=10_000)
    post = models.ForeignKey(Post, models.CASCADE)
    user = models.ForeignKey(User, models.CASCADE)
    version = models.IntegerField(default=1)
    path = models.TextField(default="")
    answer_count = models.IntegerField(default=0)

    class Meta(Table.Meta):
        db_table = "comments"


class Bookmark(Table):
    user = models.ForeignKey(User, models.CASCADE)
    post = models.ForeignKey(Post, models.CASCADE)

    class Meta(Table.Meta):
        db_table = "bookmarks"
