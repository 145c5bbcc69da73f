"""Moderation of pictures."""

from hashlib import sha256

from httpx import AsyncClient
from PIL import Image

from tests.support.clients import assert_problem, id_of
from tests.support.pictures import make_picture, upload


def make_described_picture() -> bytes:
    """Return other bytes that are stored as the same picture."""
    exif = Image.Exif()
    exif[0x010E] = "A river"
    return make_picture("PNG", exif=exif)


async def test_pictures_are_found_by_digest_and_by_user(
    admin: AsyncClient, ann: AsyncClient, bob: AsyncClient
):
    of_ann, of_bob = await upload(ann, make_picture()), await upload(bob, make_picture())
    await upload(bob, make_picture(color="blue"))
    digest = of_ann["url"].removeprefix("/media/").partition(".")[0]

    by_digest = (await admin.get("/admin/media", params={"digest": digest})).json()["results"]
    by_user = (await admin.get("/admin/media", params={"user": await id_of(ann)})).json()["results"]

    assert [one["id"] for one in by_digest] == [of_bob["id"], of_ann["id"]]
    assert [one["id"] for one in by_user] == [of_ann["id"]]
    assert (await admin.get("/admin/media")).json()["total_count"] == 3
    assert_problem(await admin.get("/admin/media?digest=0a"), 422)
    shown = (await admin.get(f"/admin/media/{of_ann['id']}")).json()
    assert shown == by_user[0]
    assert (shown["user_id"], shown["digest"]) == (await id_of(ann), digest)
    assert shown["source_digest"] == sha256(make_picture()).hexdigest()
    assert_problem(await admin.get("/admin/media/999"), 404)


async def test_a_removed_picture_is_gone_for_everybody_and_stays_away(
    admin: AsyncClient, ann: AsyncClient, bob: AsyncClient
):
    of_ann = await upload(ann, make_described_picture())
    of_bob = await upload(bob, make_picture())
    stored = (await ann.get(of_ann["url"])).content
    other = await upload(ann, make_picture(color="blue"))

    assert (await admin.delete(f"/admin/media/{of_bob['id']}")).status_code == 204

    assert_problem(await ann.get(of_ann["url"]), 404)
    assert (await ann.get("/users/me/media")).json()["results"] == [other]
    assert (await bob.get("/users/me/media")).json()["results"] == []
    for content in (stored, make_picture(), make_described_picture()):
        response = await ann.post("/media", files={"file": content})
        assert_problem(response, 403)
        assert response.json()["type"] == "urn:blog-api:media-blocked"
    assert_problem(await admin.delete(f"/admin/media/{of_bob['id']}"), 404)
    log = (await admin.get("/admin/audit")).json()["results"]
    assert sorted((one["action"], one["user_id"], one["media_id"]) for one in log) == [
        ("delete-media", await id_of(ann), of_ann["id"]),
        ("delete-media", await id_of(bob), of_bob["id"]),
    ]
    assert {one["admin_id"] for one in log} == {await id_of(admin)}


async def test_other_bytes_of_a_removed_picture_are_recognized(
    admin: AsyncClient, ann: AsyncClient
):
    """These were never uploaded, but become the same stored bytes."""
    media = await upload(ann, make_picture())
    await admin.delete(f"/admin/media/{media['id']}")

    response = await ann.post("/media", files={"file": make_described_picture()})

    assert_problem(response, 403)
