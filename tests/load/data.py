"""The data of the benchmark, and the statements that replace the disabled triggers."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import chain
from typing import Any

from blog_api.accounts.jwt import Claims, JWTSigner
from blog_api.accounts.scopes import DEFAULT_SCOPES, join_scopes
from blog_api.core.security import SecretKeys, hash_token
from blog_api.posts.excerpts import make_excerpt_columns
from blog_api.text.lexemes import index_words
from blog_api.text.markdown import render_markdown
from blog_api.text.tokenizer import VERSION
from tests.support.clients import SECRET_KEY

# Increase it with every change below, so that existing databases are recreated.
LAYOUT = 5

AUTHORS = 1_000
TAGS = 200
LOGINS = 16
# The first authors, who have tokens.
READERS = 100
BODIES = 500
BODY_LENGTH = 1_500

# Fixed, so that every run has the same data, and in the past even for a million posts.
FIRST_PUBLISHED_AT = datetime(2024, 1, 1, tzinfo=UTC)
POST_INTERVAL = timedelta(minutes=1)
NEVER = datetime(2100, 1, 1, tzinfo=UTC)

PASSWORD = "a password for the load test"

VOCABULARY = (
    "river market engine garden letter window summer bridge paper winter signal harbour method "
    "village station answer journey theory kitchen measure weather pocket minister shadow copper "
    "island reason dinner planet school record bottle butter ladder number office people question "
    "silver travel valley writer yellow branch circle danger effort forest ground handle income "
    "jacket kettle listen memory narrow object police rather second tunnel useful voyage wander"
)
WORDS = VOCABULARY.split()


@dataclass(frozen=True)
class Size:
    """A number of posts, and its name in the name of the database."""

    name: str
    posts: int


TINY, SMALL, MEDIUM, LARGE = (Size(f"1e{n}", 10**n) for n in (2, 3, 4, 6))

Row = dict[str, Any]


def token_of(user_id: int) -> str:
    """Return the opaque token of one of the first authors."""
    return f"a-token-for-the-load-test-and-nothing-else-{user_id}"


# A token of the first author.
TOKEN = token_of(1)


def jwt_session_of(user_id: int) -> str:
    return f"a-session-for-the-load-test-and-nothing-else-{user_id}"


@cache
def jwt_of(user_id: int) -> str:
    """Return a JWT of one of the first authors that does not expire during a run."""
    digest = hash_token(jwt_session_of(user_id))
    claims = Claims(user_id, digest, frozenset(DEFAULT_SCOPES), NEVER)
    return JWTSigner(SecretKeys(SECRET_KEY)).sign(claims)


def login_email(number: int) -> str:
    return f"login-{number}@example.com"


def published_at(post_id: int) -> datetime:
    return FIRST_PUBLISHED_AT + post_id * POST_INTERVAL


def tag_ids(post_id: int) -> list[int]:
    """Return three different ids."""
    step = post_id // TAGS % 60
    return [1 + (post_id + offset) % TAGS for offset in (0, 1 + step, 70 + step)]


def author_id(post_id: int) -> int:
    # 7919 and 1000 are coprime, so all authors have the same number of posts.
    return 1 + post_id * 7_919 % AUTHORS


def tag_name(tag_id: int) -> str:
    return f"{WORDS[tag_id % len(WORDS)].title()} {tag_id}"


def sentence(words: random.Random) -> str:
    return " ".join(words.choices(WORDS, k=words.randint(6, 14))).capitalize() + "."


def markdown(words: random.Random) -> str:
    """Return a text with headings, emphasis, links, a list, code and a table."""
    parts = [
        f"# {sentence(words)}",
        f"*{sentence(words)}* See [this page](https://example.com/{words.choice(WORDS)}).",
        "\n".join(f"- {sentence(words)}" for _ in range(4)),
        f"> {sentence(words)}",
        f'```python\nprint("{sentence(words)}")\n```',
        f"| a | b |\n| --- | ---: |\n| {words.choice(WORDS)} | **{words.choice(WORDS)}** |",
    ]
    while sum(map(len, parts)) < BODY_LENGTH:
        parts.append(" ".join(sentence(words) for _ in range(3)))
    return "\n\n".join(parts) + "\n"


def bodies() -> list[str]:
    """Return texts; a word of a hundredth of the posts and one of a half are at their ends.

    No such word is the beginning of another.
    """
    words = random.Random(0)
    return [
        f"{markdown(words)}\nhundredth{number * 100 // BODIES:02} half{number % 2}\n"
        for number in range(BODIES)
    ]


def sample_markdown() -> str:
    return markdown(random.Random(1))


def sample_comment() -> str:
    words = random.Random(1)
    return " ".join(sentence(words) for _ in range(3))


def times(at: datetime) -> Row:
    return {"created_at": at, "updated_at": at}


def username_of(user_id: int) -> str:
    return f"user-{user_id}"


def username_rows() -> Iterator[Row]:
    for user_id in range(1, AUTHORS + LOGINS + 1):
        yield {"username": username_of(user_id), "user_id": user_id}


def user_rows(password_hash: str) -> Iterator[Row]:
    """Yield authors without passwords, then users that log in."""
    for user_id in range(1, AUTHORS + LOGINS + 1):
        number = user_id - AUTHORS
        email = login_email(number) if number > 0 else f"author-{user_id}@example.com"
        yield {
            "id": user_id,
            **times(FIRST_PUBLISHED_AT),
            "name": f"{WORDS[user_id % len(WORDS)].title()} {user_id}",
            "username": username_of(user_id),
            "email": email,
            "email_key": email,
            "mailbox_key": email,
            "password_hash": password_hash if number > 0 else None,
            "is_active": True,
            "is_admin": False,
        }


def token_rows() -> Iterator[Row]:
    """Yield the opaque tokens of the readers, then their sessions with JWT."""
    for token_id in range(1, 2 * READERS + 1):
        is_opaque = token_id <= READERS
        user_id = token_id if is_opaque else token_id - READERS
        secret = token_of(user_id) if is_opaque else jwt_session_of(user_id)
        yield {
            "id": token_id,
            **times(FIRST_PUBLISHED_AT),
            "user_id": user_id,
            "digest": hash_token(secret),
            "refresh_digest": None if is_opaque else hash_token(f"{secret}-refresh"),
            "scope": join_scopes(DEFAULT_SCOPES),
            "expires_at": NEVER,
        }


def tag_rows() -> Iterator[Row]:
    for tag_id in range(1, TAGS + 1):
        name = tag_name(tag_id)
        yield {"id": tag_id, **times(FIRST_PUBLISHED_AT), "name": name, "key": name.lower()}


def titles(size: Size) -> Iterator[str]:
    """Yield titles; one word is in ten of them, and the number in one."""
    words = random.Random(size.posts)
    for post_id in range(1, size.posts + 1):
        series = f"series{post_id % (size.posts // 10):06}"
        yield f"{' '.join(words.choices(WORDS, k=3))} {series} {post_id}".capitalize()


def slug_of(title: str) -> str:
    return title.lower().replace(" ", "-")


def make_body(content: str) -> Row:
    """Return the columns that a text gives."""
    content_html = render_markdown(content)
    made = make_excerpt_columns(content_html)
    return {"content": content, "content_html": content_html, **made}


def post_rows(size: Size) -> Iterator[Row]:
    made = [make_body(content) for content in bodies()]
    for post_id, title in enumerate(titles(size), 1):
        yield {
            "id": post_id,
            **times(published_at(post_id)),
            "title": title,
            **made[post_id % BODIES],
            "slug": slug_of(title),
            "published_at": published_at(post_id),
            "tags": json.dumps([tag_name(tag_id) for tag_id in tag_ids(post_id)]),
            "version": 1,
            "words_version": VERSION,
            "words_from": "",
            "comment_count": 0,
            "bookmark_count": 0,
            "user_id": author_id(post_id),
        }


def word_rows(size: Size) -> Iterator[Row]:
    """Yield what `index_words()` makes of the posts; it looks at each body once only."""
    of_bodies = [index_words("", [], content) for content in bodies()]
    for post_id, title in enumerate(titles(size), 1):
        head = index_words(title, [tag_name(tag_id) for tag_id in tag_ids(post_id)], "")
        body = of_bodies[post_id % BODIES]
        lexemes = dict.fromkeys(f"{head.lexemes} {body.lexemes}".split())
        # The last line is that of the content.
        lines = [*head.folded.split("\n")[:-1], body.folded.split("\n")[-1]]
        yield {
            "post_id": post_id,
            "published_at": published_at(post_id),
            "title_length": len(title),
            "is_cut": False,
            "lexemes": " ".join(lexemes),
            "folded": "\n".join(lines),
        }


def slug_rows(size: Size) -> Iterator[Row]:
    for post_id, title in enumerate(titles(size), 1):
        yield {
            "id": post_id,
            **times(published_at(post_id)),
            "slug": slug_of(title),
            "post_id": post_id,
        }


def post_tag_rows(size: Size) -> Iterator[Row]:
    for post_id in range(1, size.posts + 1):
        at = published_at(post_id)
        for tag_id in tag_ids(post_id):
            yield {"tag_id": tag_id, "post_id": post_id, "published_at": at, "updated_at": at}


def tables(size: Size, password_hash: str) -> Iterator[tuple[str, int, list[str], Iterator[Row]]]:
    """Yield name, row count, columns and rows of each table; ids start at 1."""
    for table, count, rows in (
        ("users", AUTHORS + LOGINS, user_rows(password_hash)),
        ("usernames", AUTHORS + LOGINS, username_rows()),
        ("tokens", 2 * READERS, token_rows()),
        ("tags", TAGS, tag_rows()),
        ("posts", size.posts, post_rows(size)),
        ("post_words", size.posts, word_rows(size)),
        ("slugs", size.posts, slug_rows(size)),
        ("post_tags", 3 * size.posts, post_tag_rows(size)),
    ):
        first = next(rows)
        yield table, count, list(first), chain([first], rows)


# Triggers do this otherwise.
COUNTS = """
    INSERT INTO post_counts (user_id, tag_id, delta, is_total)
    SELECT 0, 0, count(*), TRUE FROM posts
    UNION ALL SELECT user_id, 0, count(*), TRUE FROM posts GROUP BY user_id
    UNION ALL SELECT 0, tag_id, count(*), TRUE FROM post_tags GROUP BY tag_id
"""
# The index of versions before `post_words`, which Django REST framework searches. With a million
# posts it is not searched, and has the titles alone.
VECTOR, VECTOR_OF_TITLE = (
    "post_search_vector(title, tags, content)",
    "to_tsvector('simple', title)",
)
REBUILD_ON_SQLITE = "INSERT INTO post_search_words (post_search_words) VALUES ('rebuild')"


def statements_on_postgres(size: Size) -> list[str]:
    vector = VECTOR_OF_TITLE if size == LARGE else VECTOR
    return [
        COUNTS,
        f"INSERT INTO post_search (post_id, vector) SELECT id, {vector} FROM posts",
        "VACUUM ANALYZE",
    ]


def statements_on_sqlite() -> list[str]:
    titles = "INSERT INTO post_search (rowid, title) SELECT id, title FROM posts"
    return [COUNTS, titles, REBUILD_ON_SQLITE]


def cleanup_statements(size: Size) -> list[str]:
    """Return statements that delete what was added since the data was loaded."""
    return [
        "UPDATE posts SET comment_count = 0, bookmark_count = 0 WHERE id IN "
        "(SELECT post_id FROM comments UNION SELECT post_id FROM bookmarks)",
        "DELETE FROM comments",
        "DELETE FROM bookmarks",
        f"DELETE FROM posts WHERE id > {size.posts}",
        f"DELETE FROM slugs WHERE id > {size.posts}",
        f"DELETE FROM tags WHERE id > {TAGS}",
        f"DELETE FROM tokens WHERE id > {2 * READERS}",
    ]
