"""Import of posts from an archive. A repeated import changes nothing."""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any, cast

from sqlalchemy.orm import QueryableAttribute, contains_eager
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.imported import Identity, get_or_create_authors, make_author_key
from blog_api.accounts.models import User
from blog_api.accounts.service import find_user_by_key
from blog_api.archive.record import ArchiveEntry, PostRecord, format_location
from blog_api.comments.imported import count_public, insert_imported_comments, resolve_comments
from blog_api.core.errors import Conflict
from blog_api.core.fields import utc_now
from blog_api.core.security import SecretKeys
from blog_api.db.queries import lock_work
from blog_api.db.session import Database
from blog_api.media.folders import FolderImport
from blog_api.posts.models import Post, Slug
from blog_api.posts.service import insert_post, render_posts
from blog_api.posts.slugs import add_old_slugs, number_slugs, slugify_title
from blog_api.posts.tags import insert_missing_tags
from blog_api.posts.words import MadeWords, get_word_source, make_words
from blog_api.text.excerpts import have_common_words
from blog_api.text.renderer import Renderer

# Posts per transaction.
BATCH_SIZE = 100
# Old slugs per transaction.
OLD_SLUGS_BATCH_SIZE = 500

# A post and its author, which are None if the post was deleted.
Owner = tuple[Post | None, User | None]


class Outcome(StrEnum):
    imported = "imported"
    present = "already present"
    rejected = "rejected"
    left_out = "left out"


@dataclass(frozen=True)
class Result:
    """Outcome for one entry, with an error message if it is rejected."""

    location: str
    outcome: Outcome
    error: str | None = None
    # Of what was changed, each with its location.
    warnings: tuple[str, ...] = ()
    # Of pictures that were not imported, and of those among them that are elsewhere on the site.
    missing_pictures: tuple[str, ...] = ()
    site_pictures: tuple[str, ...] = ()
    is_draft: bool = False
    # A draft because the archive has no time for it.
    is_undated: bool = False
    # What is no post, and which one it is.
    kind: str | None = None
    details: str = ""


@dataclass(frozen=True)
class Candidate:
    """A valid entry with its slug."""

    entry: ArchiveEntry
    record: PostRecord
    slug: str
    missing_pictures: tuple[str, ...] = ()
    site_pictures: tuple[str, ...] = ()

    @property
    def author_key(self) -> str | None:
        return self.record.author_key or self.record.author

    def accept(self, outcome: Outcome = Outcome.imported) -> Result:
        warnings = self.entry.warnings
        if outcome is Outcome.imported and self.slug != make_slug(self.record):
            taken = f"slug: {make_slug(self.record)} is taken, the post gets {self.slug}"
            warnings += (f"{self.entry.location}: {taken}",)
        return Result(
            self.entry.location,
            outcome,
            warnings=warnings,
            missing_pictures=self.missing_pictures,
            site_pictures=self.site_pictures,
            is_draft=self.record.published_at is None,
            is_undated=self.record.published_at is None and self.entry.is_undated,
        )

    def reject(self, error: str) -> Result:
        return Result(self.entry.location, Outcome.rejected, error, self.entry.warnings)

    def is_in(self, post: Post) -> bool:
        """Tell whether a post with the slug is this one, perhaps changed since its import."""
        record = self.record
        is_similar = have_common_words(record.content, post.content)
        if self.entry.is_undated or record.published_at is None or post.published_at is None:
            return is_similar and (record.title == post.title or bool(record.content.strip()))
        if abs(record.published_at - post.published_at) < timedelta(seconds=1):
            return is_similar or record.title == post.title
        return (record.title, record.content) == (post.title, post.content)


def make_slug(record: PostRecord) -> str:
    return record.slug or slugify_title(record.title)


class Importer:
    """Import entries in batches; rejected ones do not stop the others.

    The posts get the author of this id or username, or else those that they name, who become users.
    A post without a time is a draft, or published at `undated_at`. Without keys it is a dry run,
    which writes nothing.
    """

    def __init__(
        self,
        database: Database,
        renderer: Renderer,
        pictures: FolderImport,
        keys: SecretKeys | None,
        *,
        author: str | None = None,
        undated_at: datetime | None = None,
    ) -> None:
        self.database = database
        self.renderer = renderer
        self.pictures = pictures
        self.author = author
        self.author_id: int | None = None
        self.undated_at = undated_at
        self.keys = keys
        # The digest of the entry by its slug, and the number of the last slug by the wanted one.
        self._claimed: dict[str, int] = {}
        self._last_number: dict[str, int] = {}
        # Location and slug of the post by its old slug.
        self._old_slugs: dict[str, tuple[str, str]] = {}

    async def import_entries(self, entries: Iterator[ArchiveEntry]) -> AsyncIterator[Result]:
        """Yield the result of each entry. Raises UserNotFound if the author does not exist."""
        if self.author is not None:
            async with self.database.session(writes=False) as session:
                self.author_id = (await find_user_by_key(session, self.author)).id
        # Reading a file blocks the event loop: nothing else runs in it.
        while batch := list(islice(entries, BATCH_SIZE)):
            for result in await self.import_batch(batch):
                yield result

    async def import_batch(self, entries: Iterable[ArchiveEntry]) -> list[Result]:
        checked = [self.check_entry(entry) for entry in entries]
        results = [one for one in checked if isinstance(one, Result)]
        candidates = [one for one in checked if isinstance(one, Candidate)]
        async with self.database.session(writes=False) as session:
            owners = await self.find_owners(session, {one.slug for one in candidates})
            placed = [await self.place(session, one, owners) for one in candidates]
        results += (one for one in placed if isinstance(one, Result))
        new = [one for one in placed if isinstance(one, Candidate)]
        if self.keys is None:
            new = [await self.import_pictures(one, 0) for one in new]
            return results + [candidate.accept() for candidate in new]
        # Committed first: pictures belong to authors.
        async with self.database.session(writes=True) as session:
            authors = await self.get_or_create_authors(session, self.keys, new)
        new = [await self.import_pictures(one, self.get_author_id(one, authors)) for one in new]
        made = await render_posts(self.renderer, [candidate.record.source for candidate in new])
        words = [
            await make_words(self.renderer, get_word_source({**one.record.model_dump(), **values}))
            for one, values in zip(new, made, strict=True)
        ]
        async with self.database.session(writes=True) as session:
            # In their order, which sorts them no more than their slugs: two imports must not
            # wait for each other.
            await lock_work(session, "import")
            await insert_missing_tags(session, (tag for one in new for tag in one.record.tags))
            for candidate, values, of_post in zip(new, made, words, strict=True):
                results.append(
                    await self.insert_candidate(session, candidate, authors, values, of_post)
                )
        return results

    async def import_pictures(self, candidate: Candidate, author_id: int) -> Candidate:
        """Return the post with the addresses of its pictures in the storage."""
        file, record = candidate.entry.file, candidate.record
        if file is None:
            return candidate
        imported, warnings = await self.pictures.import_pictures(
            file, record.source, record.cover_url, author_id
        )
        messages: dict[bool, list[str]] = {True: [], False: []}
        for line, message, is_expected in warnings:
            messages[is_expected].append(f"{format_location(file.path, line)}: {message}")
        return replace(
            candidate,
            record=record.model_copy(update=imported._asdict()),
            missing_pictures=tuple(messages[True]),
            site_pictures=tuple(messages[False]),
        )

    def check_entry(self, entry: ArchiveEntry) -> Candidate | Result:
        """Reject what can be rejected without the database."""
        if entry.left_out is not None:
            left_out = Outcome.left_out
            return Result(entry.location, left_out, kind=entry.left_out, details=entry.details)
        if entry.record is None:
            return Result(entry.location, Outcome.rejected, entry.error, entry.warnings)
        record = entry.record
        if entry.is_undated and self.undated_at is not None:
            record = record.model_copy(update={"published_at": self.undated_at})
        candidate = Candidate(entry, record, make_slug(record))
        if self.author_id is None and candidate.author_key is None:
            undated = "; it has no time either" if entry.is_undated else ""
            return candidate.reject(
                f"author: missing; --author USERNAME sets one for all posts{undated}"
            )
        return candidate

    async def place(
        self, session: AsyncSession, candidate: Candidate, owners: dict[str, Owner | None]
    ) -> Candidate | Result:
        """Return the candidate with a free slug, or the result if the post exists."""
        record = candidate.record
        digest = hash((record.title, record.content, record.published_at))
        wanted = make_slug(record)
        for number, slug in enumerate(number_slugs(wanted)):
            if 0 < number < self._last_number.get(wanted, 0):
                continue
            if slug in self._claimed:
                if self._claimed[slug] == digest:
                    return candidate.accept(Outcome.present)
                continue
            if slug not in owners:
                owners |= await self.find_owners(session, {slug})
            owner = owners[slug]
            if owner is None:
                result: Candidate | Result = replace(candidate, slug=slug)
            elif owner[0] is None or owner[1] is None:
                result = candidate.reject(f"slug: {slug} belonged to a deleted post")
            elif not candidate.is_in(owner[0]):
                continue
            elif self.is_author(owner[1], candidate):
                result = candidate.accept(Outcome.present)
            else:
                result = candidate.reject(f"slug: {slug} belongs to another author's post")
            break
        self._last_number[wanted] = number
        self._claimed[slug] = digest
        if isinstance(result, Candidate) or result.outcome is not Outcome.rejected:
            for old in record.old_slugs:
                self._old_slugs.setdefault(old, (candidate.entry.location, slug))
        return result

    async def find_owners(
        self, session: AsyncSession, slugs: Collection[str]
    ) -> dict[str, Owner | None]:
        """Return the owners of slugs, None for a slug that no post ever had."""
        query = (
            select(Slug.slug, Post, User)
            .join(Post, col(Slug.post_id) == col(Post.id), isouter=True)
            .join(User, col(Post.user_id) == col(User.id), isouter=True)
            .where(col(Slug.slug).in_(slugs))
            # Not by a join of its own, which would leave out the slugs of deleted posts.
            .options(contains_eager(cast("QueryableAttribute[User]", Post.user)))
        )
        owners: dict[str, Owner | None] = dict.fromkeys(slugs)
        return owners | {slug: (post, user) for slug, post, user in await session.exec(query)}

    def is_author(self, user: User, candidate: Candidate) -> bool:
        if self.author_id is not None:
            return user.id == self.author_id
        return make_author_key(user) == candidate.author_key

    async def add_old_slugs(self) -> list[str]:
        """Let old addresses redirect, once all posts have slugs; return warnings."""
        wanted = {old: slug for old, (_, slug) in self._old_slugs.items() if old != slug}
        taken = [old for old in wanted if old in self._claimed]
        slugs = {old: slug for old, slug in wanted.items() if old not in self._claimed}
        # Sorted, so that concurrent imports cannot deadlock.
        pairs = iter(sorted(slugs.items()))
        while batch := dict(islice(pairs, OLD_SLUGS_BATCH_SIZE)):
            async with self.database.session(writes=self.keys is not None) as session:
                taken += await add_old_slugs(session, batch, dry_run=self.keys is None)
        return [f"{self._old_slugs[old][0]}: {old} is the address of another post" for old in taken]

    async def get_or_create_authors(
        self, session: AsyncSession, keys: SecretKeys, candidates: Sequence[Candidate]
    ) -> dict[Identity, int]:
        """Return the ids of the authors of the posts and of their comments."""
        of_posts = {
            Identity(one.author_key): one.record.author or one.author_key or ""
            for one in candidates
            if self.author_id is None
        }
        comments = (comment for one in candidates for comment in one.record.comments)
        names = {one.identity: one.author or "" for one in comments if one.content is not None}
        return await get_or_create_authors(
            session, keys, names | of_posts, of_posts=of_posts.keys()
        )

    async def insert_candidate(
        self,
        session: AsyncSession,
        candidate: Candidate,
        authors: dict[Identity, int],
        made: dict[str, Any],
        words: MadeWords,
    ) -> Result:
        record = candidate.record
        now = utc_now()
        author_id = self.get_author_id(candidate, authors)
        comments = resolve_comments(
            record.comments, authors, post_author=(candidate.author_key, author_id)
        )
        post = Post(
            slug=candidate.slug,
            title=record.title,
            content=record.content,
            content_type=record.content_type,
            given_slug=candidate.slug if record.slug_given else None,
            given_summary=record.summary,
            cover_url=record.cover_url,
            cover_alt=record.cover_alt,
            canonical_url=record.canonical_url,
            comments_open=record.comments_open,
            published_at=record.published_at,
            taken_down_at=record.taken_down_at,
            tags=record.tags,
            user_id=author_id,
            comment_count=count_public(comments),
            # Lists by the last change do not show posts with a later time.
            created_at=min(record.updated_at or now, now),
            **made,
        )
        try:
            await insert_post(session, post, [candidate.slug], words)
        except Conflict:
            # Another transaction has taken the slug, perhaps an import of the same post.
            del self._claimed[candidate.slug]
            placed = await self.place(session, candidate, {})
            if isinstance(placed, Result):
                return placed
            return await self.insert_candidate(session, placed, authors, made, words)
        await insert_imported_comments(session, post.id, comments)
        return candidate.accept()

    def get_author_id(self, candidate: Candidate, authors: dict[Identity, int]) -> int:
        return self.author_id or authors[Identity(candidate.author_key)]
