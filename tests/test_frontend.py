"""The sample front end of `tests/frontend`, in Chromium and from another origin than the API."""

import asyncio
import re
from typing import Any

import pytest

from tests.support.browser import take_screenshot
from tests.support.clients import PASSWORD, bearer, log_in, sign_up
from tests.support.front_end import FOLDER, FrontEnd
from tests.support.processes import Server

LIST = "/posts?body=none&size=10"
NEW_PASSWORD = "battery staple"


async def publish_posts(api: Server, count: int) -> list[dict[str, Any]]:
    """Publish numbered posts by Bob; the tag of the last is `river`."""
    posts = []
    async with api.client() as client:
        await sign_up(client, "Bob")
        for number in range(1, count + 1):
            topic = "river" if number == count else "hill"
            content = f"A *long* {topic} & <b>more</b>."
            body = {"title": f"Post {number}", "content": content, "tags": [topic]}
            response = await client.post("/posts", json=body)
            posts.append(response.json())
    return posts


def test_the_front_end_is_short_and_needs_no_other_host():
    files = {path.name: path.read_text() for path in FOLDER.iterdir()}
    text = "".join(files.values())

    assert sum(len(file.splitlines()) for file in files.values()) < 850
    assert re.findall(r"\w+://[^\"'`\s]*", text) == ["http://127.0.0.1:8000"]
    attributes = re.findall(r"\b(?:src|href)=\"([^\"]*)", files["index.html"])
    assert attributes == ["data:,", "style.css", "main.js", "#/"]
    imported = set(re.findall(r"\b(?:from|import) \"([^\"]*)", text))
    assert imported == {f"./{name}" for name in files if name.endswith(".js")} - {"./main.js"}
    assert not re.search(r"@import|url\(|\bimport\(", text)


def test_only_html_of_the_api_is_parsed_by_the_front_end():
    files = {path.name: path.read_text() for path in FOLDER.iterdir()}
    text = "".join(files.values())

    # The policy has the browser refuse all other HTML, and scripts and styles in the page.
    [policy] = re.findall(r"Content-Security-Policy\" content=\"([^\"]*)", files["index.html"])
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "require-trusted-types-for 'script'; trusted-types sanitized-by-the-api" in policy
    assert "unsafe" not in policy
    assert re.findall(r"innerHTML\W+([\w.]+)", text) == ["policy.createHTML"]
    sanitized = re.findall(r"(?<!function )sanitized\(+(?:await getAsAdmin.*\)\))?([\w.]+)\)", text)
    assert {name.split(".")[-1] for name in sanitized} == {"snippet", "content_html"}
    assert not re.search(r"outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


@pytest.mark.browser
async def test_links_within_a_text_scroll_and_keep_the_page(front: FrontEnd, api: Server):
    content = (
        "[Notes](#примечания) [broken](#%) A[^1]\n\n"
        "<video src=/media/a.mp4 poster=/media/a.png></video>\n\n"
        + "c\n\n" * 200
        + "## Примечания\n\n[Up](#top)\n\n[^1]: D"
    )
    async with api.client() as client:
        await sign_up(client, "Bob")
        await client.post("/posts", json={"title": "Long", "content": content})
    await front.open("#/post/long")

    positions = []
    for link in ("Notes", "Up", "[1]", "broken"):
        await front.follow(link)
        positions.append(await front.page.evaluate("scrollY"))

    assert positions[0] > 1000
    assert positions[1] == 0
    assert positions[2] > 1000
    assert front.page.url.endswith("#/post/long")
    poster = await front.page.locator("video").get_attribute("poster")
    assert poster == f"{front.api}/media/a.png"


@pytest.mark.browser
async def test_an_anonymous_reader_lists_pages_filters_searches_and_reads(
    api: Server, front: FrontEnd
):
    post = (await publish_posts(api, 12))[-1]

    # One request for a list.
    await front.open()
    assert front.calls() == [LIST]
    assert await front.titles() == [f"Post {number}" for number in range(12, 2, -1)]
    first = await front.page.locator("article").first.inner_text()
    for text in ("Bob", "1 min read", "0 comments", "A long river & more.", "river"):
        assert text in first
    assert await front.page.get_by_role("button").count() == 0

    # By cursor, one request more.
    await front.follow("Next page »")
    await front.see("Post 2")
    [call] = front.calls()
    assert call.startswith(f"{LIST}&cursor=")
    assert await front.titles() == ["Post 2", "Post 1"]
    await front.follow("« First page")
    await front.see("Post 12")

    await front.follow("river")
    await front.see("Tag: river")
    assert await front.titles() == ["Post 12"]

    # Search results have page numbers.
    await front.page.get_by_label("Search").fill("hill")
    await front.page.get_by_label("Search").press("Enter")
    await front.see("Search: hill")
    assert len(await front.titles()) == 10
    assert await front.page.locator("article mark").first.inner_text() == "hill"
    await front.follow("Next page »")
    await front.page.locator("article").nth(1).wait_for(state="detached")
    assert await front.page.locator("article").count() == 1

    await front.open()
    front.calls()
    await front.follow("Post 12")
    await front.see("Log in to comment")
    assert front.calls() == [f"/posts/{post['id']}/comments", "/posts/slug/post-12"]
    assert await front.page.locator("article em").inner_text() == "long"

    await front.follow("Bob")
    await front.see("@bob · 12 posts")
    await front.page.wait_for_load_state("networkidle")
    assert front.calls() == ["/users/bob/posts?body=none&size=10", "/users/username/bob"]
    assert len(await front.titles()) == 10
    front.assert_nothing_failed()


@pytest.mark.browser
async def test_a_user_signs_up_writes_bookmarks_follows_and_comments(api: Server, front: FrontEnd):
    first, second = await publish_posts(api, 2)

    await front.open("#/sign-up")
    await front.fill(name="Ann <i>A</i>", email="ann@example.com", password=PASSWORD)
    await front.press("Sign up")
    await front.see("Write")
    await front.see("Post 2")

    # What the user writes is text, except for the Markdown of the content.
    await front.follow("Write")
    await front.fill(
        title="On <b>tags</b>",
        content="Some **bold** words.\n\n<script>document.title = 'Run'</script>",
        summary="A <u>summary</u>.",
        tags="Markup, html",
        slug="my-slug",
    )
    await front.press("Publish")
    await front.page.locator("article strong").wait_for()
    assert front.page.url.endswith("#/post/my-slug")
    async with api.client() as client:
        mine = (await client.get("/posts/slug/my-slug")).json()
    assert mine["tags"] == ["Markup", "html"]
    assert await front.page.locator("article h1").inner_text() == "On <b>tags</b>"
    assert await front.page.title() == "Blog"
    await take_screenshot(front.page, "front-end-post")

    # A list costs three requests, however many posts it has.
    await front.open()
    assert front.calls() == [
        LIST,
        f"/users/me/bookmarks?body=none&ids={mine['id']},{second['id']},{first['id']}",
        f"/users/me/following?ids={first['user_id']}",
    ]
    shown = front.page.locator("article", has_text="On <b>tags</b>")
    assert "A <u>summary</u>." in await shown.inner_text()
    assert "Ann <i>A</i>" in await shown.inner_text()
    assert await shown.get_by_role("button").all_inner_texts() == ["Bookmark"]

    # All buttons for one author change together, and show the same after a reload.
    await front.press("Follow")
    await front.page.get_by_role("button", name="Following").nth(1).wait_for()
    post = front.page.locator("article", has_text="Post 1")
    await post.get_by_role("button", name="Bookmark").click()
    await post.get_by_role("button", name="Bookmarked").wait_for()
    await front.open()
    buttons = await front.page.locator("article button").all_inner_texts()
    assert buttons == ["Bookmark", "Following", "Bookmark", "Following", "Bookmarked"]
    await take_screenshot(front.page, "front-end-list")
    await front.follow("Bookmarks")
    await front.see_page("Bookmarks")
    assert await front.titles() == ["Post 1"]
    await front.press("Bookmarked")
    await front.page.get_by_role("button", name="Bookmark", exact=True).wait_for()

    # Comments nest, and are plain text.
    await front.follow("Post 1")
    await front.fill(content="Well <b>said</b>.")
    await front.press("Send")
    await front.see("Well <b>said</b>.")
    await front.press("Answer")
    await front.page.get_by_label("Your answer").fill("Thanks.")
    await front.press("Send")
    await front.see("Thanks.")
    indents = "comments => comments.map(comment => getComputedStyle(comment).marginLeft)"
    assert await front.page.locator(".comment").evaluate_all(indents) == ["0px", "24px"]
    await take_screenshot(front.page, "front-end-comments")

    await front.follow("Bob")
    await front.see("@bob · 2 posts")
    assert await front.page.get_by_role("button", name="Following").count() == 3
    await front.press("Following")
    await front.page.get_by_role("button", name="Follow", exact=True).nth(2).wait_for()

    await front.press("Log out")
    await front.see_page("Log in")
    await front.fill(username="ann@example.com", password=PASSWORD)
    await front.press("Log in")
    await front.see("Post 2")
    assert await front.page.get_by_role("button", name="Log out").count() == 1
    front.assert_nothing_failed()


@pytest.mark.browser
async def test_a_user_resets_a_forgotten_password_by_a_link(api: Server, front: FrontEnd):
    async with api.client() as client:
        await sign_up(client, "Ann")

        await front.open("#/log-in")
        await front.follow("Forgot your password?")
        await front.fill(email="ann@example.com")
        await front.press("Reset your password")
        await front.see_page("Set a new password")
        link = await asyncio.to_thread(api.wait_for_log, r"http://\S+/(#/new-password/\S+)")

        await front.open(link)
        # The history of the browser does not have the code.
        assert front.page.url.endswith("#/new-password")
        await front.fill(new_password=NEW_PASSWORD)
        await take_screenshot(front.page, "front-end-password")
        await front.press("Set a new password")
        await front.see_page("Log in")
        assert (await client.get("/users/me")).status_code == 401

    await front.fill(username="ann@example.com", password=NEW_PASSWORD)
    await front.press("Log in")
    await front.follow("Account")
    await front.see("is confirmed")
    front.assert_nothing_failed()


@pytest.mark.browser
async def test_a_user_confirms_an_address_by_a_code_and_undoes_a_change(
    api: Server, front: FrontEnd
):
    await front.sign_up("Ann")
    first = await asyncio.to_thread(api.wait_for_log, r"Your code: (\S+)")
    await front.follow("Account")
    await front.see("is not confirmed")
    await front.press("Mail a new code")
    newer = rf"Your code: (?!{re.escape(first)})(\S+)"
    code = await asyncio.to_thread(api.wait_for_log, newer)
    await take_screenshot(front.page, "front-end-not-confirmed")

    await front.follow("Enter the code")
    await front.fill(token=code)
    await front.press("Confirm your address")
    await front.page.locator("main", has_text="No posts.").wait_for()
    await front.follow("Account")
    await front.see("is confirmed")

    token = await front.page.evaluate("JSON.parse(Object.values(sessionStorage)[0]).token")
    async with api.client() as client:
        body = {"email": "eve@example.com", "current_password": PASSWORD}
        await client.patch("/users/me", json=body, headers=bearer(token))
    undo = await asyncio.to_thread(api.wait_for_log, r"about to change[^§]*?Your code: (\S+)")
    await front.open("#/account")
    await front.see("eve@example.com")
    await front.open(f"#/undo-email/{undo}")
    await front.press("Undo the new address")
    await front.see_page("Log in")
    await front.fill(username="ann@example.com", password=PASSWORD)
    await front.press("Log in")
    await front.follow("Account")
    await front.see("is confirmed")
    assert await front.page.get_by_text("eve@example.com").count() == 0
    front.assert_nothing_failed()


@pytest.mark.browser
async def test_a_user_sees_and_ends_sessions(api: Server, front: FrontEnd):
    async with api.client() as tablet, api.client() as phone:
        tablet.headers["User-Agent"], phone.headers["User-Agent"] = "Tablet", "Phone"
        await sign_up(tablet, "Ann")
        await log_in(phone, "ann@example.com", "users:read")
        await front.log_in("Ann")

        await front.open("#/account")
        assert front.calls() == ["/users/me", "/users/me/sessions?size=100"]
        sessions = front.page.locator("article", has_text="since")
        assert await sessions.count() == 3
        assert "this session" in await sessions.first.inner_text()
        await take_screenshot(front.page, "front-end-sessions")

        await sessions.filter(has_text="Phone").get_by_role("button", name="Log out there").click()
        await sessions.filter(has_text="Phone").wait_for(state="detached")
        assert (await phone.get("/users/me")).status_code == 401
        assert (await tablet.get("/users/me")).status_code == 200

        await front.press("Log out everywhere else")
        await sessions.filter(has_text="Tablet").wait_for(state="detached")
        assert (await tablet.get("/users/me")).status_code == 401
    assert await sessions.count() == 1
    assert await front.page.get_by_role("button", name="Log out everywhere else").count() == 0
    front.assert_nothing_failed()


@pytest.mark.browser
async def test_long_threads_and_many_comments_are_shown_on_request(api: Server, front: FrontEnd):
    [post] = await publish_posts(api, 1)
    async with api.client() as client:
        await sign_up(client, "Ann")
        path = f"/posts/{post['id']}/comments"
        ids = [
            (await client.post(path, json={"content": f"Comment {number}."})).json()["id"]
            for number in range(11)
        ]
        for number in range(25):
            body = {"content": f"Answer {number}.", "parent_id": ids[0]}
            await client.post(path, json=body)

    await front.open("#/post/post-1")
    comments = front.page.locator(".comment")
    assert await comments.count() == 10 + 20
    await front.press("All answers")
    await front.see("Answer 24.")
    assert await comments.count() == 10 + 25
    await front.press("More comments")
    await front.see("Comment 10.")
    assert await comments.count() == 11 + 25
    assert await front.page.get_by_role("button", name="More comments").count() == 0
    front.assert_nothing_failed()


@pytest.mark.browser
async def test_a_retry_after_a_lost_response_does_not_publish_twice(api: Server, front: FrontEnd):
    keys = []

    async def lose_first_response(route: Any) -> None:
        if route.request.method != "POST":
            await route.continue_()
            return
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            await route.fetch()
            await route.abort()
        else:
            await route.continue_()

    await front.sign_up("Ann")
    await front.follow("Write")
    await front.page.route(f"{api.address}/posts", lose_first_response)
    await front.fill(title="Once", content="Only once.")
    await front.press("Publish")
    await front.page.locator("article h1", has_text="Once").wait_for()

    async with api.client() as client:
        posts = (await client.get("/posts")).json()
    assert len(keys) == 2
    assert keys[0] == keys[1]
    assert posts["total_count"] == 1
    assert front.failures == []


@pytest.mark.browser
async def test_problems_are_shown_and_a_revoked_token_ends_the_session(
    api: Server, front: FrontEnd
):
    await publish_posts(api, 1)
    await front.open("#/log-in")
    await front.fill(username="bob@example.com", password="wrong horse")
    await front.press("Log in")
    await front.see("Incorrect email or password")
    await front.fill(password=PASSWORD)
    await front.press("Log in")

    await front.follow("Write")
    await front.fill(title="Again", content="Another text.", slug="post-1")
    await front.press("Publish")
    await front.see("Another post has or had this slug")
    await front.fill(slug="post-2")
    await front.press("Publish")
    await front.page.locator("article h1", has_text="Again").wait_for()

    token = await front.page.evaluate("JSON.parse(Object.values(sessionStorage)[0]).token")
    async with api.client() as client:
        await client.delete("/auth", headers=bearer(token))
    await front.follow("Blog")
    await front.see_page("Log in")
    await front.follow("Blog")
    await front.see("Post 1")
    assert await front.page.get_by_role("link", name="Sign up").count() == 1

    await front.open("#/post/unknown")
    await front.see("Post not found")
    await front.open("#/verify-email")
    await front.fill(token="1.unknown")
    await front.press("Confirm your address")
    await front.page.locator(".error", has_text="code").wait_for()
