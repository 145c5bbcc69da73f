"""Importing: posts of an archive, each once however often it is imported."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from blog_api.accounts.models import User
from blog_api.accounts.service import find_user
from blog_api.archive.exporter import make_author_key
from blog_api.archive.record import ArchiveEntry, PostRecord
from blog_api.core.errors import Conflict
from blog_api.db.queries import insert_if_missing
from blog_api.db.session import Database
from blog_api.posts.models import Post, Slug
from blog_api.posts.service import insert_post
from blog_api.posts.slugs import slugify_title
from blog_api.posts.tags import insert_missing_tags
from blog_api.text.renderer import Renderer

# How many posts are written in one transaction.
BATCH_SIZE = 100


class Outcome(StrEnum):
    """What became of an entry."""

    imported = "imported"
    present = "there already"
    bad = "bad"


@dataclass(frozen=True)
class Result:
    """What became of an entry, and why it is bad if it is."""

    place: str
    outcome: Outcome
    problem: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A post that may be imported, under the slug by which it will be known again."""

    place: str
    record: PostRecord
    slug: str

    @property
    def author_key(self) -> str | None:
        return self.record.author_key or self.record.author

    def imported(self) -> Result:
        return Result(self.place, Outcome.imported)

    def bad(self, problem: str) -> Result:
        return Result(self.place, Outcome.bad, problem)


class Importer:
    """Imports entries in batches; one that is bad does not keep the others out.

    All posts become those of `author_id` where it is given, and otherwise of the authors that
    they name, who become users. Nothing is written in a dry run.
    """

    def __init__(
        self, database: Database, renderer: Renderer, *, author_id: int | None, dry_run: bool
    ) -> None:
        self.database = database
        self.renderer = renderer
        self.author_id = author_id
        self.dry_run = dry_run
        self._seen: dict[str, str] = {}

    async def run(self, entries: Iterator[ArchiveEntry]) -> AsyncIterator[Result]:
        """What becomes of each entry. Raises UserNotFound for an author who is not there."""
        if self.author_id is not None:
            async with self.database.session(writes=False) as session:
                await find_user(session, self.author_id)
        # What reads a file waits for it, and nothing else waits here.
        while batch := list(islice(entries, BATCH_SIZE)):
            for result in await self.take(batch):
                yield result

    async def take(self, entries: Iterable[ArchiveEntry]) -> list[Result]:
        """What becomes of a batch."""
        results: list[Result] = []
        candidates: list[Candidate] = []
        for entry in entries:
            if entry.record is None:
                results.append(Result(entry.place, Outcome.bad, entry.problem))
                continue
            record = entry.record
            candidate = Candidate(entry.place, record, record.slug or slugify_title(record.title))
            problem = self.check(candidate)
            if problem is not None:
                results.append(candidate.bad(problem))
            else:
                candidates.append(candidate)
        async with self.database.session(writes=False) as session:
            known = await self.find_known(session, candidates)
        results += known.values()
        new = [candidate for candidate in candidates if candidate.slug not in known]
        if self.dry_run:
            return results + [candidate.imported() for candidate in new]
        html = await self.renderer.render_all([candidate.record.content for candidate in new])
        async with self.database.session(writes=True) as session:
            authors = await self.find_authors(session, new)
            # All of them in one order, so that no two imports wait for each other's.
            await insert_missing_tags(session, (tag for one in new for tag in one.record.tags))
            in_order = sorted(zip(new, html, strict=True), key=lambda pair: pair[0].slug)
            for candidate, content_html in in_order:
                results.append(await self.insert(session, candidate, authors, content_html))
        return results

    def check(self, candidate: Candidate) -> str | None:
        """What is wrong with it, before anything is asked of the database."""
        if self.author_id is None and candidate.author_key is None:
            return "author: is missing; --author names a user for all"
        earlier = self._seen.setdefault(candidate.slug, candidate.place)
        if earlier != candidate.place:
            return f"slug: {candidate.slug} is that of {earlier} too"
        return None

    async def find_known(
        self, session: AsyncSession, candidates: Sequence[Candidate]
    ) -> dict[str, Result]:
        """Those whose slug is in use here: by the very post, or by another."""
        slugs = [candidate.slug for candidate in candidates]
        query = (
            select(Slug.slug, Post.user_id, User)
            .join(Post, col(Slug.post_id) == col(Post.id), isouter=True)
            .join(User, col(Post.user_id) == col(User.id), isouter=True)
            .where(col(Slug.slug).in_(slugs))
        )
        owners = {slug: user for slug, _, user in await session.exec(query)}
        known = {}
        for candidate in candidates:
            if candidate.slug not in owners:
                continue
            owner: User | None = owners[candidate.slug]
            if owner is None:
                result = candidate.bad(f"slug: {candidate.slug} was that of a deleted post")
            elif self.is_author(owner, candidate):
                result = Result(candidate.place, Outcome.present)
            else:
                result = candidate.bad(f"slug: {candidate.slug} is that of another's post")
            known[candidate.slug] = result
        return known

    def is_author(self, user: User, candidate: Candidate) -> bool:
        if self.author_id is not None:
            return user.id == self.author_id
        return make_author_key(user) == candidate.author_key

    async def find_authors(
        self, session: AsyncSession, candidates: Sequence[Candidate]
    ) -> dict[str | None, int]:
        """The ids of the users whom the posts name, by their keys; who is not there is made."""
        if self.author_id is not None:
            return {candidate.author_key: self.author_id for candidate in candidates}
        names = {candidate.author_key: candidate.record.author for candidate in candidates}
        # In one order, so that no two imports wait for each other's.
        rows = [
            {"import_key": key, "name": name or key}
            for key, name in sorted(names.items(), key=lambda item: item[0] or "")
        ]
        if rows:
            await insert_if_missing(session, User, *rows)
        query = select(User.import_key, User.id).where(col(User.import_key).in_(list(names)))
        return dict((await session.exec(query)).all())

    async def insert(
        self,
        session: AsyncSession,
        candidate: Candidate,
        authors: dict[str | None, int],
        content_html: str,
    ) -> Result:
        record = candidate.record
        post = Post(
            slug=candidate.slug,
            title=record.title,
            content=record.content,
            content_html=content_html,
            published_at=record.published_at,
            taken_down_at=record.taken_down_at,
            tags=record.tags,
            user_id=authors[candidate.author_key],
        )
        try:
            await insert_post(session, post, [candidate.slug])
        except Conflict:
            # Somebody has taken it since: perhaps another import of the same post.
            return (await self.find_known(session, [candidate]))[candidate.slug]
        return candidate.imported()
