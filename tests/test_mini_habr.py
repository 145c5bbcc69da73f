"""A mini-Habr, from an empty database to the last post.

Read the tests in order: create the tables, sign up, log in, look at your account, write posts,
page through them, edit your own. Every test starts with empty tables and the people named in its
arguments: `anonymous` sends no token, `ann` and `bob` have signed up and send theirs.
"""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import time_machine
from alembic import command
from alembic.config import Config
from fastapi import FastAPI
from httpx import AsyncClient
from pwdlib import PasswordHash
from sqlalchemy import URL, Connection, inspect, text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.clients import PASSWORD, bearer, id_of, publish

MIGRATIONS = Path(__file__).parents[1] / "migrations"
SIGN_UP = {"email": "carl@example.com", "name": "Carl", "password": PASSWORD}
LOG_IN = {"username": "ann@example.com", "password": PASSWORD}
HELLO = {"title": "Hello, world!", "content": "My *first* post."}
TWO_WEEKS = timedelta(weeks=2)


def assert_expires_in_two_weeks(token: dict[str, str]) -> None:
    life = datetime.fromisoformat(token["expires"]) - datetime.now(UTC)
    assert TWO_WEEKS - timedelta(minutes=1) < life <= TWO_WEEKS


async def test_migrations_build_the_tables_that_the_models_declare(empty_url: URL):
    def upgrade_and_downgrade(connection: Connection) -> tuple[set[str], set[str]]:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS))
        command.upgrade(config, "head")
        command.check(config)  # raises if autogenerate finds a difference
        upgraded = set(inspect(connection).get_table_names())
        command.downgrade(config, "base")
        return upgraded, set(inspect(connection).get_table_names())

    engine = create_async_engine(empty_url)
    async with engine.begin() as connection:
        upgraded, downgraded = await connection.run_sync(upgrade_and_downgrade)
    await engine.dispose()

    assert {"users", "tokens", "posts"} < upgraded
    assert downgraded == {"alembic_version"}


async def test_signing_up_returns_an_account_and_a_token(anonymous: AsyncClient):
    response = await anonymous.post("/sign-up", json=SIGN_UP)

    account = response.json()
    token = account.pop("token")
    assert response.status_code == 200
    assert account == {
        "id": account["id"],
        "email": "carl@example.com",
        "email_verified_at": None,
        "pending_email": None,
        "name": "Carl",
        "username": "carl",
        "bio": None,
        "avatar_url": None,
        "is_active": True,
        "is_admin": False,
        "is_author": True,
        "created_at": account["created_at"],
        "updated_at": account["created_at"],
    }
    assert token.keys() == {"access_token", "expires", "token_type"}
    assert token["token_type"] == "bearer"
    assert_expires_in_two_weeks(token)


async def test_an_email_can_sign_up_only_once(anonymous: AsyncClient):
    await anonymous.post("/sign-up", json=SIGN_UP)

    response = await anonymous.post("/sign-up", json=SIGN_UP | {"name": "Another Carl"})

    assert response.status_code == 400
    assert response.json()["detail"] == "Email already registered"


async def test_a_sign_up_with_invalid_fields_names_each_of_them(anonymous: AsyncClient):
    response = await anonymous.post("/sign-up", json={"email": "carl", "password": PASSWORD})

    assert response.status_code == 422
    found = {error["loc"][-1]: error["type"] for error in response.json()["errors"]}
    assert found == {"email": "email", "name": "missing"}
    assert PASSWORD not in response.text


async def test_the_database_stores_a_password_hash_and_a_token_digest(
    anonymous: AsyncClient, empty_app: FastAPI
):
    account = (await anonymous.post("/sign-up", json=SIGN_UP)).json()

    query = text("SELECT password_hash, digest FROM users JOIN tokens ON user_id = users.id")
    async with empty_app.state.database.session(writes=False) as session:
        password_hash, digest = (await session.exec(query)).one()

    assert password_hash.startswith("$argon2id$")
    assert PasswordHash.recommended().verify(PASSWORD, password_hash)
    assert digest == sha256(account["token"]["access_token"].encode()).hexdigest()


async def test_logging_in_returns_a_token_for_two_weeks(ann: AsyncClient):
    response = await ann.post("/auth", data=LOG_IN)

    token = response.json()
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert token.keys() == {"access_token", "expires", "token_type"}
    assert_expires_in_two_weeks(token)
    me = await ann.get("/users/me", headers=bearer(token["access_token"]))
    assert me.json()["name"] == "Ann"


async def test_a_wrong_password_and_an_unknown_email_get_the_same_response(ann: AsyncClient):
    wrong = await ann.post("/auth", data=LOG_IN | {"password": "wrong horse"})
    unknown = await ann.post("/auth", data=LOG_IN | {"username": "carl@example.com"})

    assert wrong.status_code == unknown.status_code == 400
    assert wrong.json()["detail"] == "Incorrect email or password"
    assert wrong.json() | {"instance": ""} == unknown.json() | {"instance": ""}


async def test_a_token_shows_the_account_of_its_user(anonymous: AsyncClient):
    account = (await anonymous.post("/sign-up", json=SIGN_UP)).json()
    token = account.pop("token")["access_token"]

    response = await anonymous.get("/users/me", headers=bearer(token))

    assert (response.status_code, response.json()) == (200, account)


async def test_an_account_requires_a_valid_token(anonymous: AsyncClient):
    missing = await anonymous.get("/users/me")
    invalid = await anonymous.get("/users/me", headers=bearer("nonsense"))

    for response in (missing, invalid):
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert missing.json()["detail"] == "Not authenticated"
    assert invalid.json()["detail"] == "Invalid authentication credentials"


async def test_a_token_expires_after_two_weeks(ann: AsyncClient):
    now = datetime.now(UTC)

    with time_machine.travel(now + TWO_WEEKS - timedelta(minutes=1), tick=False):
        assert (await ann.get("/users/me")).status_code == 200
    with time_machine.travel(now + TWO_WEEKS, tick=False):
        assert (await ann.get("/users/me")).status_code == 401


async def test_logging_out_revokes_the_token(ann: AsyncClient):
    assert (await ann.delete("/auth")).status_code == 204
    assert (await ann.get("/users/me")).status_code == 401


async def test_writing_a_post_publishes_it(ann: AsyncClient, anonymous: AsyncClient):
    response = await ann.post("/posts", json=HELLO)
    rejected = await anonymous.post("/posts", json=HELLO)

    post = response.json()
    assert response.status_code == 201
    assert post == HELLO | {
        "id": post["id"],
        "slug": "hello-world",
        "user_id": await id_of(ann),
        "user_name": "Ann",
        "author": {
            "id": await id_of(ann),
            "username": "ann",
            "name": "Ann",
            "avatar_url": None,
        },
        "tags": [],
        "summary": "My first post.",
        "reading_minutes": 1,
        "cover_url": None,
        "cover_alt": None,
        "canonical_url": None,
        "comments_open": True,
        "content_type": "text/markdown",
        "comment_count": 0,
        "bookmark_count": 0,
        "published_at": post["published_at"],
        "created_at": post["created_at"],
        "updated_at": post["created_at"],
    }
    assert datetime.fromisoformat(post["published_at"]) <= datetime.now(UTC)
    assert rejected.status_code == 401


async def test_anyone_can_read_a_post_by_its_id_or_slug(ann: AsyncClient, anonymous: AsyncClient):
    post = await publish(ann, **HELLO)

    by_id = await anonymous.get(f"/posts/{post['id']}")
    by_slug = await anonymous.get("/posts/slug/hello-world")
    missing = await anonymous.get(f"/posts/{post['id'] + 1}")

    shown = post | {"content_html": "<p>My <em>first</em> post.</p>\n"}
    assert by_id.json() == by_slug.json() == shown
    assert missing.status_code == 404
    assert missing.json()["detail"] == "Post not found"


async def test_posts_are_listed_newest_first_ten_a_page(ann: AsyncClient, anonymous: AsyncClient):
    for number in range(1, 13):
        await publish(ann, title=f"Post {number}")

    pages = [(await anonymous.get(f"/posts?page={page}")).json() for page in (1, 2)]

    assert [page["total_count"] for page in pages] == [12, 12]
    first, second = ([post["title"] for post in page["results"]] for page in pages)
    assert first == [f"Post {number}" for number in range(12, 2, -1)]
    assert second == ["Post 2", "Post 1"]


async def test_a_draft_is_visible_to_its_author_only(ann: AsyncClient, anonymous: AsyncClient):
    draft = await publish(ann, published_at=None)
    path = f"/posts/{draft['id']}"

    assert (await ann.get(path)).status_code == 200
    assert (await anonymous.get(path)).status_code == 404
    assert (await anonymous.get("/posts")).json()["results"] == []
    assert (await ann.get("/users/me/posts")).json()["total_count"] == 1


async def test_an_author_can_rewrite_a_post_or_change_one_field(ann: AsyncClient):
    post = await publish(ann, **HELLO)
    path = f"/posts/{post['id']}"

    rewritten = await ann.put(path, json={"title": "Goodbye", "content": "My last post."})
    changed = await ann.patch(path, json={"tags": ["farewell"]})

    assert rewritten.status_code == changed.status_code == 200
    assert rewritten.json()["created_at"] == post["created_at"] < rewritten.json()["updated_at"]
    assert (changed.json()["title"], changed.json()["tags"]) == ("Goodbye", ["farewell"])
    redirect = await ann.get("/posts/slug/hello-world")
    assert (redirect.status_code, redirect.headers["Location"]) == (308, "/posts/slug/goodbye")


async def test_only_its_author_may_modify_a_post(ann: AsyncClient, bob: AsyncClient):
    post = await publish(ann, **HELLO)

    for method in ("PUT", "PATCH", "DELETE"):
        body = None if method == "DELETE" else HELLO | {"title": "By Bob"}
        response = await bob.request(method, f"/posts/{post['id']}", json=body)

        assert response.status_code == 403
        assert response.json()["detail"] == "You don't have access to modify this post"
    assert (await bob.get(f"/posts/{post['id']}")).json()["title"] == "Hello, world!"


async def test_an_author_can_delete_a_post(ann: AsyncClient):
    path = f"/posts/{(await publish(ann))['id']}"

    assert (await ann.delete(path)).status_code == 204
    assert (await ann.get(path)).status_code == 404
