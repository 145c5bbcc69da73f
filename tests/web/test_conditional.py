"""Conditional requests and content negotiation: ETags, 304, `If-Match` and `Accept`."""

import re
from typing import Any

import pytest
from httpx import AsyncClient, Response

from tests.support.clients import PASSWORD, add_comment, publish

MOON = {"title": "Hello", "content": "Moon"}


def etag_of(response: Response) -> str:
    assert response.is_success, response.text
    etag: str = response.headers["ETag"]
    assert re.fullmatch(r'"[0-9a-f-]+"', etag)
    return etag


async def make_paths(ann: AsyncClient) -> tuple[str, ...]:
    """Return a path of every route whose responses have ETags."""
    post = await publish(ann, tags=["Python"])
    comment = await add_comment(ann, post)
    await add_comment(ann, post, to=comment)
    return (
        f"/posts/{post['id']}", f"/posts/slug/{post['slug']}", "/posts", "/posts?q=hello", "/tags",
        f"/posts/{post['id']}/comments", f"/comments/{comment['id']}",
        f"/comments/{comment['id']}/answers", "/users", f"/users/{post['user_id']}",
        f"/users/{post['user_id']}/posts", "/users/me", "/users/me/posts", "/users/me/feed",
        "/users/me/bookmarks", "/users/me/following", "/users/me/tokens", "/feed.json",
        "/feed.atom", "/feed.rss", "/openapi.json",
    )  # fmt: skip


async def test_a_matching_if_none_match_returns_304(ann: AsyncClient):
    for path in await make_paths(ann):
        first = await ann.get(path)
        second = await ann.get(path, headers={"If-None-Match": etag_of(first)})

        assert second.status_code == 304, path
        assert second.content == b"", path
        for name in ("ETag", "Cache-Control", "Vary", "Link"):
            assert second.headers.get(name) == first.headers.get(name), (path, name)
        assert first.headers["Cache-Control"] == "no-cache", path
        assert "Content-Type" not in second.headers, path
        assert "Content-Length" not in second.headers, path


async def test_head_returns_the_same_etag_and_304(ann: AsyncClient):
    for path in await make_paths(ann):
        get, head = await ann.get(path), await ann.head(path)
        unchanged = await ann.head(path, headers={"If-None-Match": etag_of(get)})

        assert etag_of(head) == etag_of(get), path
        assert head.headers["Content-Length"] == str(len(get.content)), path
        assert head.content == unchanged.content == b"", path
        assert unchanged.status_code == 304, path


async def test_every_change_of_a_response_changes_its_etag(ann: AsyncClient, bob: AsyncClient):
    post = await publish(ann)
    comment = await add_comment(ann, post)
    paths = (f"/posts/{post['id']}", "/posts", f"/posts/{post['id']}/comments")
    single = f"/comments/{comment['id']}"

    etags: list[str] = []

    async def have_changed() -> list[bool]:
        """Return for each path whether its ETag changed since the last call."""
        before = etags.copy()
        etags[:] = [etag_of(await ann.get(path)) for path in (*paths, single)]
        return [etag not in before for etag in etags]

    await have_changed()
    assert await have_changed() == [False, False, False, False]
    await bob.put(f"/users/me/bookmarks/{post['id']}")
    assert await have_changed() == [True, True, False, False]
    await add_comment(bob, post, to=comment)
    assert await have_changed() == [True, True, True, True]
    await ann.patch(single, json={"content": "Bye"})
    assert await have_changed() == [False, False, True, True]
    await ann.patch(f"/posts/{post['id']}", json={"content": "Moon"})
    assert await have_changed() == [True, True, False, False]
    await ann.patch("/users/me", json={"name": "Anna"})
    assert await have_changed() == [True, True, True, True]


async def test_if_none_match_accepts_lists_weak_etags_and_a_wildcard(ann: AsyncClient):
    path = f"/posts/{(await publish(ann))['id']}"
    etag = etag_of(await ann.get(path))

    for value in ("*", etag, f"W/{etag}", f'"x", {etag}', f'"x",{etag},"y"', f'W/"x" , W/{etag} '):
        assert (await ann.get(path, headers={"If-None-Match": value})).status_code == 304, value
    for other in (
        '"x"', "", "nonsense", '"', 'W/"', ",,,", f"w/{etag}", f"{etag}x", '"1-0"',
        etag.strip('"'),
    ):  # fmt: skip
        response = await ann.get(path, headers={"If-None-Match": other})
        assert response.status_code == 200, other


async def test_repeated_conditional_headers_are_combined(ann: AsyncClient):
    path = f"/posts/{(await publish(ann))['id']}"
    etag = etag_of(await ann.get(path))

    headers = [("If-None-Match", '"x"'), ("If-None-Match", etag)]
    assert (await ann.get(path, headers=headers)).status_code == 304
    headers = [("If-Match", '"x"'), ("If-Match", etag)]
    assert (await ann.patch(path, json={}, headers=headers)).status_code == 200


async def test_if_none_match_is_ignored_on_unsafe_methods(ann: AsyncClient):
    post = await publish(ann)
    path = f"/posts/{post['id']}"

    headers = {"If-None-Match": "*"}
    responses = [
        await ann.put(path, json=MOON, headers=headers),
        await ann.post("/posts", json=MOON, headers=headers),
        await ann.delete(path, headers=headers),
    ]

    assert [response.status_code for response in responses] == [200, 201, 204]


async def test_error_responses_have_no_etag(ann: AsyncClient, anonymous: AsyncClient):
    for response in (
        await ann.get("/posts/1"),
        await ann.get("/nowhere"),
        await anonymous.get("/users/me"),
        await ann.get("/posts?page=0"),
        await ann.get("/posts/1", headers={"If-None-Match": "*"}),
    ):
        assert response.is_client_error
        assert "ETag" not in response.headers


async def test_a_hidden_post_is_404_even_if_the_etag_matches(ann: AsyncClient, bob: AsyncClient):
    draft = await publish(ann, published_at=None)
    etag = etag_of(await ann.get(f"/posts/{draft['id']}"))

    for value in (etag, "*"):
        response = await bob.get(f"/posts/{draft['id']}", headers={"If-None-Match": value})
        assert response.status_code == 404


async def test_responses_with_secrets_have_no_etag(ann: AsyncClient):
    response = await ann.post("/users/me/tokens", json={"name": "Script"})

    assert response.headers["Cache-Control"] == "no-store"
    assert "ETag" not in response.headers


# If-Match


class Resource:
    """A post or a comment by Ann, and the body of a change."""

    def __init__(self, path: str, body: dict[str, str]) -> None:
        self.path = path
        self.body = body


@pytest.fixture(params=["post", "comment"])
async def resource(request: pytest.FixtureRequest, ann: AsyncClient) -> Resource:
    post = await publish(ann)
    if request.param == "post":
        return Resource(f"/posts/{post['id']}", MOON)
    return Resource(f"/comments/{(await add_comment(ann, post))['id']}", {"content": "Moon"})


def list_changes(resource: Resource) -> list[tuple[str, dict[str, str] | None]]:
    """Return the methods that change the resource, with bodies; DELETE is last."""
    put = [("PUT", resource.body)] if "posts" in resource.path else []
    return [*put, ("PATCH", resource.body), ("DELETE", None)]


def assert_precondition_failed(response: Response) -> None:
    assert response.status_code == 412, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["type"] == "urn:blog-api:precondition-failed"
    assert response.json()["detail"] == "This was changed since you read it"
    assert "ETag" not in response.headers


async def test_a_current_etag_in_if_match_allows_the_change(ann: AsyncClient, resource: Resource):
    for method, body in list_changes(resource):
        etag = etag_of(await ann.get(resource.path))
        response = await ann.request(method, resource.path, json=body, headers={"If-Match": etag})
        assert response.is_success, (method, response.text)
        if method != "DELETE":
            # The response has the ETag for the next change.
            headers = {"If-Match": etag_of(response)}
            second = await ann.patch(resource.path, json={"content": method}, headers=headers)
            assert second.status_code == 200


async def test_a_stale_etag_in_if_match_is_rejected(ann: AsyncClient, resource: Resource):
    stale = etag_of(await ann.get(resource.path))
    await ann.patch(resource.path, json={"content": "Sun"})
    before = (await ann.get(resource.path)).json()

    for method, body in list_changes(resource):
        response = await ann.request(method, resource.path, json=body, headers={"If-Match": stale})
        assert_precondition_failed(response)
    assert (await ann.get(resource.path)).json() == before


@pytest.mark.parametrize("template", ["{}", "*", ' "x" , {} ', '"x",{}', '{},"x"', '"0-0",{}'])
async def test_one_matching_etag_in_if_match_is_sufficient(
    ann: AsyncClient, resource: Resource, template: str
):
    for method, body in list_changes(resource):
        etag = etag_of(await ann.get(resource.path))
        headers = {"If-Match": template.format(etag)}
        response = await ann.request(method, resource.path, json=body, headers=headers)
        assert response.is_success, (method, response.text)


async def test_malformed_etags_in_if_match_do_not_match(ann: AsyncClient, resource: Resource):
    etag = etag_of(await ann.get(resource.path))
    version, identity, digest = etag.strip('"').split("-")
    tag = etag.strip('"')

    for wrong in (
        f'"{tag}-gzip-gzip"', f'"{tag}-GZIP"', f'"{tag}-x"', f'"{tag}-"', f"w/{etag}",
        f'"{version}-{identity}"', f'"{identity}-{digest}"', f'W/"{version}"',
        f'"{version}"', version, etag.strip('"'), f'"{digest}"', "",
        ",", '"', '""', "nonsense", f'"-{digest}"', f'"{version}-"',
        f'"{int(version) + 1}-{identity}-{digest}"', f'"{version}-{digest}"',
        f'"{version}-{"0" * 12}-{digest}"', f'"٣-{identity}-{digest}"',
        f'"99999999999999999999-{digest}"',
        f'"{"9" * 900}-0"', "\x7f", "é", f"{etag}{etag}", f'"x" {etag}', "**",
    ):  # fmt: skip
        for method, body in list_changes(resource):
            headers = {b"If-Match": wrong.encode()}
            response = await ann.request(method, resource.path, json=body, headers=headers)
            assert_precondition_failed(response)
    too_long = await ann.patch(
        resource.path, json=resource.body, headers={"If-Match": f"{etag}, " + '"x", ' * 1000}
    )
    assert too_long.status_code == 422
    assert etag_of(await ann.get(resource.path)) == etag


async def test_permissions_are_checked_before_if_match(
    ann: AsyncClient, bob: AsyncClient, anonymous: AsyncClient, resource: Resource
):
    for method, body in list_changes(resource):
        headers = {"If-Match": '"x"'}
        by_bob = await bob.request(method, resource.path, json=body, headers=headers)
        by_anonymous = await anonymous.request(method, resource.path, json=body, headers=headers)
        assert by_bob.status_code == 403
        assert by_anonymous.status_code == 401
    await ann.delete(resource.path)
    for value in ("*", '"x"'):
        missing = await ann.patch(resource.path, json=resource.body, headers={"If-Match": value})
        assert missing.status_code == 404


async def test_comments_bookmarks_and_renames_do_not_invalidate_if_match(
    ann: AsyncClient, bob: AsyncClient, admin: AsyncClient
):
    post = await publish(ann)
    comment = await add_comment(ann, post)
    paths = (f"/posts/{post['id']}", f"/comments/{comment['id']}")
    before = [etag_of(await ann.get(path)) for path in paths]

    await add_comment(bob, post, to=comment)
    await bob.put(f"/users/me/bookmarks/{post['id']}")
    await admin.put(f"/admin/posts/{post['id']}/takedown")
    await admin.delete(f"/admin/posts/{post['id']}/takedown")
    await ann.patch("/users/me", json={"name": "Anna"})

    after = [etag_of(await ann.get(path)) for path in paths]
    for path, old, new in zip(paths, before, after, strict=True):
        assert old != new
        changed = await ann.patch(path, json={"content": "Moon"}, headers={"If-Match": old})
        assert changed.status_code == 200


async def test_the_second_of_two_editors_does_not_overwrite_the_first(ann: AsyncClient):
    post = await publish(ann)
    path = f"/posts/{post['id']}"
    etag = etag_of(await ann.get(path))

    first = await ann.put(path, json=MOON | {"tags": ["first"]}, headers={"If-Match": etag})
    body = {"title": "Second", "content": "Second", "tags": ["second"]}
    second = await ann.put(path, json=body, headers={"If-Match": etag})
    shown = (await ann.get(path)).json()
    retried = await ann.put(path, json=body, headers={"If-Match": etag_of(first)})

    assert_precondition_failed(second)
    assert shown["content_html"] == "<p>Moon</p>\n"
    assert {field: shown[field] for field in first.json()} == first.json()
    assert (await ann.get("/posts/slug/second")).json()["id"] == post["id"]
    assert retried.status_code == 200
    assert retried.json()["tags"] == ["second"]


async def test_a_change_without_effect_creates_no_new_version(ann: AsyncClient):
    post = await publish(ann, tags=["a"])
    path = f"/posts/{post['id']}"
    etag = etag_of(await ann.get(path))
    same: dict[str, Any] = {key: post[key] for key in ("title", "content", "tags", "published_at")}

    for method, body in (("PUT", same), ("PATCH", same), ("PATCH", {})):
        response = await ann.request(method, path, json=body, headers={"If-Match": etag})
        assert response.status_code == 200
        assert response.json() == post
    assert etag_of(await ann.get(path)) == etag


PROXY_TEMPLATES = ('W/"{}"', *(f'"{{}}-{suffix}"' for suffix in ("gzip", "br", "zstd", "deflate")))


@pytest.mark.parametrize("template", PROXY_TEMPLATES)
async def test_etags_changed_by_a_compressing_proxy_match(
    ann: AsyncClient, resource: Resource, template: str
):
    for method, body in list_changes(resource):
        changed = template.format(etag_of(await ann.get(resource.path)).strip('"'))
        cached = await ann.get(resource.path, headers={"If-None-Match": changed})
        response = await ann.request(
            method, resource.path, json=body, headers={"If-Match": changed}
        )

        assert cached.status_code == 304
        assert response.is_success, (method, response.text)


async def test_the_etag_of_another_resource_does_not_match(ann: AsyncClient, admin: AsyncClient):
    first, second = await publish(ann), await publish(ann)
    comment = await add_comment(ann, first)
    paths = [f"/posts/{first['id']}", f"/posts/{second['id']}", f"/comments/{comment['id']}"]
    etags = [etag_of(await ann.get(path)) for path in paths]

    for path in paths:
        for other in set(paths) - {path}:
            headers = {"If-Match": etags[paths.index(other)]}
            assert_precondition_failed(await ann.delete(path, headers=headers))
            assert_precondition_failed(await admin.delete(f"/admin{path}", headers=headers))


async def test_all_paths_of_a_resource_share_the_validator(ann: AsyncClient, admin: AsyncClient):
    post = await publish(ann)
    single = f"/posts/{post['id']}"
    for path in (single, f"/posts/slug/{post['slug']}", f"/api/v1{single}"):
        for response in (
            await ann.head(path),
            await ann.get(path, headers={"Accept": "text/markdown"}),
        ):
            changed = await ann.patch(single, json={}, headers={"If-Match": etag_of(response)})
            assert changed.status_code == 200
    headers = {"If-Match": etag_of(await admin.get(f"/admin{single}"))}
    assert (await ann.patch(single, json={}, headers=headers)).status_code == 200


async def test_if_match_protects_accounts(ann: AsyncClient):
    stale = etag_of(await ann.get("/users/me"))
    current = etag_of(
        await ann.patch("/users/me", json={"name": "Anna"}, headers={"If-Match": stale})
    )
    password = {"current_password": PASSWORD, "new_password": "another horse entirely"}
    changes: tuple[tuple[str, str, Any], ...] = (
        ("PATCH", "/users/me", {"name": "Anne"}),
        ("PATCH", "/users/me", {"email": "a@example.com", "current_password": PASSWORD}),
        ("PUT", "/users/me/password", password),
        ("DELETE", "/users/me", {"current_password": PASSWORD}),
    )

    for method, path, body in changes:
        rejected = await ann.request(method, path, json=body, headers={"If-Match": stale})
        assert_precondition_failed(rejected)
    assert etag_of(await ann.get("/users/me")) == current
    method, path, body = changes[-1]
    deleted = await ann.request(method, path, json=body, headers={"If-Match": current})
    assert deleted.status_code == 204


async def test_if_match_is_evaluated_on_administration(ann: AsyncClient, admin: AsyncClient):
    post = await publish(ann)
    comment = await add_comment(ann, post)
    single, account = f"/admin/posts/{post['id']}", f"/admin/users/{post['user_id']}"
    changes: tuple[tuple[str, str, Any], ...] = (
        ("PUT", f"{single}/takedown", None),
        ("DELETE", f"{single}/takedown", None),
        ("DELETE", f"/admin/comments/{comment['id']}", None),
        ("DELETE", single, None),
        ("PATCH", account, {"is_active": False}),
    )

    for method, path, body in changes:
        rejected = await admin.request(method, path, json=body, headers={"If-Match": '"x"'})
        etag = etag_of(await admin.get(path.removesuffix("/takedown")))
        accepted = await admin.request(method, path, json=body, headers={"If-Match": etag})

        assert_precondition_failed(rejected)
        assert accepted.is_success, (path, accepted.text)


# Accept


ACCEPTS_MARKDOWN = (
    "text/markdown", "TEXT/Markdown", "text/*", "text/markdown;charset=utf-8",
    "text/markdown, application/json;q=0.9", "application/json;q=0.1,text/markdown;q=0.2",
    "text/html, text/markdown, */*;q=0.1", "*/*;q=0.5, text/markdown", "text/*, */*;q=0.9",
    "text/markdown;q=0.001, application/json;q=0", " text/markdown ; q=1.000 ",
)  # fmt: skip


async def test_accept_text_markdown_returns_the_source_of_a_post(
    ann: AsyncClient, anonymous: AsyncClient
):
    content = "# Привет\r\n\n*Hello* <b>&amp;\t"
    post = await publish(ann, content=content)

    for accept in ACCEPTS_MARKDOWN:
        for path in (f"/posts/{post['id']}", f"/posts/slug/{post['slug']}"):
            response = await anonymous.get(path, headers={"Accept": accept})
            assert response.headers["Content-Type"] == "text/markdown; charset=utf-8", accept
            assert response.headers["Vary"] == "Accept"
            assert response.content == content.encode()


ACCEPTS_JSON = (
    "*/*", "", "application/json", "application/*", "text/html", "image/png",
    "text/markdown, application/json", "text/markdown;q=0.5, application/json", "text/*, */*",
    "text/markdown;q=0", "text/markdown;q=0, */*", "text/markdown;q=-1", "text/markdown;q=x",
    "text/markdown;q=2", "text/markdown;q=", "text/markdown;q=0.0001", "text/markdown;q=1e0",
    "text/markdown;q=NaN", "text/markdown;q=inf", "text/markdown;q=\u0660", "markdown", "text",
    "text/", "/", "//", ";", ";;;q=1", ",", ",,,", "q=1", "text/markdownx", "*", "*/markdown",
    "\x7f", "é", "text/markdown\u00a0", "a" * 5000,
)  # fmt: skip


async def test_any_other_accept_header_returns_json(ann: AsyncClient):
    post = await publish(ann)

    for accept in ACCEPTS_JSON:
        response = await ann.get(f"/posts/{post['id']}", headers={b"Accept": accept.encode()})
        assert response.status_code == 200, accept
        assert response.headers["Content-Type"] == "application/json", accept
        assert response.headers["Vary"] == "Accept"
        assert response.json() == post | {"content_html": "<p>World</p>\n"}


async def test_repeated_accept_headers_are_combined(ann: AsyncClient):
    path = f"/posts/{(await publish(ann))['id']}"

    response = await ann.get(
        path, headers=[("Accept", "application/json;q=0.5"), ("Accept", "text/markdown")]
    )

    assert response.text == "World"


async def test_each_representation_has_its_own_etag(ann: AsyncClient):
    path = f"/posts/{(await publish(ann))['id']}"
    markdown = {"Accept": "text/markdown"}
    as_json, as_markdown = await ann.get(path), await ann.get(path, headers=markdown)

    assert etag_of(as_json) != etag_of(as_markdown)
    for accept, previous, status in (
        ({}, as_json, 304), ({}, as_markdown, 200),
        (markdown, as_markdown, 304), (markdown, as_json, 200),
    ):  # fmt: skip
        response = await ann.get(path, headers=accept | {"If-None-Match": etag_of(previous)})
        assert response.status_code == status
        assert response.headers["Vary"] == "Accept"
    head = await ann.head(path, headers=markdown)
    assert etag_of(head) == etag_of(as_markdown)
    assert head.headers["Content-Type"] == "text/markdown; charset=utf-8"
    # Both match the version of the post.
    for previous in (as_json, as_markdown):
        headers = {"If-Match": etag_of(previous)}
        assert (await ann.patch(path, json={}, headers=headers)).status_code == 200


async def test_the_markdown_of_a_draft_is_visible_to_its_author_only(
    ann: AsyncClient, bob: AsyncClient
):
    path = f"/posts/{(await publish(ann, published_at=None))['id']}"
    markdown = {"Accept": "text/markdown"}

    missing = await bob.get(path, headers=markdown)

    assert (await ann.get(path, headers=markdown)).text == "World"
    assert missing.status_code == 404
    assert missing.headers["Content-Type"] == "application/problem+json"
