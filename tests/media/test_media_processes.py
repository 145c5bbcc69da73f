"""Uploads to server processes: hostile ones, simultaneous ones, and what a crash leaves."""

import asyncio
import os
import re
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from httpx import AsyncClient, HTTPError
from sqlalchemy import URL

from blog_api.cli.media import clean_media
from blog_api.media.uploads import FOLDER_PREFIX
from tests.load.machine import PROC, read_process_tree
from tests.media.test_hostile import check_upload
from tests.support.clients import request_with_retry, sign_up
from tests.support.hostile_pictures import list_hostile_uploads
from tests.support.pictures import make_noise, make_picture, upload
from tests.support.processes import Server

pytestmark = pytest.mark.processes

# In KiB.
MAX_GROWTH = 150 * 1024
DAY = 24 * 60 * 60
UPLOADS_BEFORE_KILL = 10


def make_server(folder: Path, url: URL, workers: int = 1) -> Server:
    (folder / "temporary").mkdir(exist_ok=True)
    return Server(
        folder,
        url,
        workers=workers,
        settings={"MEDIA_URL": f"file://{folder}/media"},
        variables={"TMPDIR": str(folder / "temporary")},
    )


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def measure_memory(server: Server, field: str) -> int:
    """Return the sum of a value of all processes, in KiB: VmRSS now, or VmHWM at its highest."""
    found = (
        re.search(rf"{field}:\s*(\d+) kB", (PROC / str(pid) / "status").read_text())
        for pid in read_process_tree(server.process.pid)
    )
    return sum(int(match[1]) for match in found if match)


async def sign_up_users(server: Server, count: int) -> list[dict[str, str]]:
    """Return the headers of new users."""
    async with server.client() as client:
        headers = []
        for number in range(count):
            await sign_up(client, f"Uploader{number}")
            headers.append(dict(client.headers))
        return headers


async def upload_all(client: AsyncClient, contents: Iterable[bytes]) -> None:
    for content in contents:
        await upload(client, content)


async def send_raw(server: Server, token: str, headers: str, body: bytes) -> bytes:
    """Send a request as it is, close this side, and return what arrives."""
    address = urlsplit(server.address)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST /media HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n{headers}\r\n\r\n"
    writer.write(head.encode() + body)
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


async def check_false_lengths(server: Server, token: str) -> None:
    """Send bodies that are not as long as their headers say, and none that is."""
    content = make_picture(color="green")
    image = "Content-Type: image/png\r\n"
    for length, body in (
        (f"Content-Length: {len(content) + 1}", content),
        (f"Content-Length: {len(content) // 2}", content),
        (f"Content-Length: {10**30}", content),
        ("Content-Length: -1", content),
        ("Content-Length: 1\r\nContent-Length: 2", content),
        ("Transfer-Encoding: chunked", b"%x\r\n%s" % (len(content), content)),
        ("Transfer-Encoding: chunked", b"zz\r\n" + content),
        ("Transfer-Encoding: chunked", b"ffffffffffffffffff\r\n" + content),
        (f"Transfer-Encoding: chunked\r\nContent-Length: {len(content)}", content),
    ):
        response = await send_raw(server, token, image + length, body)

        assert response == b"" or re.match(rb"HTTP/1.1 4\d\d ", response), (length, response)


async def test_hostile_uploads_take_little_memory_and_crash_nothing(
    tmp_path: Path, shared_url: URL
):
    uploads = iter(list_hostile_uploads())
    statuses: list[int] = []
    with make_server(tmp_path, shared_url) as server:
        async with server.client() as ann, server.client() as bob:
            for client, name in ((ann, "Ann"), (bob, "Bob")):
                await sign_up(client, name)

            async def check_next(client: AsyncClient) -> None:
                for sent in uploads:
                    statuses.append(await check_upload(client, sent))

            # Start the processes that decode.
            kinds = [make_picture(kind) for kind in ("PNG", "WEBP", "AVIF")]
            await asyncio.gather(upload_all(ann, kinds), upload_all(bob, kinds))
            before = measure_memory(server, "VmRSS")
            await asyncio.gather(check_next(ann), check_next(bob))
            files = names_in(tmp_path / "media")
            await check_false_lengths(server, ann.headers["Authorization"])
            highest = measure_memory(server, "VmHWM")
            after = measure_memory(server, "VmRSS")
            blue = await upload(ann, make_picture(color="blue"))
        temporary = list((tmp_path / "temporary").iterdir())

    print(f"KiB before {before}, at most {highest}, after {after}")
    assert len(statuses) >= 400
    assert highest - before <= MAX_GROWTH
    assert temporary == []
    assert names_in(tmp_path / "media") - files == {blue["url"].removeprefix("/media/")}
    assert "Traceback" not in server.log


async def test_fifty_simultaneous_uploads_of_one_picture_are_one_file(server: Server):
    content = make_noise(size=(100, 100))
    users = await sign_up_users(server, 5)
    async with server.client() as client:
        responses = await asyncio.gather(
            *(
                request_with_retry(
                    client, "POST", "/media", files={"file": content}, headers=headers
                )
                for headers in users * 10
            )
        )
        pages = [(await client.get("/users/me/media", headers=headers)).json() for headers in users]

    assert {response.status_code for response in responses} == {201}
    assert len({response.json()["id"] for response in responses}) == 5
    assert [page["total_count"] for page in pages] == [1] * 5
    [name] = names_in(server.folder / "media")
    assert {response.json()["url"] for response in responses} == {f"/media/{name}"}


async def test_a_crash_loses_no_acknowledged_picture_and_leaves_only_what_is_cleaned(
    tmp_path: Path, shared_url: URL, monkeypatch: pytest.MonkeyPatch
):
    acknowledged: set[str] = set()
    with make_server(tmp_path, shared_url, workers=2) as server:
        users = await sign_up_users(server, 4)
        async with server.client() as client:
            arrived = asyncio.Semaphore(0)

            async def upload_always(user: int) -> None:
                for number in range(10_000):
                    picture = make_picture(
                        size=(400, 300), color=(user, number % 256, number // 256)
                    )
                    response = await client.post(
                        "/media", files={"file": picture}, headers=users[user]
                    )
                    # The process that decoded it may have been killed.
                    assert response.status_code in (201, 413), response.text
                    if response.status_code == 201:
                        acknowledged.add(response.json()["url"])
                        arrived.release()

            tasks = [asyncio.ensure_future(upload_always(user)) for user in range(4)]
            for kill in (kill_decoders, kill_decoders, Server.kill):
                for _ in range(UPLOADS_BEFORE_KILL):
                    await arrived.acquire()
                kill(server)
            await asyncio.wait(tasks)
            for task in tasks:
                assert isinstance(task.exception(), HTTPError)

    with make_server(tmp_path, shared_url) as server:
        async with server.client() as client:
            stored: set[str] = set()
            for headers in users:
                page = "/users/me/media?size=100"
                while page:
                    response = await client.get(page, headers=headers)
                    stored |= {media["url"] for media in response.json()["results"]}
                    page = response.links.get("next", {}).get("url", "")
            for url in stored:
                assert (await client.get(url)).status_code == 200

    assert len(acknowledged) >= 3 * UPLOADS_BEFORE_KILL
    assert acknowledged <= stored
    # What an upload leaves that is killed between file and row, or before.
    (tmp_path / "media" / "0a").mkdir(exist_ok=True)
    (tmp_path / "media" / "0a" / f"{'0a' * 32}.png").write_bytes(b"1")
    (tmp_path / "temporary" / f"{FOLDER_PREFIX}1").mkdir()
    two_days_ago = time.time() - 2 * DAY
    for path in [*(tmp_path / "media").rglob("*"), *(tmp_path / "temporary").iterdir()]:
        os.utime(path, (two_days_ago, two_days_ago))
    for name, value in server.environment.items():
        if name.startswith("BLOG_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    await asyncio.to_thread(clean_media, yes=True)
    assert {f"/media/{name}" for name in names_in(tmp_path / "media")} == stored
    assert list((tmp_path / "temporary").iterdir()) == []


def kill_decoders(server: Server) -> None:
    """Kill the processes that decode pictures."""
    for pid in read_process_tree(server.process.pid):
        if b"anyio.to_process" in (PROC / str(pid) / "cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
