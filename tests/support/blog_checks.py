"""Compare the responses of the service with the state of the model."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from httpx import Response

from tests.support.blog_model import (
    CONTENTS,
    TAGS,
    TITLES,
    Comment,
    Fields,
    Post,
    User,
    assert_fields,
    parse_times,
)
from tests.support.blog_state import BlogState

MAX_SHOWN_ANSWERS = 20
SORTS = ("-published_at", "published_at", "-updated_at", "updated_at")
# How a list is read: by cursors and back by links, by page numbers, or on one page.
BY_CURSOR, BY_NUMBER, ON_ONE_PAGE = "by cursor", "by number", "on one page"

Check = Callable[[], None]


def links_of(response: Response) -> dict[str, str]:
    return {rel or "": link["url"] for rel, link in response.links.items()}


def newest_first(posts: Iterable[Post]) -> list[Post]:
    """Return the published posts in the default order."""
    published = [post for post in posts if post.is_published]
    return sorted(published, key=lambda post: (post.published_at, post.id), reverse=True)


class BlogChecks(BlogState):
    # Lists.

    def read_list(
        self, reader: User | None, path: str, paging: str, total: int, **params: object
    ) -> list[Fields]:
        """Return all items of a list; check its total, cursors and links."""
        size = 100 if paging == ON_ONE_PAGE else 2
        query = "&".join(f"{name}={value}" for name, value in params.items())
        first = f"{path}?size={size}" + (f"&{query}" if query else "")
        pages: list[list[Fields]] = []

        def read_page(address: str) -> tuple[Fields, dict[str, str]]:
            response = self.request(reader, "GET", address, expect=200)
            page = response.json()
            assert page["total_count"] == total
            return page, links_of(response)

        page, links = read_page(first)
        pages.append(page["results"])
        while page["next_cursor"] if paging == BY_CURSOR else links.get("next"):
            assert len(page["results"]) == size
            if paging == BY_CURSOR:
                assert "next" in links
                page, links = read_page(f"{first}&cursor={page['next_cursor']}")
            else:
                page, links = read_page(f"{first}&page={len(pages) + 1}")
            pages.append(page["results"])
        assert page["next_cursor"] is None
        assert "next" not in links
        if paging == BY_CURSOR:
            for before in reversed(pages[:-1]):
                page, links = read_page(links["prev"])
                assert page["results"] == before
            assert "prev" not in links
        elif paging == BY_NUMBER:
            page, _ = read_page(f"{first}&page={len(pages) + 1}")
            assert (page["results"], page["next_cursor"]) == ([], None)
        return [item for page in pages for item in page]

    def check_posts(
        self, reader: User | None, path: str, posts: Iterable[Post], paging: str, **params: object
    ) -> None:
        """Check that a list has exactly these posts, in this order."""
        expected = list(posts)
        shown = self.read_list(reader, path, paging, len(expected), **params)
        assert [item["id"] for item in shown] == [post.id for post in expected]
        for item, post in zip(shown, expected, strict=True):
            assert_fields(item, self.expected_post(post))

    def check_published_posts(
        self, reader: User | None, path: str, posts: Iterable[Post], paging: str, sort: str
    ) -> None:
        """Check that a list has the published ones of these posts, in this sort order."""
        name = sort.removeprefix("-")
        ordered = sorted(
            newest_first(posts),
            key=lambda post: (getattr(post, name), post.id),
            reverse=sort.startswith("-"),
        )
        # The newest are first by default too.
        params = {} if sort == SORTS[0] and paging == ON_ONE_PAGE else {"sort": sort}
        self.check_posts(reader, path, ordered, paging, **params)

    def check_thread(self, reader: User | None, post: Post, paging: str) -> None:
        path = f"/posts/{post.id}/comments"
        if not post.is_visible_to(reader):
            self.request(reader, "GET", path, expect=404)
            return
        top_level = [
            comment
            for comment in self.comments
            if comment.post is post and comment.parent is None and self.is_listed(comment, reader)
        ]
        shown = self.read_list(reader, path, paging, len(top_level))
        for item, comment in zip(shown, top_level, strict=True):
            assert_fields(item, self.expected_comment(comment, reader))
            answers = self.listed_answers(comment, reader)[:MAX_SHOWN_ANSWERS]
            for shown_answer, answer in zip(item["answers"], answers, strict=True):
                assert_fields(shown_answer, self.expected_comment(answer, reader))

    def listed_answers(self, comment: Comment, reader: User | None) -> list[Comment]:
        return [one for one in self.answers_below(comment) if self.is_listed(one, reader)]

    def check_answers(self, reader: User | None, comment: Comment, paging: str) -> None:
        path = f"/comments/{comment.id}/answers"
        if not (comment.post.is_visible_to(reader) and self.is_listed(comment, reader)):
            self.request(reader, "GET", path, expect=404)
            return
        answers = self.listed_answers(comment, reader)
        shown = self.read_list(reader, path, paging, len(answers))
        for item, answer in zip(shown, answers, strict=True):
            assert_fields(item, self.expected_comment(answer, reader))

    def check_tags(self, reader: User | None, paging: str) -> None:
        counts = Counter(key for post in self.posts if post.is_published for key in post.tag_keys)
        names: dict[str, str] = {}
        for post in self.posts:
            for tag in post.tags if post.is_published else ():
                names.setdefault(TAGS[tag], tag.strip())
        shown = self.read_list(reader, "/tags", paging, len(counts))
        assert {item["name"]: item["post_count"] for item in shown} == {
            names[key]: counts[key] for key in counts
        }
        # Tags with the same count are sorted by age.
        order = [
            (-item["post_count"], self.tags[key])
            for item in shown
            for key in counts
            if names[key] == item["name"]
        ]
        assert order == sorted(order)

    def check_following(self, reader: User, paging: str) -> None:
        authors = sorted(reader.following, key=lambda author: author.id)
        shown = self.read_list(reader, "/users/me/following", paging, len(authors))
        self.check_profiles(shown, authors)

    def check_users(self, reader: User | None) -> None:
        shown = self.request(reader, "GET", "/users", expect=200).json()
        self.check_profiles(shown, self.current_users)

    def check_profiles(self, shown: list[Fields], users: list[User]) -> None:
        for item, user in zip(shown, users, strict=True):
            posts = [post for post in self.posts if post.author is user and post.is_published]
            assert parse_times(item) == user.as_author() | {
                "bio": None,
                "created_at": user.created_at,
                "post_count": len(posts),
            }

    # Single resources.

    def check_post(self, reader: User | None, post: Post) -> None:
        is_visible = post.is_visible_to(reader)
        expect = 200 if is_visible else 404
        response = self.request(reader, "GET", f"/posts/{post.id}", expect=expect)
        if is_visible:
            self.check_version(post, response)
            html = {"content_html": CONTENTS[post.content][post.content_type]}
            assert_fields(response.json(), self.expected_post(post) | html)

    def check_slug(self, reader: User | None, slug: str) -> None:
        post = self.slugs.get(slug)
        is_known = post is not None and (
            slug in (post.slug, *self.public_slugs) or post.author is reader
        )
        if post is None or not is_known or not (post.is_removed or post.is_visible_to(reader)):
            expect = 404
        else:
            expect = 410 if post.is_removed else 200 if post.slug == slug else 308
        response = self.request(reader, "GET", f"/posts/slug/{slug}", expect=expect)
        if post and expect == 308:
            assert response.headers["Location"] == f"/posts/slug/{post.slug}"
        elif post and expect == 200:
            self.check_version(post, response)
            assert_fields(response.json(), self.expected_post(post))

    def check_comment(self, reader: User | None, comment: Comment) -> None:
        is_visible = self.is_visible(comment, reader)
        expect = 200 if is_visible else 404
        response = self.request(reader, "GET", f"/comments/{comment.id}", expect=expect)
        if is_visible:
            if not comment.is_waiting or comment.is_own(reader):
                self.check_version(comment, response)
            assert_fields(response.json(), self.expected_comment(comment, reader))

    def check_waiting(self, reader: User, paging: str) -> None:
        waiting = [
            comment
            for comment in reversed(self.comments)
            if comment.is_waiting and not comment.is_removed and comment.post.author is reader
        ]
        path = "/users/me/posts/comments"
        shown = self.read_list(reader, path, paging, len(waiting), state="waiting")
        for item, comment in zip(shown, waiting, strict=True):
            assert_fields(item, self.expected_comment(comment, reader))

    def check_removed_user(self, reader: User | None, user: User) -> None:
        self.request(reader, "GET", f"/users/{user.id}", expect=404)
        self.request(reader, "GET", f"/users/{user.id}/posts", expect=404)

    # All checks of a kind, each to be called.

    def list_checks(
        self, reader: User | None, sorts: Iterable[str], paging: str
    ) -> Iterator[Check]:
        """Yield checks of all lists of a reader."""
        yield partial(self.check_tags, reader, BY_NUMBER if paging == BY_CURSOR else paging)
        for post in self.posts:
            yield partial(self.check_thread, reader, post, paging)
        for comment in self.comments:
            # On one page, the answers below an answer are part of a longer list.
            if comment.parent is None or paging != ON_ONE_PAGE:
                yield partial(self.check_answers, reader, comment, paging)
        for sort in sorts:
            yield partial(self.check_published_posts, reader, "/posts", self.posts, paging, sort)
            for user in self.current_users:
                by_user = [post for post in self.posts if post.author is user]
                path = f"/users/{user.id}/posts"
                yield partial(self.check_published_posts, reader, path, by_user, paging, sort)
        if reader is None:
            return
        for sort in sorts:
            feed = [post for post in self.posts if post.author in reader.following]
            path = "/users/me/feed"
            yield partial(self.check_published_posts, reader, path, feed, paging, sort)
        own = [post for post in self.posts if post.author is reader and not post.is_removed]
        yield partial(self.check_posts, reader, "/users/me/posts", own[::-1], paging)
        bookmarked = [post for post in reader.bookmarks if post.is_published]
        yield partial(self.check_posts, reader, "/users/me/bookmarks", bookmarked[::-1], paging)
        yield partial(self.check_following, reader, paging)
        yield partial(self.check_waiting, reader, paging)

    def filter_checks(self, reader: User | None, paging: str) -> Iterator[Check]:
        """Yield checks of the lists of posts by an author or with a tag."""
        for user in self.users:
            public = newest_first(post for post in self.posts if post.author is user)
            yield partial(self.check_posts, reader, "/posts", public, paging, author=user.id)
        for tag, key in TAGS.items():
            tagged = [post for post in self.posts[::-1] if key in post.tag_keys]
            public = newest_first(tagged)
            yield partial(self.check_posts, reader, "/posts", public, paging, tag=tag)
            if reader is None:
                continue
            own = [post for post in tagged if post.author is reader and not post.is_removed]
            yield partial(self.check_posts, reader, "/users/me/posts", own, paging, tag=tag)
            feed = [post for post in public if post.author in reader.following]
            yield partial(self.check_posts, reader, "/users/me/feed", feed, paging, tag=tag)

    def single_checks(self, reader: User | None) -> Iterator[Check]:
        """Yield checks of everything with a path of its own."""
        for post in self.posts:
            yield partial(self.check_post, reader, post)
        # A set would have another order in each run.
        for slug in dict.fromkeys((*self.slugs, *TITLES.values())):
            yield partial(self.check_slug, reader, slug)
        for comment in self.comments:
            yield partial(self.check_comment, reader, comment)
        for user in self.users:
            if user.is_removed:
                yield partial(self.check_removed_user, reader, user)
        yield partial(self.check_users, reader)
