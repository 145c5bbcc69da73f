"""Uploads over HTTP: bodies, files, sharing, quota, deletion."""

import shutil
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import anyio
import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

from tests.support.clients import (
    ChangeSettings,
    ChangeUser,
    assert_problem,
    client_of,
    id_of,
    log_in,
    sign_up,
)
from tests.support.pictures import make_picture, upload

PNG = {"Content-Type": "image/png"}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def test_an_uploaded_picture_is_returned_with_its_address(
    ann: AsyncClient, anonymous: AsyncClient, folder: Path
):
    media = await upload(ann, make_picture(size=(40, 30)), "A red square")

    response = await anonymous.get(media["url"])
    digest = sha256(response.content).hexdigest()
    assert media == {
        "id": media["id"],
        "url": f"/media/{digest}.png",
        "width": 40,
        "height": 30,
        "size": len(response.content),
        "content_type": "image/png",
        "alt": "A red square",
    }
    assert names_in(folder) == [f"{digest}.png"]
    assert (await ann.get("/users/me/media")).json()["results"] == [media]


async def test_the_body_can_be_the_picture_itself(ann: AsyncClient, folder: Path):
    for headers in (PNG, {"Content-Type": "application/octet-stream"}):
        response = await ann.post("/media?alt=A%20square", content=make_picture(), headers=headers)

        assert response.status_code == 201
        assert response.json()["alt"] == "A square"


async def test_a_chunked_body_is_accepted(ann: AsyncClient, folder: Path):
    async def chunks() -> AsyncIterator[bytes]:
        content = make_picture()
        yield content[:30]
        yield content[30:]

    response = await ann.post("/media", content=chunks(), headers=PNG)

    assert response.status_code == 201


async def test_a_body_of_another_type_is_rejected(ann: AsyncClient, folder: Path):
    for media_type in ("application/json", "application/x-www-form-urlencoded", "text/html", ""):
        response = await ann.post(
            "/media", content=make_picture(), headers={"Content-Type": media_type}
        )

        assert_problem(response, 415)


@pytest.mark.parametrize(
    ("values", "location"),
    [
        ({"files": {"other": b"1"}}, ["body", "other"]),
        ({"data": {"alt": "Alt"}, "files": {"file": (None, "text")}}, None),
        ({"files": {"alt": (None, "Alt")}}, ["body", "file"]),
        ({"files": {"file": b"1"}, "data": {"alt": "\x01"}}, ["body", "alt"]),
        ({"files": {"file": b"1"}, "data": {"alt": "a" * 301}}, ["body", "alt"]),
        ({"files": {"file": b"1"}, "params": {"alt": "a" * 301}}, ["query", "alt"]),
    ],
)
async def test_an_invalid_form_is_rejected(
    ann: AsyncClient, folder: Path, values: dict[str, object], location: list[str] | None
):
    response = await ann.post("/media", **values)  # type: ignore[arg-type]  # several kinds of bodies

    if location is None:
        assert_problem(response, 400)
    else:
        assert_problem(response, 422)
        assert response.json()["errors"][0]["loc"] == location
    assert names_in(folder) == []


async def test_a_broken_form_is_rejected(ann: AsyncClient, folder: Path):
    for media_type, content in (
        ("multipart/form-data", b"--a\r\n"),
        ("multipart/form-data; boundary=a", b"no form"),
        ("multipart/form-data; boundary=a", b"--a\r\nContent-Disposition: form-data\r\n\r\n1"),
    ):
        response = await ann.post("/media", content=content, headers={"Content-Type": media_type})

        assert_problem(response, 400, 422)


async def test_a_large_picture_is_rejected(
    ann: AsyncClient, folder: Path, change_settings: ChangeSettings
):
    change_settings(media_max_bytes=1_000)
    content = make_picture() + bytes(1_000)

    for response in (
        await ann.post("/media", files={"file": content}),
        await ann.post("/media", content=content, headers=PNG),
    ):
        assert_problem(response, 413)
    assert names_in(folder) == []


async def test_only_uploads_may_be_larger_than_8_mib(ann: AsyncClient, folder: Path):
    content = make_picture() + bytes(9 * 1024 * 1024)

    assert (await ann.post("/media", content=content, headers=PNG)).status_code == 201
    assert (await ann.post("/api/v1/media/", content=content, headers=PNG)).status_code == 201
    assert_problem(await ann.post("/posts", content=content), 413)
    assert_problem(await ann.patch("/media/1", content=content), 413)
    too_large = content + bytes(1024 * 1024)
    assert_problem(await ann.post("/media", content=too_large, headers=PNG), 413)


@pytest.mark.parametrize("token", [None, "unknown"])
async def test_without_a_valid_token_no_large_body_is_read(
    empty_app: FastAPI, folder: Path, token: str | None
):
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 64 * 1024
            yield bytes(64 * 1024)

    async with client_of(empty_app) as client:
        headers = PNG | ({"Authorization": f"Bearer {token}"} if token else {})
        response = await client.post("/media", content=chunks(), headers=headers)

    assert_problem(response, 401)
    assert read <= 2 * 64 * 1024


async def test_no_connection_is_held_while_the_body_arrives(ann: AsyncClient, folder: Path):
    """In memory there is one connection."""
    is_open = anyio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        content = make_picture()
        yield content[:10]
        await is_open.wait()
        yield content[10:]

    async def upload_slowly() -> None:
        response = await ann.post("/media", content=chunks(), headers=PNG)
        assert response.status_code == 201

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(upload_slowly)
        await anyio.wait_all_tasks_blocked()
        response = await ann.post("/posts", json={"title": "Hello", "content": "World"})
        assert response.status_code == 201
        is_open.set()


async def test_a_body_that_takes_too_long_is_rejected(
    ann: AsyncClient, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("blog_api.media.uploads.LARGE_BODY_SECONDS", 0.2)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"1"
        await anyio.sleep_forever()

    response = await ann.post("/media", content=chunks(), headers=PNG)

    assert_problem(response, 408)
    assert names_in(folder) == []


async def test_a_token_revoked_during_the_upload_stores_no_row(ann: AsyncClient, folder: Path):
    async def chunks() -> AsyncIterator[bytes]:
        yield make_picture()
        assert (await ann.delete("/auth")).status_code == 204

    response = await ann.post("/media", content=chunks(), headers=PNG)

    assert_problem(response, 401)
    assert names_in(folder) == []


async def test_the_same_picture_is_stored_once(ann: AsyncClient, bob: AsyncClient, folder: Path):
    first = await upload(ann, make_picture(), "First")
    again = await upload(ann, make_picture(), "Again")
    of_bob = await upload(bob, make_picture())

    assert again == first
    assert of_bob["url"] == first["url"] and of_bob["id"] != first["id"]
    assert len(names_in(folder)) == 1


async def test_simultaneous_uploads_of_one_picture_are_one_file(
    ann: AsyncClient, bob: AsyncClient, folder: Path
):
    content = make_picture(color="orange")
    responses: list[Response] = []

    async def upload_as(client: AsyncClient) -> None:
        responses.append(await client.post("/media", files={"file": content}))

    async with anyio.create_task_group() as tasks:
        for client in (ann, bob) * 4:
            tasks.start_soon(upload_as, client)

    assert {response.status_code for response in responses} == {201}
    assert len({response.json()["id"] for response in responses}) == 2
    assert len(names_in(folder)) == 1


async def test_the_file_goes_with_its_last_row(ann: AsyncClient, bob: AsyncClient, folder: Path):
    of_ann, of_bob = await upload(ann, make_picture()), await upload(bob, make_picture())

    assert (await ann.delete(f"/media/{of_ann['id']}")).status_code == 204
    assert (await ann.get("/users/me/media")).json()["results"] == []
    assert (await ann.get(of_bob["url"])).status_code == 200
    assert (await bob.delete(f"/media/{of_bob['id']}")).status_code == 204
    assert_problem(await bob.get(of_bob["url"]), 404)
    assert names_in(folder) == []


async def test_a_picture_belongs_to_its_user(ann: AsyncClient, bob: AsyncClient, folder: Path):
    path = f"/media/{(await upload(ann, make_picture()))['id']}"

    for response in (await bob.delete(path), await bob.patch(path, json={"alt": "Mine"})):
        assert_problem(response, 404)
        assert response.json()["type"] == "urn:blog-api:media-not-found"
    assert (await bob.get("/users/me/media")).json()["total_count"] == 0


async def test_the_alternative_text_can_be_changed(ann: AsyncClient, folder: Path):
    media = await upload(ann, make_picture())
    path = f"/media/{media['id']}"

    response = await ann.patch(path, json={"alt": "A square"})

    assert response.json() == media | {"alt": "A square"}
    stale = await ann.patch(path, json={"alt": None}, headers={"If-Match": '"1-0"'})
    assert_problem(stale, 412)
    etag = response.headers["ETag"]
    response = await ann.patch(path, json={"alt": None}, headers={"If-Match": etag})
    assert response.json() == media


async def test_the_quota_limits_the_bytes_of_each_user(
    ann: AsyncClient, bob: AsyncClient, folder: Path, change_settings: ChangeSettings
):
    """A small file counts 4,096 bytes."""
    change_settings(media_quota_bytes=2 * 4_096)
    for color in ("red", "green"):
        await upload(ann, make_picture(color=color))

    response = await ann.post("/media", files={"file": make_picture(color="blue")})

    assert_problem(response, 409)
    assert response.json()["type"] == "urn:blog-api:media-quota-exceeded"
    await upload(bob, make_picture(color="red"))
    first = (await ann.get("/users/me/media")).json()["results"][0]
    await ann.delete(f"/media/{first['id']}")
    await upload(ann, make_picture(color="blue"))


async def test_simultaneous_uploads_stay_within_the_quota(
    ann: AsyncClient, folder: Path, change_settings: ChangeSettings
):
    change_settings(media_quota_bytes=2 * 4_096)
    statuses = []

    async def upload_color(number: int) -> None:
        content = make_picture(color=(number, 0, 0))
        statuses.append((await ann.post("/media", files={"file": content})).status_code)

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(upload_color, number)

    assert sorted(statuses) == [201, 201, 409, 409, 409, 409]
    assert (await ann.get("/users/me/media")).json()["total_count"] == 2


@pytest.mark.usefixtures("folder")
async def test_without_storage_the_routes_are_503(ann: AsyncClient, empty_app: FastAPI):
    empty_app.state.media_storage = None

    for response in (
        await ann.post("/media", files={"file": make_picture()}),
        await ann.get(f"/media/{'0' * 64}.png"),
    ):
        assert_problem(response, 503)
        assert response.json()["type"] == "urn:blog-api:media-not-configured"


async def test_a_full_disk_is_503(
    ann: AsyncClient, folder: Path, empty_app: FastAPI, caplog: pytest.LogCaptureFixture
):
    folder.write_text("A file where the folder should be")

    response = await ann.post("/media", files={"file": make_picture()})

    assert_problem(response, 503)
    assert "picture" in caplog.text


@pytest.fixture
async def served(ann: AsyncClient, folder: Path) -> tuple[str, bytes]:
    """The address and the bytes of a stored picture."""
    url = (await upload(ann, make_picture(size=(400, 300))))["url"]
    return url, (await ann.get(url)).content


async def test_a_file_is_immutable_and_sandboxed(anonymous: AsyncClient, served: tuple[str, bytes]):
    url, content = served

    response = await anonymous.get(url)

    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert response.headers["ETag"] == f'"{sha256(content).hexdigest()}"'
    head = await anonymous.head(url)
    assert head.headers["Content-Length"] == str(len(content)) and head.content == b""


async def test_a_current_etag_is_304(anonymous: AsyncClient, served: tuple[str, bytes]):
    url, _ = served
    etag = (await anonymous.get(url)).headers["ETag"]

    for sent in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = await anonymous.get(url, headers={"If-None-Match": sent})

        assert response.status_code == 304 and response.content == b""
        assert response.headers["ETag"] == etag
        assert "immutable" in response.headers["Cache-Control"]
    assert (await anonymous.get(url, headers={"If-None-Match": '"other"'})).status_code == 200


@pytest.mark.parametrize(
    ("sent", "start", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, None),
        ("bytes=-7", -7, None),
        ("bytes=5-999999", 5, None),
        ("Bytes=0-0", 0, 1),
        ("bytes=-999999", 0, None),
    ],
)
async def test_a_range_is_206(
    anonymous: AsyncClient, served: tuple[str, bytes], sent: str, start: int, end: int | None
):
    url, content = served
    expected = content[start:end]

    response = await anonymous.get(url, headers={"Range": sent})

    assert (response.status_code, response.content) == (206, expected)
    first = start % len(content)
    last = first + len(expected) - 1
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(content)}"
    assert response.headers["Content-Length"] == str(len(expected))


async def test_an_invalid_range_is_ignored(anonymous: AsyncClient, served: tuple[str, bytes]):
    url, content = served

    for sent in ("bytes=9-0", "bytes=a-b", "bytes=-", "bytes=0-1,3-4", "lines=0-1", "bytes=٣-"):
        response = await anonymous.get(url, headers={b"Range": sent.encode()})

        assert (response.status_code, response.content) == (200, content)
    other = {"Range": "bytes=0-1", "If-Range": '"other"'}
    assert (await anonymous.get(url, headers=other)).status_code == 200
    same = {"Range": "bytes=0-1", "If-Range": f'"{sha256(content).hexdigest()}"'}
    assert (await anonymous.get(url, headers=same)).status_code == 206


async def test_a_range_after_the_end_is_416(anonymous: AsyncClient, served: tuple[str, bytes]):
    url, content = served

    for sent in (f"bytes={len(content)}-", "bytes=-0"):
        response = await anonymous.get(url, headers={"Range": sent})

        assert_problem(response, 416)
        assert response.headers["Content-Range"] == f"bytes */{len(content)}"


@pytest.mark.parametrize("broken", ["file", "folder"])
async def test_a_file_that_cannot_be_read_is_503(ann: AsyncClient, folder: Path, broken: str):
    path = (await upload(ann, make_picture()))["url"]
    (file,) = (found for found in folder.rglob("*") if found.is_file())
    # Root can read a file without permissions.
    if broken == "file":
        file.unlink()
        file.mkdir()
    else:
        shutil.rmtree(file.parent)
        file.parent.write_bytes(b"")

    assert_problem(await ann.get(path), 503)


@pytest.mark.parametrize(
    "name",
    [
        f"{'0' * 64}.png", f"{'0' * 64}.svg", f"{'0' * 64}", f"{'0' * 64}.PNG", f"{'A' * 64}.png",
        "..%2F..%2Fblog.db", "%2e%2e", "..%5Cblog.db", "1", "a.png", "%00.png",
    ],
)  # fmt: skip
async def test_other_names_are_404(anonymous: AsyncClient, folder: Path, name: str):
    assert_problem(await anonymous.get(f"/media/{name}"), 404)


async def test_a_deactivated_user_uploads_nothing(
    ann: AsyncClient, folder: Path, change_user: ChangeUser
):
    await change_user("ann@example.com", is_active=False)

    assert_problem(await ann.post("/media", files={"file": make_picture()}), 400)
    assert names_in(folder) == []


async def test_uploading_needs_the_scope_to_write(ann: AsyncClient, folder: Path):
    await log_in(ann, "ann@example.com", "posts:read users:read users:write")

    response = await ann.post("/media", files={"file": make_picture()})

    assert response.json()["type"] == "urn:blog-api:insufficient-scope"


async def test_a_deleted_account_takes_its_pictures_along(
    ann: AsyncClient, bob: AsyncClient, folder: Path
):
    await upload(ann, make_picture(color="red"))
    await upload(ann, make_picture(color="blue"))
    shared = await upload(bob, make_picture(color="blue"))

    response = await ann.request("DELETE", "/users/me", json={"current_password": "correct horse"})

    assert response.status_code == 204
    assert names_in(folder) == [shared["url"].removeprefix("/media/")]


async def test_the_export_lists_the_pictures(
    ann: AsyncClient, folder: Path, change_settings: ChangeSettings
):
    change_settings(public_url="https://example.com/blog")
    media = await upload(ann, make_picture(), "A square")

    lines = [
        line for line in (await ann.get("/users/me/export")).text.splitlines() if '"media"' in line
    ]

    assert len(lines) == 1
    assert f'"url":"https://example.com{media["url"]}"' in lines[0]
    assert '"alt":"A square"' in lines[0]


async def test_an_upload_with_a_key_is_stored_once(ann: AsyncClient, folder: Path):
    """The boundary of the form is another one each time."""
    headers = {"Idempotency-Key": "a"}
    content = make_picture()
    first = await ann.post("/media", files={"file": content}, headers=headers)
    await ann.delete(f"/media/{first.json()['id']}")

    again = await ann.post("/media", files={"file": content}, headers=headers)

    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await ann.post("/media", files={"file": make_picture(color="blue")}, headers=headers)
    assert_problem(other, 422)
    other = await ann.post("/media", files={"file": content}, data={"alt": "A"}, headers=headers)
    assert_problem(other, 422)


async def test_an_upload_and_a_deletion_at_once_leave_no_row_without_a_file(
    ann: AsyncClient, bob: AsyncClient, folder: Path
):
    content = make_picture(color="purple")
    statuses = set()

    async def upload_and_delete(client: AsyncClient) -> None:
        for _ in range(5):
            response = await client.post("/media", files={"file": content})
            statuses.add(response.status_code)
            if response.status_code == 201:
                media_id = response.json()["id"]
                assert (await client.delete(f"/media/{media_id}")).status_code == 204

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(upload_and_delete, ann)
        tasks.start_soon(upload_and_delete, bob)

    assert statuses <= {201, 409}
    assert names_in(folder) == []


async def test_a_user_who_is_deleted_during_the_upload_stores_no_row(
    empty_app: FastAPI, folder: Path
):
    async with client_of(empty_app) as client:
        await sign_up(client, "Carl")
        assert await id_of(client)

        async def chunks() -> AsyncIterator[bytes]:
            yield make_picture()
            body = {"current_password": "correct horse"}
            assert (await client.request("DELETE", "/users/me", json=body)).status_code == 204

        response = await client.post("/media", content=chunks(), headers=PNG)

    assert_problem(response, 401)
    assert names_in(folder) == []
