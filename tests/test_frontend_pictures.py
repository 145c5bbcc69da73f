"""Pictures in the sample front end: upload, covers and avatars, in Chromium."""

import asyncio
from base64 import b64encode
from typing import Any

import pytest

from tests.support.browser import take_screenshot
from tests.support.clients import ChangeUser, add_comment, log_in, publish, sign_up
from tests.support.front_end import MEDIA_MAX_BYTES, FrontEnd
from tests.support.pictures import make_picture, upload
from tests.support.processes import Server

pytestmark = pytest.mark.browser

# Dispatches an event with files to an element; returns whether the page handled it.
SEND_FILES = """
(element, [kind, files, text]) => {
    const data = new DataTransfer();
    for (const [name, type, content] of files) {
        const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
        data.items.add(new File([bytes], name, {type}));
    }
    if (text) data.setData("text/plain", text);
    const [Kind, field] = kind === "paste"
        ? [ClipboardEvent, "clipboardData"] : [DragEvent, "dataTransfer"];
    return !element.dispatchEvent(new Kind(kind, {[field]: data, bubbles: true, cancelable: true}));
}
"""
ALT = "Alternative text: what the picture shows"
SIZE = "picture => picture.decode().then(() => [picture.naturalWidth, picture.naturalHeight])"


async def send_files(
    front: FrontEnd, kind: str, *files: tuple[str, str, bytes], to: str = "textarea", text: str = ""
) -> bool:
    """Drop or paste files onto the first element with a selector."""
    encoded = [
        (name, media_type, b64encode(content).decode()) for name, media_type, content in files
    ]
    handled: bool = await front.page.locator(to).first.evaluate(SEND_FILES, [kind, encoded, text])
    return handled


async def test_an_author_drops_and_pastes_pictures_into_a_post(api: Server, front: FrontEnd):
    river = ("<img src=x onerror=alert(1)>.png", "image/png", make_picture(size=(64, 48)))
    hill = ("image.png", "image/png", make_picture(size=(40, 40), color="green"))
    may_continue = asyncio.Event()

    async def hold(route: Any) -> None:
        await may_continue.wait()
        await route.continue_()

    await front.sign_up("Ann")
    await front.follow("Write")
    await front.fill(title="By the river", content="At dawn: ")
    await front.page.route("**/media", hold)
    assert await send_files(front, "dragover", river)
    assert await front.page.locator("form.dropping").count() == 1
    assert await send_files(front, "drop", river)

    # The name of the file is text. The progress is shown until the picture is stored.
    await front.page.get_by_role("progressbar", name=f"Uploading {river[0]}").wait_for()
    assert await front.page.locator("form.dropping").count() == 0
    await take_screenshot(front.page, "front-end-uploading")
    may_continue.set()
    alt = front.page.get_by_label(ALT)
    await alt.wait_for()
    assert await alt.evaluate("input => input === document.activeElement")

    # The text is what the author writes, in whatever characters; Enter inserts the picture.
    await alt.fill("A [river](x) & *mist*!")
    await alt.press("Enter")
    url = await front.page.locator(".picture img").get_attribute("src")
    path = url.removeprefix(api.address)
    text = front.page.locator("textarea")
    await front.page.locator("textarea:focus").wait_for()
    written = rf"At dawn: ![A \[river\](x) \& \*mist\*\!]({path})"
    assert await text.input_value() == written

    # Text that is pasted with a picture of it stays text.
    assert not await send_files(front, "paste", hill, text="Copied from a table")
    assert await send_files(front, "paste", hill)
    await alt.nth(1).fill("A green hill")
    await front.page.locator(".picture").nth(1).get_by_role("button", name="Use as cover").click()
    await front.page.locator("form .cover").wait_for()
    await front.press("Insert", within=".picture >> nth=1")
    await front.page.locator("textarea:focus").wait_for()
    await take_screenshot(front.page, "front-end-editor")
    await front.press("Publish")

    article = front.page.locator("article")
    cover, inside = article.locator("img.cover"), article.locator("div > p > img")
    assert await cover.evaluate(SIZE) == [40, 40]
    assert await cover.get_attribute("alt") == "A green hill"
    assert await inside.first.evaluate(SIZE) == [64, 48]
    assert await inside.first.get_attribute("alt") == "A [river](x) & *mist*!"
    assert await inside.nth(1).get_attribute("alt") == "A green hill"
    await front.page.set_viewport_size({"width": 360, "height": 740})
    await front.assert_nothing_is_cut_off()
    await take_screenshot(front.page, "front-end-post-small")
    await front.follow("Edit")
    await front.press("Choose from your pictures")
    await alt.nth(1).wait_for()
    await front.assert_nothing_is_cut_off()
    await take_screenshot(front.page, "front-end-editor-small")
    await front.follow("Blog")
    assert await article.locator("img.cover").evaluate(SIZE) == [40, 40]
    await front.assert_nothing_is_cut_off()
    await take_screenshot(front.page, "front-end-list-small")
    front.assert_nothing_failed()


async def test_problems_of_uploads_are_shown_beside_the_picture(api: Server, front: FrontEnd):
    large = ("large.png", "image/png", b"\x89PNG" + bytes(MEDIA_MAX_BYTES))
    notes = ("notes.txt", "text/plain", b"Not a picture")
    broken = ("broken.png", "image/png", make_picture()[:30])

    await front.sign_up("Ann")
    await front.follow("Write")
    await send_files(front, "drop", large, notes, broken, ("a.png", "image/png", make_picture()))
    await front.page.get_by_label(ALT).wait_for()
    errors = await front.page.locator(".shelf .error").all_inner_texts()
    await take_screenshot(front.page, "front-end-upload-problems")
    await front.press("Dismiss")
    await front.press("Try again")
    await front.page.locator(".shelf .error").nth(1).wait_for()

    assert errors == [
        "large.png: The picture is too large.",
        "notes.txt: This is not a JPEG, PNG, GIF, WebP or AVIF picture.",
        "broken.png: This is not a JPEG, PNG, GIF, WebP or AVIF picture.",
    ]
    # A file that is dropped beside the editor does not replace the page.
    assert await send_files(front, "dragover", notes, to="header")
    assert await send_files(front, "drop", notes, to="header")
    front.assert_nothing_failed(except_for=["413 POST /media", *["415 POST /media"] * 3])


async def test_an_uploaded_picture_becomes_the_avatar(api: Server, front: FrontEnd):
    async with api.client() as client:
        await sign_up(client, "Ann")
        await upload(client, make_picture(size=(30, 20)), alt="Ann")
        post = await publish(client)
        await add_comment(client, post)

        await front.log_in("Ann")
        await front.follow("Account")
        await front.press("Choose from your pictures")
        await front.page.get_by_label(ALT).wait_for()
        assert await front.page.get_by_label(ALT).input_value() == "Ann"
        await front.press("Use as your picture")
        avatar = front.page.locator("#account img.avatar")
        assert await avatar.evaluate(SIZE) == [30, 20]
        await take_screenshot(front.page, "front-end-avatar")
        await front.follow("Ann")
        assert await front.page.locator("h1 img.avatar").evaluate(SIZE) == [30, 20]
        await front.follow("Hello")
        assert await front.page.locator(".comment img.avatar").evaluate(SIZE) == [30, 20]
        assert await front.page.locator("article .meta img.avatar").evaluate(SIZE) == [30, 20]
        await front.follow("Account")
        await front.fill(avatar_url="")
        await front.press("Save")
        await avatar.wait_for(state="detached")
        assert (await client.get("/users/me")).json()["avatar_url"] is None
    front.assert_nothing_failed()


async def test_an_author_edits_a_post_and_closes_its_comments(api: Server, front: FrontEnd):
    async with api.client() as client:
        await sign_up(client, "Ann")
        post = await publish(client, content="Long ago.", tags=["hill"])

        await front.log_in("Ann")
        await front.follow("Hello")
        await front.follow("Edit")
        await front.see_page("Edit")
        await front.fill(content="Yesterday.", tags="hill, river")
        await front.page.get_by_label("Comments open").uncheck()
        await front.press("Save")
        await front.see("Comments on this post are closed.")
        changed = (await client.get(f"/posts/{post['id']}")).json()
        assert (changed["content"], changed["tags"]) == ("Yesterday.", ["hill", "river"])
        # A slug and a summary that are made from the text go on following it.
        assert (changed["summary"], changed["comments_open"]) == ("Yesterday.", False)
        await front.press("Open comments")
        await front.page.get_by_label("Your comment").wait_for()

        # Another tab has changed the post: nothing is lost.
        await front.follow("Edit")
        await front.see_page("Edit")
        await client.patch(f"/posts/{post['id']}", json={"title": "Elsewhere"})
        await front.fill(content="Today.")
        await front.press("Save")
        await front.page.locator("main .error", has_text="changed").wait_for()
    front.assert_nothing_failed(except_for=[f"412 PATCH /posts/{post['id']}"])


async def test_an_account_that_is_not_an_author_is_told_so(
    api: Server, front: FrontEnd, change_front_end_user: ChangeUser
):
    await front.sign_up("Ann")
    assert await front.page.get_by_role("link", name="Write").count() == 1
    await change_front_end_user("ann@example.com", is_author=False)

    await front.follow("Write")
    await front.see("not write posts or upload pictures. An administrator can")
    assert await front.page.locator("main :is(form, input, textarea)").count() == 0
    await take_screenshot(front.page, "front-end-no-author")
    # The header follows.
    for name in ("Write", "My posts", "Moderation"):
        assert await front.page.get_by_role("link", name=name).count() == 0
    await front.follow("Account")
    await front.see("not write posts or upload pictures")
    assert await front.page.locator("input[type=file]").count() == 0
    # An address needs no upload.
    await front.fill(avatar_url="https://example.com/ann.jpg")
    await front.press("Save")
    await front.page.locator("input[name=avatar_url][value='']").wait_for(state="detached")
    async with api.client() as client:
        await log_in(client, "ann@example.com", "users:read")
        me = (await client.get("/users/me")).json()
    assert me["avatar_url"] == "https://example.com/ann.jpg"


async def test_the_policy_stops_html_that_the_api_did_not_sanitize(front: FrontEnd, api: Server):
    content = "| a | b |\n| :-: | -: |\n| <i style='color:red'>x</i> | <script>1</script> |"
    async with api.client() as client:
        await sign_up(client, "Bob")
        await publish(client, content=content)
    await front.open("#/post/hello")
    aligned = front.page.locator("td").first
    assert await aligned.evaluate("cell => getComputedStyle(cell).textAlign") == "-webkit-center"
    front.assert_nothing_failed()

    insert = "() => { document.querySelector('main').innerHTML = '<b>x</b>'; }"
    with pytest.raises(Exception, match="TrustedHTML"):
        await front.page.evaluate(insert)
