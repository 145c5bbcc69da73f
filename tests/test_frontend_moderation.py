"""Moderation in the sample front end, by authors and administrators, in Chromium."""

import json

import pytest
from httpx import AsyncClient

from blog_api.admin.models import AuditAction
from tests.support.browser import take_screenshot
from tests.support.clients import (
    PASSWORD,
    ChangeUser,
    add_comment,
    bearer,
    id_of,
    log_in,
    publish,
    sign_up,
)
from tests.support.front_end import FOLDER, FrontEnd
from tests.support.pictures import make_picture, upload
from tests.support.processes import Server

# Fields and buttons for which a screen reader has no name.
UNNAMED = """
() => [...document.querySelectorAll("button, input, select, textarea")]
    .filter((field) => !(field.innerText || field.ariaLabel || field.labels[0]?.innerText.trim()))
    .map((field) => field.outerHTML)
"""


async def assert_fields_are_named(front: FrontEnd) -> None:
    assert await front.page.evaluate(UNNAMED) == []


async def open_section(front: FrontEnd, name: str) -> None:
    await front.page.locator(".tabs").get_by_role("link", name=name, exact=True).click()
    await front.page.locator(".tabs [aria-current=page]", has_text=name).wait_for()


async def let_wait(client: AsyncClient, comment: dict[str, object]) -> None:
    response = await client.delete(f"/comments/{comment['id']}/approval")
    assert response.status_code == 200, response.text


def test_the_front_end_knows_all_actions_of_the_audit_log():
    text = (FOLDER / "moderation.js").read_text()

    listed = text.split("AUDIT_ACTIONS = [")[1].split("]")[0]
    assert {name.strip(' "\n') for name in listed.split(",")} - {""} == {*AuditAction}


@pytest.mark.browser
async def test_an_author_approves_comments_that_wait(api: Server, front: FrontEnd):
    async with api.client() as ann, api.client() as bob:
        await sign_up(ann, "Ann")
        await sign_up(bob, "Bob")
        post = await publish(ann)
        first = await add_comment(bob, post, "Is <b>this</b> on?")
        second = await add_comment(bob, post, "Buy now.")
        for comment in (first, second):
            await let_wait(ann, comment)

        # The commenter sees that it waits, others see nothing.
        await front.log_in("Bob")
        await front.open("#/post/hello")
        waiting = front.page.locator(".comment.waiting")
        assert await waiting.count() == 2
        assert "Waits for approval: others do not see it yet." in await waiting.first.inner_text()
        assert await waiting.first.get_by_role("button").all_inner_texts() == ["Delete"]
        await take_screenshot(front.page, "front-end-waiting")
        await front.press("Log out")
        await front.see_page("Log in")
        await front.open("#/post/hello")
        await front.see("Log in to comment")
        assert await front.page.locator(".comment").count() == 0

        # The author approves in the thread, with the keyboard.
        await front.log_in("Ann")
        await front.open("#/post/hello")
        await waiting.first.get_by_role("button", name="Approve").focus()
        await front.page.keyboard.press("Enter")
        await waiting.nth(1).wait_for(state="detached")
        assert (await bob.get(f"/comments/{first['id']}")).json()["is_approved"] is True

        # On the page of moderation: a text that has changed since is not approved.
        await front.follow("Moderation")
        articles = front.page.locator("article")
        await articles.filter(has_text="Buy now.").wait_for()
        assert await articles.count() == 1
        await bob.patch(f"/comments/{second['id']}", json={"content": "Buy it now."})
        await front.press("Approve")
        await front.page.locator("#notice", has_text="changed").wait_for()
        await articles.filter(has_text="Buy it now.").wait_for()
        assert (await bob.get(f"/comments/{second['id']}")).json()["is_approved"] is False
        await assert_fields_are_named(front)
        await take_screenshot(front.page, "front-end-moderation-author")
        await front.press("Delete")
        await front.press("Really delete?")
        await front.see("0 results.")
        await front.page.get_by_label("State").select_option("approved")
        await front.press("Filter")
        await front.see("Is <b>this</b> on?")
        await front.press("Withdraw approval")
        await front.see("0 results.")
        assert (await bob.get(f"/comments/{first['id']}")).json()["is_approved"] is False
        assert (await ann.get(f"/posts/{post['id']}")).json()["comment_count"] == 0
    front.assert_nothing_failed()


@pytest.mark.browser
async def test_an_administrator_moderates_everything(
    api: Server, front: FrontEnd, change_front_end_user: ChangeUser
):
    async with api.client() as admin, api.client() as bob, api.client() as eve:
        await sign_up(admin, "Admin")
        await change_front_end_user("admin@example.com", is_admin=True)
        await sign_up(bob, "Bob")
        await sign_up(eve, "Eve")
        post = await publish(bob, title="On <i>rivers</i>", content="*Long* text.")
        comment = await add_comment(eve, post, "Buy now.")
        await let_wait(bob, comment)
        await publish(eve, title="Advertising")
        picture = await upload(eve, make_picture(size=(60, 40)), alt="A <u>thing</u>")
        eve_id = await id_of(eve)

        # The token of the blog does not administrate; the password is asked for.
        await front.log_in("Admin")
        await front.follow("Moderation")
        await front.fill(password="wrong horse")
        await front.press("Administrate")
        await front.page.locator("main .error", has_text="Incorrect").wait_for()
        await front.fill(password=PASSWORD)
        await front.press("Administrate")
        articles = front.page.locator("article")
        await articles.filter(has_text="waits for approval").wait_for()
        [stored] = await front.page.evaluate("Object.values({...sessionStorage, ...localStorage})")
        headers = bearer(json.loads(stored)["token"])
        assert (await bob.get("/admin/stats", headers=headers)).status_code == 403
        await log_in(admin, "admin@example.com")

        # Comments.
        await assert_fields_are_named(front)
        await take_screenshot(front.page, "front-end-moderation-comments")
        await front.press("Approve")
        await front.see("0 results.")
        assert (await eve.get(f"/comments/{comment['id']}")).json()["is_approved"] is True
        await front.page.get_by_label("State").select_option("")
        await front.fill(q="buy")
        await front.press("Filter")
        await front.press("Delete", within="article")
        await front.press("Really delete?", within="article")
        await front.see("0 results.")

        # Posts: the author sees the reason.
        await open_section(front, "posts")
        down = articles.filter(has_text="On <i>rivers</i>")
        await down.get_by_role("button", name="Read").click()
        await down.locator("em", has_text="Long").wait_for()
        await down.get_by_label("Reason").fill("A <b>copy</b> of a book.")
        await down.get_by_role("button", name="Take down").click()
        await down.get_by_text("Reason: A <b>copy</b> of a book.").wait_for()
        await assert_fields_are_named(front)
        await take_screenshot(front.page, "front-end-moderation-posts")
        [shown] = (await bob.get("/users/me/posts")).json()["results"]
        assert shown["takedown_reason"] == "A <b>copy</b> of a book."
        await down.get_by_role("button", name="Lift the takedown").click()
        await down.get_by_role("button", name="Take down").wait_for()
        assert (await bob.get(f"/posts/{post['id']}")).status_code == 200

        # Pictures, found by their address.
        await open_section(front, "pictures")
        await front.fill(digest=api.address + picture["url"])
        await front.press("Filter")
        await front.page.locator("article img").wait_for()
        await assert_fields_are_named(front)
        await take_screenshot(front.page, "front-end-moderation-pictures")
        await front.press("Remove", within="article")
        await front.press("Remove from all users, for good?", within="article")
        await front.see("0 results.")
        assert (await eve.get(picture["url"])).status_code == 404

        # Users: deactivated, and deleted with everything after a second press.
        await open_section(front, "users")
        await front.fill(q="eve@")
        await front.press("Filter")
        await front.see("1 result.")
        await assert_fields_are_named(front)
        await front.press("Deactivate, keep the posts")
        await articles.filter(has_text="author, deactivated").wait_for()
        assert (await eve.get("/users/me")).json()["type"] == "urn:blog-api:inactive-user"
        assert (await bob.get("/posts?author=eve")).json()["total_count"] == 1
        delete = front.page.locator("article button.danger")
        await delete.click()
        assert await delete.inner_text() == "Delete Eve and all contents?"
        await take_screenshot(front.page, "front-end-moderation-users")
        # It is forgotten when the focus leaves the button.
        await front.page.locator("main [name=q]").focus()
        assert await delete.inner_text() == "Delete with all contents"
        assert (await admin.get(f"/admin/users/{eve_id}")).status_code == 200
        await delete.click()
        await delete.click()
        await front.see("0 results.")
        assert (await admin.get(f"/admin/users/{eve_id}")).status_code == 404
        await front.fill(email="eve@example.com")
        await front.press("Lift the ban")
        await front.page.locator("[name=email]:invalid").wait_for()

        # The audit log, and its filters.
        await open_section(front, "audit")
        await articles.filter(has_text="delete-user").wait_for()
        await articles.filter(has_text="lift-ban").wait_for()
        await take_screenshot(front.page, "front-end-moderation-audit")
        await front.page.get_by_label("Action").select_option("take-down-post")
        await front.page.get_by_label("Since").fill("2026-01-01T00:00")
        await front.press("Filter")
        await front.see("1 result.")
        await articles.filter(has_text="A <b>copy</b> of a book.").wait_for()
        await assert_fields_are_named(front)
        await front.page.get_by_label("Until").fill("2026-01-02T00:00")
        await front.press("Filter")
        await front.see("0 results.")

        # Pages of a list, by cursor.
        await front.page.evaluate("location.hash = '#/moderation/audit?size=5'")
        await articles.nth(4).wait_for()
        assert await articles.count() == 5
        await front.follow("Next page »")
        await articles.filter(has_text="approve-comment").wait_for()
        assert await front.page.get_by_role("link", name="Next page »").count() == 0

        await front.page.set_viewport_size({"width": 360, "height": 740})
        await open_section(front, "users")
        await front.see("2 results.")
        await front.assert_nothing_is_cut_off()
        await take_screenshot(front.page, "front-end-moderation-small")

        # Afterwards the token is revoked.
        sessions = (await admin.get("/users/me/sessions")).json()["total_count"]
        await front.press("Stop administrating")
        await front.page.get_by_label("Password").wait_for()
        assert (await admin.get("/users/me/sessions")).json()["total_count"] == sessions - 1
        await front.fill(password=PASSWORD)
        await front.press("Administrate")
        await front.page.locator(".tabs").wait_for()
        await front.press("Log out")
        await front.see_page("Log in")
        assert (await admin.get("/users/me/sessions")).json()["total_count"] == sessions - 2
    front.assert_nothing_failed(except_for=["400 POST /auth"])
