"""Server processes: concurrent workers, a crash, the log."""

import asyncio
import itertools
import os
import re
import signal
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from anyio import fail_after
from httpx import AsyncClient, Response
from sqlalchemy import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from blog_api.cli.serve import WORKER_START_SECONDS
from blog_api.db.base import TableBase
from tests.support.clients import PASSWORD, bearer, request_with_retry, sign_up
from tests.support.processes import Server

pytestmark = pytest.mark.processes

WRITES_BEFORE_KILL = 200
# They take longer than the half a second between two health checks of the workers.
REQUESTS_DURING_CHECK = 300


async def read_all_posts(client: AsyncClient, path: str = "/posts") -> list[dict[str, str]]:
    """Return the posts on all pages."""
    posts: list[dict[str, str]] = []
    for number in itertools.count(1):
        page = (await client.get(f"{path}?page={number}&size=100")).json()
        posts += page["results"]
        if len(posts) >= page["total_count"] or not page["results"]:
            return posts
    raise AssertionError


async def test_one_of_fifty_concurrent_sign_ups_succeeds(server: Server):
    body = {"email": "fifty@example.com", "name": "One of fifty", "password": PASSWORD}

    async with server.client() as client:
        responses = await asyncio.gather(
            *(request_with_retry(client, "POST", "/sign-up", json=body) for _ in range(50))
        )
        users = (await client.get("/users?q=one of fifty")).json()

    assert sorted(response.status_code for response in responses) == [200] + [400] * 49
    assert len(users) == 1


async def test_concurrent_writes_of_two_workers_are_not_lost(server: Server):
    async with server.client() as ann:
        await sign_up(ann, "Writing")
        old = [
            (await ann.post("/posts", json={"title": f"Old {n}", "content": "x"})).json()
            for n in range(50)
        ]

        def patch(post: dict[str, str]) -> asyncio.Future[Response]:
            body = {"content": f"new {post['id']}"}
            return asyncio.ensure_future(
                request_with_retry(ann, "PATCH", f"/posts/{post['id']}", json=body)
            )

        def create(n: int) -> asyncio.Future[Response]:
            # All have one title, so that they compete for its slug too.
            body = {"title": "New", "content": f"new {n}"}
            return asyncio.ensure_future(request_with_retry(ann, "POST", "/posts", json=body))

        patched = [patch(post) for post in old]
        created = [create(n) for n in range(50)]
        responses = await asyncio.gather(*patched, *created)
        posts = await read_all_posts(ann, "/users/me/posts")

    assert [response.status_code for response in responses] == [200] * 50 + [201] * 50
    by_id = {post["id"]: post for post in posts}
    assert len(by_id) == len({post["slug"] for post in posts}) == 100
    for post in old:
        assert by_id[post["id"]]["content"] == f"new {post['id']}"
    new = {response.json()["content"] for response in responses[50:]}
    assert new == {f"new {n}" for n in range(50)}


async def test_a_killed_server_loses_no_acknowledged_write(tmp_path: Path, shared_url: URL):
    acknowledged: list[str] = []

    with Server(tmp_path, shared_url) as server:
        async with server.client() as ann:
            await sign_up(ann, "Ann")
            may_kill = asyncio.Event()

            async def write(writer: int) -> None:
                for n in itertools.count():
                    title = f"Post {writer}-{n}"
                    response = await ann.post("/posts", json={"title": title, "content": "x"})
                    assert response.status_code == 201, response.text
                    acknowledged.append(title)
                    if len(acknowledged) >= WRITES_BEFORE_KILL:
                        may_kill.set()

            writers = [asyncio.ensure_future(write(writer)) for writer in range(4)]
            await may_kill.wait()
            server.kill()
            await asyncio.wait(writers)
            for writer in writers:
                # A connection error is expected, and no other failure.
                assert "Error" in type(writer.exception()).__name__
                assert not isinstance(writer.exception(), AssertionError)
    with Server(tmp_path, shared_url) as server:
        async with server.client() as client:
            posts = await read_all_posts(client)

    assert len(acknowledged) >= WRITES_BEFORE_KILL
    assert set(acknowledged) <= {post["title"] for post in posts}


async def test_a_worker_that_dies_during_a_health_check_is_replaced(
    tmp_path: Path, shared_url: URL
):
    with Server(tmp_path, shared_url, workers=2) as server:
        victim, _ = map(int, re.findall(r"Started server process \[(\d+)\]", server.log))
        # A stopped worker does not respond to the check, and the other one serves all requests.
        os.kill(victim, signal.SIGSTOP)
        async with server.client() as client:
            for _ in range(REQUESTS_DURING_CHECK):
                assert (await client.get("/posts")).status_code == 200
        os.kill(victim, signal.SIGKILL)
        with fail_after(WORKER_START_SECONDS / 2):
            await asyncio.to_thread(server.wait_for_log, rf"process \[({victim})\] died")
        server.stop()


async def test_workers_stop_if_their_parent_is_killed(tmp_path: Path, shared_url: URL):
    """They would go on listening, and the service could not be started again."""
    with Server(tmp_path, shared_url, workers=2) as server:
        server.process.kill()
        # Waits for the end of the log, which the workers write too.
        server.stop()
    port = int(server.address.rpartition(":")[2])
    with Server(tmp_path, shared_url, port=port) as again:
        async with again.client() as client:
            assert (await client.get("/posts")).status_code == 200

    assert server.log.count("Finished server process") == 2


async def test_four_concurrent_first_starts_create_one_database_and_one_key(tmp_path: Path):
    url = make_url(f"sqlite:///{tmp_path}/blog.db")

    with ExitStack() as stack:
        servers = [Server(tmp_path, url, settings={"SECRET_KEY": None}) for _ in range(4)]
        await asyncio.gather(
            *(asyncio.to_thread(stack.enter_context, server) for server in servers)
        )
        for n, server in enumerate(servers):
            async with server.client() as client:
                await sign_up(client, f"User{n}")
        async with servers[0].client() as client:
            users = (await client.get("/users")).json()

    assert len(users) == 4
    assert sorted(path.name for path in tmp_path.glob("*.key")) == ["blog.db.key"]
    assert "Running upgrade" in "".join(server.log for server in servers)


async def test_secrets_appear_neither_in_the_log_nor_in_the_database(
    tmp_path: Path, shared_url: URL
):
    with Server(tmp_path, shared_url) as server:
        async with server.client() as ann:
            await sign_up(ann, "Ann")
            login = {"username": "ann@example.com", "password": PASSWORD}
            token = (await ann.post("/auth", data=login)).json()["access_token"]
            await ann.post("/auth", data=login | {"password": "hunter2-wrong"})
            await ann.post("/auth?password=hunter2", data=login)
            await ann.post("/users", json={"email": "a@example.com", "password": "hunter2\0"})
            await ann.put("/users/me/password", json={"current_password": "hunter2"})
            await ann.get("/users/me", headers=bearer("hunter2"))
        server.stop()
    engine = create_async_engine(shared_url)
    async with engine.connect() as connection:
        rows = ""
        for table in TableBase.metadata.sorted_tables:
            rows += str((await connection.execute(table.select())).all())
    await engine.dispose()

    assert "ann@example.com" in rows
    assert server.log.count("/auth 200") == 2
    assert server.log.count("set BLOG_PUBLIC_URL") == 1
    for secret in (PASSWORD, token, ann.headers["Authorization"].split()[1], "hunter2"):
        assert secret not in server.log
        assert secret not in rows
        for file in tmp_path.iterdir():
            assert secret.encode() not in file.read_bytes(), file


async def test_a_client_that_closes_the_connection_receives_413(server: Server):
    body = b" " * (9 * 1024 * 1024)
    headers = {"Content-Type": "application/json", "Connection": "close"}

    async with server.client() as client:
        responses = [
            await client.post(path, content=body, headers=headers)
            for path in ("/sign-up", "/posts", "/nowhere")
        ]

    assert [response.status_code for response in responses] == [413, 413, 413]


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nCookie: "])
async def test_a_request_with_headers_without_end_is_rejected(server: Server, start: bytes):
    host, _, port = server.address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(start + b"a" * 2**20)

    with fail_after(30):
        response = await reader.readuntil(b"\r\n")
    writer.close()

    assert response == b"HTTP/1.1 400 Bad Request\r\n"


CHUNKED = b"Host: test\r\nTransfer-Encoding: chunked\r\n"
FORM = CHUNKED + b"Content-Type: application/x-www-form-urlencoded\r\n"
ONE_CHUNK = b"1\r\na\r\n"


@pytest.mark.parametrize(
    "endless",
    [b"0\r\n" + b"a:\r\n" * 2**18, b"0\r\na:" + b"a" * 2**20, b"1;" + b"a" * 2**20],
    ids=["trailers", "one trailer", "extension of a chunk"],
)
async def test_trailers_without_end_close_the_connection(server: Server, endless: bytes):
    host, _, port = server.address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /auth HTTP/1.1\r\n" + FORM + b"\r\n" + ONE_CHUNK + endless)

    with fail_after(30), suppress(ConnectionError):
        response = await reader.read()
        assert not response.startswith(b"HTTP/1.1 2")
    writer.close()


async def test_trailers_are_not_headers(server: Server):
    async with server.client() as client:
        await sign_up(client, "Trailers")
        trailer = f"Authorization: {client.headers['Authorization']}".encode()
    host, _, port = server.address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = b"GET /users/me HTTP/1.1\r\n" + CHUNKED + b"Connection: close\r\n\r\n"
    writer.write(head + ONE_CHUNK + b"0\r\n" + trailer + b"\r\n\r\n")

    with fail_after(30):
        response = await reader.read()
    writer.close()

    assert response.startswith(b"HTTP/1.1 401")


async def test_a_connection_is_closed_if_a_trailer_says_so(server: Server):
    host, _, port = server.address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = b"POST /preview HTTP/1.1\r\n" + CHUNKED + b"\r\n"
    writer.write(head + ONE_CHUNK + b"0\r\nConnection: close\r\n\r\n")

    with fail_after(30):
        response = await reader.read()
    writer.close()

    assert response.startswith(b"HTTP/1.1 401")


async def test_a_request_with_long_headers_is_served(server: Server):
    headers = {"Cookie": "a" * 60_000}

    async with server.client() as client:
        body = b" " * (2**20)
        responses = [await client.get("/posts", headers=headers) for _ in range(2)]
        responses.append(await client.post("/sign-up", content=body, headers=headers))

    assert [response.status_code for response in responses] == [200, 200, 413]
