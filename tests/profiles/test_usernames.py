"""Usernames: chosen or made from the name, unique for ever, reserved words."""

import asyncio
import re
from collections.abc import Iterable

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from httpx import AsyncClient, Response
from sqlalchemy import text
from starlette.routing import Mount

from blog_api.accounts.usernames import RESERVED_USERNAMES, USERNAME
from tests.support.clients import PASSWORD, assert_problem, client_of, id_of, publish
from tests.support.processes import Server


def make_account(name: str, email: str = "new@example.com", **values: object) -> dict[str, object]:
    return {"email": email, "name": name, "password": PASSWORD, **values}


async def set_username(client: AsyncClient, username: str) -> Response:
    return await client.patch("/users/me", json={"username": username})


@pytest.mark.parametrize(
    ("name", "username"),
    [
        ("Ann Karenina", "ann-karenina"),
        ("Анна Каренина", "anna-karenina"),
        ("Zoë", "zoe"),
        ("漢", "han"),
        ("A very long name that goes on and on", "a-very-long-name-that-goes"),
    ],
)
async def test_a_username_is_made_from_the_name(anonymous: AsyncClient, name: str, username: str):
    account = (await anonymous.post("/users", json=make_account(name))).json()

    assert account["username"].startswith(username[:20])
    assert len(account["username"]) <= 30
    assert account["username"] == username or len(name) > 25


@pytest.mark.parametrize("name", ["Al", "42", "🦀", "Admin", "Me", "_", "Posts"])
async def test_a_name_that_makes_no_username_gives_a_random_one(anonymous: AsyncClient, name: str):
    account = (await anonymous.post("/users", json=make_account(name))).json()

    assert USERNAME.fullmatch(account["username"])
    assert account["username"] not in RESERVED_USERNAMES
    assert re.fullmatch("(user|admin|posts)-[a-z]+", account["username"])


async def test_users_of_one_name_get_different_usernames(anonymous: AsyncClient):
    usernames = set()
    for number in range(3):
        body = make_account("Ann", f"{number}@example.com")
        usernames.add((await anonymous.post("/users", json=body)).json()["username"])

    assert len(usernames) == 3
    assert all(username.startswith("ann") for username in usernames)


async def test_a_username_can_be_chosen_at_sign_up(anonymous: AsyncClient):
    response = await anonymous.post("/sign-up", json=make_account("Ann", username="Anna_K-1"))

    assert response.json()["username"] == "anna_k-1"
    for path in ("/users/username/anna_k-1", "/users/username/ANNA_K-1"):
        assert (await anonymous.get(path)).json()["id"] == response.json()["id"]


async def test_a_taken_username_is_a_409_and_creates_no_account(
    ann: AsyncClient, anonymous: AsyncClient
):
    for path in ("/sign-up", "/users"):
        response = await anonymous.post(path, json=make_account("Other", username="ANN"))

        assert_problem(response, 409)
        assert response.json()["type"] == "urn:blog-api:username-taken"
    assert len((await ann.get("/users")).json()) == 1


@pytest.mark.parametrize(
    "username",
    [
        "an", "a" * 31, "1ann", "-ann", "_ann", "ann k", "ann.k", "анна", "ann\u200b", "ann\n", "",
        "\u212aann", "admin", "API", "me", "users", "username", "feed", "anonymous", "12345", None,
    ],
)  # fmt: skip
async def test_an_invalid_or_reserved_username_is_rejected(
    ann: AsyncClient, anonymous: AsyncClient, username: str | None
):
    changed = await ann.patch("/users/me", json={"username": username})
    responses = [changed]
    if username is not None:
        body = make_account("Other", username=username)
        responses.append(await anonymous.post("/sign-up", json=body))

    for response in responses:
        assert_problem(response, 422)
        assert response.json()["errors"][0]["loc"] == ["body", "username"]
    assert (await ann.get("/users/me")).json()["username"] == "ann"


def first_segments(app: FastAPI) -> Iterable[str]:
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute | Mount):
            yield route.original_route.path.strip("/").partition("/")[0]


async def test_every_first_segment_of_a_path_is_reserved(app: FastAPI):
    segments = {one for one in first_segments(app) if USERNAME.fullmatch(one)}

    assert {"posts", "users", "tags", "admin", "docs"} <= segments
    assert segments <= RESERVED_USERNAMES


async def test_a_username_that_was_given_up_is_never_given_to_another_user(
    empty_app: FastAPI, ann: AsyncClient, bob: AsyncClient
):
    assert (await set_username(ann, "Karenina")).json()["username"] == "karenina"

    assert_problem(await set_username(bob, "ann"), 409)
    assert_problem(await set_username(bob, "karenina"), 409)
    assert (await bob.get("/users/username/ann")).status_code == 404
    async with client_of(empty_app) as other:
        body = make_account("Ann", "other@example.com")
        assert (await other.post("/users", json=body)).json()["username"] != "ann"
    assert (await set_username(ann, "ann")).status_code == 200
    assert_problem(await set_username(bob, "karenina"), 409)


async def test_the_username_of_a_deleted_account_is_never_given_to_another_user(
    ann: AsyncClient, bob: AsyncClient
):
    await ann.request("DELETE", "/users/me", json={"current_password": PASSWORD})

    assert_problem(await set_username(bob, "ann"), 409)
    assert (await bob.get("/users/username/ann")).status_code == 404


async def test_one_of_many_concurrent_claims_succeeds(empty_app: FastAPI, ann: AsyncClient):
    bodies = [make_account("New", f"{n}@example.com", username="wanted") for n in range(8)]
    async with client_of(empty_app) as client:
        responses = await asyncio.gather(
            *(client.post("/users", json=body) for body in bodies), set_username(ann, "wanted")
        )

    statuses = sorted(response.status_code for response in responses)
    assert statuses[0] in (200, 201)
    assert statuses[1:] == [409] * 8


@pytest.mark.processes
async def test_one_of_many_claims_at_two_workers_succeeds(server: Server):
    async with server.client() as client:
        bodies = [make_account("New", f"claim{n}@example.com", username="claim") for n in range(20)]
        responses = await asyncio.gather(*(client.post("/users", json=body) for body in bodies))

    statuses = sorted(response.status_code for response in responses)
    assert statuses[0] == 201
    assert set(statuses[1:]) <= {409, 503}


async def test_a_failed_sign_up_reserves_no_username(ann: AsyncClient, anonymous: AsyncClient):
    body = make_account("Other", "ann@example.com", username="wanted")
    assert_problem(await anonymous.post("/users", json=body), 400)

    assert (await set_username(ann, "wanted")).status_code == 200


@pytest.mark.parametrize("key", ["ann", "ANN", "id"])
async def test_posts_are_filtered_by_the_username_or_id_of_the_author(
    ann: AsyncClient, bob: AsyncClient, key: str
):
    key = str(await id_of(ann)) if key == "id" else key
    post = await publish(ann, tags=["news"])
    await publish(ann, published_at=None)
    await publish(bob, tags=["news"])

    paths = (f"/posts?author={key}", f"/users/{key}/posts", f"/posts?author={key}&tag=news",
             f"/posts?author={key}&q=hello", f"/users/{key}/posts?q=hello")  # fmt: skip
    for path in paths:
        page = (await bob.get(path)).json()
        assert [one["id"] for one in page["results"]] == [post["id"]], path
        assert page["total_count"] == 1, path
    feed = (await bob.get(f"/feed.json?author={key}")).json()
    assert len(feed["items"]) == 1


async def test_an_unknown_username_has_no_posts(ann: AsyncClient):
    await publish(ann)

    for path in ("/posts?author=missing", "/posts?author=999999&q=hello"):
        assert (await ann.get(path)).json()["total_count"] == 0
    for path in (
        "/users/missing/posts",
        "/users/username/missing",
        "/users/999999/posts",
    ):
        assert_problem(await ann.get(path), 404)
    for author in ("0", "9999999999", "-1", "a b", "x"):
        assert_problem(await ann.get("/posts", params={"author": author}), 422)
        assert_problem(await ann.get(f"/users/{author}/posts"), 422)


async def test_the_version_before_inserts_users_without_a_username(
    empty_app: FastAPI, ann: AsyncClient
):
    async with empty_app.state.database.session(writes=True) as session:
        insert = text(
            "INSERT INTO users (name, is_active, is_admin, created_at, updated_at) "
            "SELECT 'Old', is_active, is_admin, created_at, updated_at FROM users"
        )
        await (await session.connection()).execute(insert)

    profiles = (await ann.get("/users?q=&limit=10")).json()
    assert [profile["name"] for profile in profiles] == ["Ann", "Old"]
    username = profiles[1]["username"]
    assert USERNAME.fullmatch(username) and username.startswith("user-")
    assert (await ann.get(f"/users/username/{username}")).json() == profiles[1]
    assert_problem(await set_username(ann, username), 409)
