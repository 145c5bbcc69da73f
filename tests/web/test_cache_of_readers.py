"""The response cache and signed-in readers: they get what the application would send them."""

import asyncio

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from tests.support.clients import (
    PASSWORD,
    ChangeSettings,
    ChangeUser,
    add_comment,
    bearer,
    client_of,
    log_in,
    publish,
    sign_up,
)
from tests.support.statements import executions
from tests.web.test_cache import (
    Backend,
    FakeInvalidation,
    cache_of,
    make_public_paths,
    wait_until_caching,
)

# A request with a body is not cached.
PAST_THE_CACHE = {"Content-Length": "0"}
# Of each request anew.
OWN_HEADERS = {"x-request-id", "x-process-time"}


def describe(response: Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    headers = [line for line in response.headers.items() if line[0] not in OWN_HEADERS]
    body = response.content.replace(response.headers["X-Request-ID"].encode(), b"")
    return response.status_code, body, sorted(headers)


async def test_each_reader_gets_the_same_response_with_and_without_the_cache(
    app: FastAPI,
    ann: AsyncClient,
    bob: AsyncClient,
    admin: AsyncClient,
    anonymous: AsyncClient,
    change_user: ChangeUser,
    change_settings: ChangeSettings,
):
    await wait_until_caching(app)
    paths = await make_public_paths(ann)
    change_settings(comments="approved")
    (post,) = (await ann.get("/posts")).json()["results"]
    await add_comment(bob, post, "Waits for approval")
    draft = await publish(ann, published_at=None)
    paths += [
        f"/posts/{draft['id']}",
        f"/posts/{draft['id']}/comments",
        "/posts?size=0",
        "/users/9",
    ]
    async with client_of(app) as carol, client_of(app) as narrow:
        await sign_up(carol, "Carol")
        await change_user("carol@example.com", is_active=False)
        await log_in(narrow, "ann@example.com", scope="users:read")
        readers = [anonymous, ann, narrow, bob, carol, admin]
        for path in paths:
            for number, first in enumerate(readers):
                # Part of the key: each reader is once the one whose request is computed.
                accept = {"Accept": f"application/json, x/{number}"}
                await first.get(path, headers=accept)
                for reader in readers:
                    cached = await reader.get(path, headers=accept)
                    computed = await reader.get(path, headers=accept | PAST_THE_CACHE)

                    assert describe(cached) == describe(computed), (path, number)


@pytest.mark.parametrize("is_jwt", [False, True])
async def test_a_signed_in_read_of_a_cached_response_reads_the_token_alone(
    app: FastAPI, ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient, is_jwt: bool
):
    await wait_until_caching(app)
    post = await publish(ann)
    if is_jwt:
        form = {"grant_type": "password", "username": "bob@example.com", "password": PASSWORD}
        bob.headers.update(bearer((await bob.post("/token", data=form)).json()["access_token"]))
    for path in ("/posts", f"/posts/{post['id']}", f"/users/{post['user_id']}", "/tags"):
        await anonymous.get(path)
        with executions(app) as executed:
            assert (await bob.get(path)).status_code == 200

        assert len(executed) == 1, path


async def test_a_revoked_token_gets_no_cached_response(app: FastAPI, bob: AsyncClient):
    await wait_until_caching(app)
    for _ in range(2):
        assert (await bob.get("/posts")).status_code == 200

    await bob.delete("/auth")

    assert (await bob.get("/posts")).status_code == 401


async def test_a_read_from_the_cache_is_a_use_of_the_token(
    app: FastAPI, bob: AsyncClient, anonymous: AsyncClient
):
    await wait_until_caching(app)
    async with client_of(app) as phone:
        await log_in(phone, "bob@example.com", scope="posts:read")
        await anonymous.get("/posts")
        with executions(app) as executed:
            await phone.get("/posts")
        assert len(executed) == 1
        await app.state.token_uses.write()

        sessions = (await bob.get("/users/me/sessions")).json()["results"]

    assert sessions[0]["last_used_at"] is not None


async def test_anonymous_clients_do_not_get_what_was_computed_for_one_reader():
    backend, invalidation = Backend(), FakeInvalidation()
    async with cache_of(backend, invalidation) as client:
        own = asyncio.ensure_future(client.get("/", headers={"Authorization": "Bearer own"}))
        for _ in range(20):
            await asyncio.sleep(0)
        others = [asyncio.ensure_future(client.get("/")) for _ in range(3)]
        for _ in range(20):
            await asyncio.sleep(0)
        backend.may_respond.set()

        assert (await own).json() == {"request": 1}
        assert [one.json() for one in await asyncio.gather(*others)] == [{"request": 2}] * 3


async def test_requests_of_several_users_for_one_path_do_not_wait_for_each_other():
    backend, invalidation = Backend(), FakeInvalidation()
    async with cache_of(backend, invalidation) as client:
        own = [
            asyncio.ensure_future(client.get("/", headers={"Authorization": f"Bearer {name}"}))
            for name in ("ann", "bob")
        ]
        for _ in range(20):
            await asyncio.sleep(0)
        begun = backend.request_count
        backend.may_respond.set()
        await asyncio.gather(*own)

    assert begun == 2
