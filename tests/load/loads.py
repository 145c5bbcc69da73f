"""The loads of the parts: requests that are sent in turn."""

import random
from collections.abc import Callable

from tests.load import data
from tests.load.data import READERS, TOKEN, Size
from tests.load.measure import Load, Request, delete, get, post, put

# Of the posts under discussion, which are the newest, and of the posts of other loads.
HOT_POSTS = 5
SAMPLE = 200


def make_reads(size: Size) -> list[Load]:
    return [
        Load("list", [get("/posts", page=1, size=10)]),
        Load("one post", [get(f"/posts/{size.posts // 2}")]),
        Load("me", [get("/users/me", TOKEN)]),
    ]


def make_new_post() -> Request:
    tags = [data.tag_name(tag_id) for tag_id in data.tag_ids(1)]
    title = "Load @run@ @number@"
    return post("/posts", TOKEN, {"title": title, "content": data.sample_markdown(), "tags": tags})


def make_anonymous_reads(size: Size, count: int, words: random.Random) -> list[Request]:
    """Return random requests: half for twenty pages of the list, half for two hundred posts."""
    pages = [get("/posts", page=page, size=10) for page in range(1, 21)]
    step = max(1, size.posts // 200)
    posts = [get(f"/posts/{post_id}") for post_id in range(1, size.posts + 1, step)][:200]
    return [words.choice(pages if number % 2 else posts) for number in range(count)]


def make_mixed_requests(size: Size) -> list[Request]:
    """Return 95 % anonymous reads, 4 % reads with a token and 1 % new posts, always the same."""
    words = random.Random(1)
    with_token = [
        get("/users/me", TOKEN) if number % 2 else get(f"/posts/{1 + number}", TOKEN)
        for number in range(80)
    ]
    requests = [*make_anonymous_reads(size, 1_900, words), *with_token, *[make_new_post()] * 20]
    words.shuffle(requests)
    return requests


def sample_posts(size: Size) -> list[int]:
    """Return ids of posts from all over the blog."""
    return list(range(1, size.posts + 1, max(1, size.posts // SAMPLE)))[:SAMPLE]


def hot_posts(size: Size) -> list[int]:
    """Return the ids of the newest posts, which also stand on the first page of the list."""
    return list(range(size.posts, size.posts - HOT_POSTS, -1))


def make_signed_in_reads(size: Size, make_token: Callable[[int], str]) -> list[Load]:
    """Return reads of public data by many users, of whom none is the author."""
    post_id = size.posts // 2 + 1
    paths = {
        "post": f"/posts/{post_id}",
        "list": "/posts?page=1&size=10",
        "profile": f"/users/{data.author_id(post_id)}",
    }
    tokens = [make_token(user_id) for user_id in range(1, READERS + 1)]
    return [Load(name, [get(path, token) for token in tokens]) for name, path in paths.items()]


def make_comment(post_id: int, user_id: int) -> Request:
    content = {"content": f"A comment, number @number@ of run @run@. {data.sample_comment()}"}
    return post(f"/posts/{post_id}/comments", data.token_of(user_id), content)


def make_comments(size: Size) -> list[Load]:
    """Return comments by many users, on many posts and on one."""
    users = range(1, READERS + 1)
    pairs = zip(sample_posts(size), [*users, *users], strict=False)
    spread = [make_comment(post_id, user_id) for post_id, user_id in pairs]
    on_one = [make_comment(size.posts, user_id) for user_id in users]
    return [Load("comment on many posts", spread), Load("comment on one post", on_one)]


def make_bookmark(post_id: int, user_id: int, *, adds: bool) -> Request:
    path, token = f"/users/me/bookmarks/{post_id}", data.token_of(user_id)
    return put(path, token) if adds else delete(path, token)


def make_bookmarks(size: Size) -> list[Load]:
    """Return bookmarks that many users add and then remove, of many posts and of one."""
    users = range(1, READERS + 1)
    targets = {"many posts": sample_posts(size)[:READERS], "one post": [size.posts] * READERS}
    return [
        Load(
            f"bookmark {name}",
            [
                make_bookmark(post_id, user_id, adds=adds)
                for adds in (True, False)
                for post_id, user_id in zip(post_ids, users, strict=True)
            ],
        )
        for name, post_ids in targets.items()
    ]


def make_searches(size: Size) -> list[Load]:
    """Return searches for a word that ten posts have, a hundredth, a half, and nearly all."""
    words = {
        "ten": "series000007",
        "a hundredth": "hundredth07",
        "half": "half1",
        "all": data.WORDS[0],
    }
    return [Load(f"word of {name}", [get("/posts", q=word)]) for name, word in words.items()]


def make_discussion(size: Size) -> Load:
    """Return 90 % reads, a third of them with a token, 5 % comments and 5 % bookmarks."""
    words = random.Random(1)
    pages = [f"/posts?page={page}&size=10" for page in range(1, 21)]
    hot = hot_posts(size)
    posts, hot_paths = (
        [f"/posts/{post_id}" for post_id in ids] for ids in (sample_posts(size), hot)
    )
    groups = [pages, pages, posts, hot_paths]
    requests = []
    for number in range(1_800):
        user_id = words.randint(1, READERS)
        path = words.choice(words.choice(groups))
        requests.append(get(path, data.token_of(user_id) if number % 3 == 0 else None))
    for _ in range(100):
        requests.append(make_comment(words.choice(hot), words.randint(1, READERS)))
    # Each is added and removed, in any order: both are idempotent.
    for user_id in range(1, 51):
        post_id = words.choice(hot)
        requests += [make_bookmark(post_id, user_id, adds=adds) for adds in (True, False)]
    words.shuffle(requests)
    return Load("discussion", requests, is_apart=True)


def make_page(size: Size) -> Load:
    """Return readers of the newest post, and a user who comments on it."""
    return Load(
        "page",
        [get(f"/posts/{size.posts}")],
        writer=[make_comment(size.posts, 1)],
        is_apart=True,
    )
