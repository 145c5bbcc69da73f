"""Import of posts from an archive. A repeated import changes nothing."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Any

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.models import User
from blog_api.accounts.names import index_names
from blog_api.accounts.service import claim_generated_username, find_user, set_username_owners
from blog_api.archive.record import ArchiveEntry, PostRecord, format_location, make_author_key
from blog_api.core.errors import Conflict
from blog_api.db.queries import insert_if_missing
from blog_api.db.session import Database
from blog_api.media.folders import FolderImport, PostFile
from blog_api.posts.models import Post, Slug
from blog_api.posts.service import insert_post, render_posts
from blog_api.posts.slugs import slugify_title
from blog_api.posts.tags import insert_missing_tags
from blog_api.posts.words import MadeWords, get_word_source, make_words
from blog_api.text.renderer import Renderer

# Posts per transaction.
BATCH_SIZE = 100


class Outcome(StrEnum):
    imported = "imported"
    present = "already present"
    rejected = "rejected"


@dataclass(frozen=True)
class Result:
    """Outcome for one entry, with an error message if it is rejected."""

    location: str
    outcome: Outcome
    error: str | None = None
    # Of pictures that were not imported, each with its location.
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A valid entry, with the slug by which later imports recognize its post."""

    location: str
    record: PostRecord
    slug: str
    file: PostFile | None = None
    warnings: tuple[str, ...] = ()

    @property
    def author_key(self) -> str | None:
        return self.record.author_key or self.record.author

    def accept(self) -> Result:
        return Result(self.location, Outcome.imported, warnings=self.warnings)

    def reject(self, error: str) -> Result:
        return Result(self.location, Outcome.rejected, error)


class Importer:
    """Import entries in batches; rejected ones do not stop the others.

    The posts get the author `author_id`, or else the authors that they name, who become users.
    A dry run writes nothing.
    """

    def __init__(
        self,
        database: Database,
        renderer: Renderer,
        pictures: FolderImport,
        *,
        author_id: int | None,
        dry_run: bool,
    ) -> None:
        self.database = database
        self.renderer = renderer
        self.pictures = pictures
        self.author_id = author_id
        self.dry_run = dry_run
        # Location of the first entry with a slug.
        self._locations: dict[str, str] = {}

    async def import_entries(self, entries: Iterator[ArchiveEntry]) -> AsyncIterator[Result]:
        """Yield the result of each entry. Raises UserNotFound if `author_id` does not exist."""
        if self.author_id is not None:
            async with self.database.session(writes=False) as session:
                await find_user(session, self.author_id)
        # Reading a file blocks the event loop: nothing else runs in it.
        while batch := list(islice(entries, BATCH_SIZE)):
            for result in await self.import_batch(batch):
                yield result

    async def import_batch(self, entries: Iterable[ArchiveEntry]) -> list[Result]:
        checked = [self.check_entry(entry) for entry in entries]
        results = [one for one in checked if isinstance(one, Result)]
        candidates = [one for one in checked if isinstance(one, Candidate)]
        async with self.database.session(writes=False) as session:
            existing = await self.find_existing(session, candidates)
        results += existing.values()
        new = [candidate for candidate in candidates if candidate.slug not in existing]
        if self.dry_run:
            return results + [candidate.accept() for candidate in new]
        # Committed first: pictures belong to authors.
        async with self.database.session(writes=True) as session:
            authors = await self.get_or_create_authors(session, new)
        new = [await self.import_pictures(one, authors[one.author_key]) for one in new]
        made = await render_posts(self.renderer, [candidate.record.source for candidate in new])
        words = [
            await make_words(self.renderer, get_word_source({**one.record.model_dump(), **values}))
            for one, values in zip(new, made, strict=True)
        ]
        async with self.database.session(writes=True) as session:
            # Sorted like authors and posts, so that concurrent imports cannot deadlock.
            await insert_missing_tags(session, (tag for one in new for tag in one.record.tags))
            by_slug = sorted(zip(new, made, words, strict=True), key=lambda one: one[0].slug)
            for candidate, values, of_post in by_slug:
                results.append(
                    await self.insert_candidate(session, candidate, authors, values, of_post)
                )
        return results

    async def import_pictures(self, candidate: Candidate, author_id: int) -> Candidate:
        """Return the post with the addresses of its pictures in the storage."""
        file, record = candidate.file, candidate.record
        if file is None:
            return candidate
        imported, warnings = await self.pictures.import_pictures(
            file, record.source, record.cover_url, author_id
        )
        return replace(
            candidate,
            record=record.model_copy(update=imported._asdict()),
            warnings=tuple(
                f"{format_location(file.path, one.line)}: {one.message}" for one in warnings
            ),
        )

    def check_entry(self, entry: ArchiveEntry) -> Candidate | Result:
        """Reject what can be rejected without the database."""
        if entry.record is None:
            return Result(entry.location, Outcome.rejected, entry.error)
        slug = entry.record.slug or slugify_title(entry.record.title)
        candidate = Candidate(entry.location, entry.record, slug, entry.file)
        if self.author_id is None and candidate.author_key is None:
            return candidate.reject("author: missing; --author sets one for all posts")
        first = self._locations.setdefault(slug, entry.location)
        if first != entry.location:
            return candidate.reject(f"slug: {slug} is also the slug of {first}")
        return candidate

    async def find_existing(
        self, session: AsyncSession, candidates: Sequence[Candidate]
    ) -> dict[str, Result]:
        """Return results by slug for the slugs in use: by the same post or by another."""
        slugs = [candidate.slug for candidate in candidates]
        query = (
            select(Slug.slug, User)
            .join(Post, col(Slug.post_id) == col(Post.id), isouter=True)
            .join(User, col(Post.user_id) == col(User.id), isouter=True)
            .where(col(Slug.slug).in_(slugs))
        )
        owners = dict((await session.exec(query)).all())
        existing = {}
        for candidate in candidates:
            if candidate.slug not in owners:
                continue
            owner: User | None = owners[candidate.slug]
            if owner is None:
                result = candidate.reject(f"slug: {candidate.slug} belonged to a deleted post")
            elif self.is_author(owner, candidate):
                result = Result(candidate.location, Outcome.present)
            else:
                result = candidate.reject(
                    f"slug: {candidate.slug} belongs to another author's post"
                )
            existing[candidate.slug] = result
        return existing

    def is_author(self, user: User, candidate: Candidate) -> bool:
        if self.author_id is not None:
            return user.id == self.author_id
        return make_author_key(user) == candidate.author_key

    async def get_or_create_authors(
        self, session: AsyncSession, candidates: Sequence[Candidate]
    ) -> dict[str | None, int]:
        """Return the ids of the authors by their keys."""
        if self.author_id is not None:
            return {candidate.author_key: self.author_id for candidate in candidates}
        names = {candidate.author_key: candidate.record.author for candidate in candidates}
        query = select(User).where(col(User.import_key).in_(list(names)))
        existing = {user.import_key for user in await session.exec(query)}
        rows = [
            {
                "import_key": key,
                "name": name or key,
                "username": await claim_generated_username(session, name or key or ""),
            }
            for key, name in sorted(names.items(), key=lambda item: item[0] or "")
            if key not in existing
        ]
        if rows:
            await insert_if_missing(session, User, *rows)
        users = (await session.exec(query)).all()
        claimed = {row["username"] for row in rows}
        owners = {user.username or "": user.id for user in users if user.username in claimed}
        await set_username_owners(session, owners)
        await index_names(session, {user.id: user.name for user in users})
        return {user.import_key: user.id for user in users}

    async def insert_candidate(
        self,
        session: AsyncSession,
        candidate: Candidate,
        authors: dict[str | None, int],
        made: dict[str, Any],
        words: MadeWords,
    ) -> Result:
        record = candidate.record
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
            user_id=authors[candidate.author_key],
            **made,
        )
        try:
            await insert_post(session, post, [candidate.slug], words)
        except Conflict:
            # Another transaction has taken the slug, perhaps an import of the same post.
            return (await self.find_existing(session, [candidate]))[candidate.slug]
        return candidate.accept()
