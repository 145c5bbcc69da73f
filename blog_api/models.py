"""Index of every model family. Importing it completes the metadata that Alembic compares."""

from blog_api.accounts.models import (
    BannedAddress,
    IdempotencyKey,
    NameKey,
    Token,
    User,
    UsernameClaim,
)
from blog_api.admin.models import AuditEntry
from blog_api.comments.models import Comment
from blog_api.db.base import TableBase
from blog_api.mail.models import Mail
from blog_api.media.models import BlockedDigest, Media
from blog_api.posts.models import Bookmark, Post, PostCount, PostTag, Slug, Tag
from blog_api.posts.search_models import PostWords, WordsLease
from blog_api.profiles.models import Follow

TABLES = (
    User,
    UsernameClaim,
    BannedAddress,
    NameKey,
    Token,
    IdempotencyKey,
    Mail,
    Media,
    BlockedDigest,
    Follow,
    Post,
    Slug,
    Tag,
    PostTag,
    PostCount,
    PostWords,
    WordsLease,
    Bookmark,
    Comment,
    AuditEntry,
)
metadata = TableBase.metadata
