"""Invalid requests of every kind: the response is a problem document that echoes no value."""

import json
import logging
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI, HTTPException
from httpx import AsyncClient

from blog_api.core.logs import TextFormatter
from blog_api.posts import lists as listings
from tests.support.clients import (
    CHEAP_HASHING,
    PASSWORD,
    ChangeUser,
    add_comment,
    assert_problem,
    client_of,
    log_in,
    make_settings,
    publish,
    running,
    sign_up,
)
from tests.support.mailbox import Mailbox
from tests.support.pictures import make_picture, upload

MARK = "hunter2-marker"
DEEP = 100_000

BODIES = {
    "nothing": b"",
    "no JSON": MARK.encode(),
    "no UTF-8": b'{"title": "\xff\xfe"}',
    "a list": b"[]",
    "a string": json.dumps(MARK).encode(),
    "null": b"null",
    "a long number": b'{"title": ' + b"9" * 5000 + b"}",
    "brackets": b"[" * DEEP,
    "balanced brackets": b"[" * DEEP + b"]" * DEEP,
    "unknown fields": json.dumps({"unknown": MARK}).encode(),
    "more fields than are shown": json.dumps({f"unknown{n}": MARK for n in range(50)}).encode(),
    "far too many fields": json.dumps({f"{MARK}{n}": 1 for n in range(1000)}).encode(),
    "a surrogate for a name": b'{"\\ud800": 1}',
    "a name of Python's": b'{"cls": 1}',
    "a name of Pydantic's": b'{"__pydantic_self__": 1}',
    "privileges": b'{"id": 1, "is_admin": true}',
}

VALUES = {
    "NUL": '"\\u0000"',
    "a surrogate": '"\\ud800"',
    "NaN": "NaN",
    "infinity": "1e999",
    "minus infinity": "-Infinity",
    "a control character": '"hunter2-marker\\u0001"',
    "a noncharacter": '"hunter2-marker\\uffff"',
    "an object": '{"hunter2-marker": "hunter2-marker"}',
    "a list": '["hunter2-marker"]',
    "a number": "12345678",
    "true": "true",
    "a list with NUL": '["\\u0000"]',
    "a list of a list": '[["hunter2-marker"]]',
    "a list of null": "[null]",
    "a long list": json.dumps([f"{MARK}{n}" for n in range(1000)]),
    "too much": json.dumps(MARK * 50_000),
}

POST_FIELDS = (
    "title", "content", "published_at", "tags", "slug", "summary", "cover_url", "cover_alt",
    "canonical_url", "comments_open", "content_type",
)  # fmt: skip

JSON_ROUTES = {
    ("POST", "/sign-up"): ("email", "name", "username", "password"),
    ("POST", "/users"): ("email", "name", "username", "password"),
    ("PATCH", "/users/me"): (
        "email", "name", "username", "bio", "avatar_url", "current_password",
    ),
    ("PUT", "/users/me/password"): ("current_password", "new_password"),
    ("DELETE", "/users/me"): ("current_password",),
    ("POST", "/users/me/tokens"): ("name", "scopes", "expires_at", "current_password"),
    ("POST", "/password-resets"): ("email",),
    ("POST", "/password-resets/confirm"): ("token", "new_password"),
    ("POST", "/email-verifications"): (),
    ("POST", "/email-verifications/confirm"): ("token",),
    ("POST", "/email-verifications/undo"): ("token",),
    ("POST", "/posts"): POST_FIELDS,
    ("PUT", "/posts/{id}"): POST_FIELDS,
    ("PATCH", "/posts/{id}"): POST_FIELDS,
    ("POST", "/preview"): ("content", "content_type"),
    ("POST", "/posts/{id}/comments"): ("content", "parent_id"),
    ("PATCH", "/comments/{comment_id}"): ("content",),
    ("PATCH", "/media/{media_id}"): ("alt",),
    ("POST", "/admin/users"): ("email", "name", "username", "is_author", "password"),
    ("PATCH", "/admin/users/{user_id}"): ("is_active", "is_admin", "is_author"),
    ("DELETE", "/admin/bans"): ("email",),
    ("PUT", "/admin/posts/{id}/takedown"): ("reason",),
}  # fmt: skip

VALID = {
    "email": "carl@example.com",
    "name": "Carl",
    "password": PASSWORD,
    "current_password": PASSWORD,
    "new_password": PASSWORD,
    "username": "carl",
    "token": "1.code",
    "bio": None,
    "avatar_url": None,
    "title": "Title",
    "slug": None,
    "summary": None,
    "cover_url": None,
    "cover_alt": None,
    "canonical_url": None,
    "comments_open": False,
    "content": "Content",
    "content_type": "text/html",
    "published_at": None,
    "tags": ["Python"],
    "parent_id": None,
    "scopes": ["posts:read"],
    "expires_at": None,
    "is_active": True,
    "is_admin": True,
    "alt": None,
    "is_author": True,
    "reason": None,
}

# The body is optional.
WITHOUT_BODY = {("PUT", "/admin/posts/{id}/takedown"): {"nothing", "null"}}

# The values above that are valid for a field.
VALID_VALUES = {
    ("is_active", "true"), ("is_admin", "true"), ("is_author", "true"), ("tags", "a list"),
    ("parent_id", "a number"), ("comments_open", "true"),
}  # fmt: skip


async def test_these_tests_cover_every_route_with_a_json_body(app: FastAPI):
    with_json = {
        (method.upper(), path.replace("{post_id}", "{id}"))
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }

    assert with_json == JSON_ROUTES.keys()


@pytest.fixture
async def ann(ann: AsyncClient, mailbox: Mailbox, change_user: ChangeUser) -> AsyncClient:
    """An administrator, who may call every route."""
    await change_user("ann@example.com", is_admin=True)
    await log_in(ann, "ann@example.com")
    return ann


@pytest.fixture
async def post(ann: AsyncClient) -> dict[str, object]:
    """A post by Ann with a comment by Ann."""
    response = await ann.post("/posts", json={"title": "Hello", "content": "World"})
    created: dict[str, object] = response.json()
    comment = await ann.post(f"/posts/{created['id']}/comments", json={"content": "Hello"})
    media = await upload(ann, make_picture())
    return created | {"comment_id": comment.json()["id"], "media_id": media["id"]}


async def read_all_data(ann: AsyncClient, post: dict[str, object]) -> list[object]:
    """Return all data that an invalid request could have changed."""
    paths = (
        "/users/me", "/users", "/users/me/posts", "/users/me/tokens", "/tags", "/users/me/media",
        f"/posts/{post['id']}/comments",
    )  # fmt: skip
    return [(await ann.get(path)).json() for path in paths]


@pytest.mark.parametrize(("method", "path"), JSON_ROUTES.keys())
async def test_an_invalid_body_changes_nothing(
    ann: AsyncClient, post: dict[str, object], method: str, path: str
):
    before = await read_all_data(ann, post)
    headers = {"Content-Type": "application/json"}

    for name, body in BODIES.items():
        if name in WITHOUT_BODY.get((method, path), ()):
            continue
        response = await ann.request(method, path.format(**post), content=body, headers=headers)
        assert_problem(response, 400, 413, 422)

    assert await read_all_data(ann, post) == before


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [(*route, field) for route, fields in JSON_ROUTES.items() for field in fields],
)
async def test_an_invalid_value_changes_nothing(
    ann: AsyncClient, post: dict[str, object], method: str, path: str, field: str
):
    before = await read_all_data(ann, post)
    valid = {name: json.dumps(VALID[name]) for name in JSON_ROUTES[method, path]}
    headers = {"Content-Type": "application/json"}

    for name, value in VALUES.items():
        if (field, name) in VALID_VALUES:
            continue
        fields = (f'"{one}": {text}' for one, text in (valid | {field: value}).items())
        body = "{" + ", ".join(fields) + "}"
        response = await ann.request(method, path.format(**post), content=body, headers=headers)
        assert_problem(response, 400, 413, 422)

    assert await read_all_data(ann, post) == before


@pytest.mark.parametrize(("method", "path"), JSON_ROUTES.keys())
async def test_other_content_types_are_not_parsed_as_json(
    ann: AsyncClient, post: dict[str, object], method: str, path: str
):
    body = json.dumps({name: VALID[name] for name in JSON_ROUTES[method, path]})

    for media_type in ("text/plain", "application/x-www-form-urlencoded", "nonsense"):
        response = await ann.request(
            method, path.format(**post), content=body, headers={"Content-Type": media_type}
        )

        assert_problem(response, 422)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"username=ann@example.com",
        b"password=hunter2-marker",
        b"username=hunter2-marker%00&password=x",
        b"username=hunter2-marker%ff&password=x",
        b"username=ann@example.com&password=hunter2%00",
        b"username=ann@example.com&password=" + b"hunter2" * 1000,
        b"username=" + b"hunter2" * 1000 + b"&password=x",
        b"username=a&password=\xff",
        b"&".join(b"hunter2=%d" % n for n in range(2000)),
        b'{"username": "hunter2-marker"}',
        b"cls=hunter2",
        b"__pydantic_self__=hunter2",
    ],
)
async def test_an_invalid_form_is_rejected(ann: AsyncClient, content: bytes):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    response = await ann.post("/auth", content=content, headers=headers)

    assert_problem(response, 400, 413, 422)


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"Content-Type": "multipart/form-data"}, b"hunter2"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\nhunter2"),
        (
            {"Content-Type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="username"; filename="a"\r\n\r\nhunter2'
            b"\r\n--x--\r\n",
        ),
        ({"Content-Type": "application/json"}, b'{"username": "hunter2"}'),
        ({}, b"username=hunter2&password=x"),
    ],
)
async def test_a_body_that_is_not_a_form_is_rejected(
    ann: AsyncClient, headers: dict[str, str], content: bytes
):
    response = await ann.post("/auth", content=content, headers=headers)

    assert_problem(response, 400, 413, 422)


@pytest.mark.parametrize("path", ["/posts", "/sign-up", "/auth", "/posts/1", "/nowhere", "/"])
async def test_a_body_over_the_size_limit_is_rejected(ann: AsyncClient, path: str):
    body = b'{"title": "Hello", "content": "' + b"a" * (9 * 1024 * 1024) + b'"}'

    response = await ann.post(path, content=body, headers={"Content-Type": "application/json"})

    assert_problem(response, 413)


@pytest.mark.parametrize("path", ["/sign-up", "/auth", "/users"])
async def test_sign_up_and_login_routes_accept_only_small_bodies(anonymous: AsyncClient, path: str):
    response = await anonymous.post(path, content=b"&" * 100_000)

    assert_problem(response, 413)


async def test_requests_without_a_token_accept_only_small_bodies(
    ann: AsyncClient, anonymous: AsyncClient
):
    body = {"title": "Hello", "content": "a" * 100_000}

    assert_problem(await anonymous.post("/posts", json=body), 413)
    assert (await ann.post("/posts", json=body)).status_code == 201


@pytest.mark.parametrize("path", ["/feed.json", "/users/1", "/posts/1", "/health/live", "/"])
async def test_unknown_query_parameters_of_other_routes_are_ignored(ann: AsyncClient, path: str):
    for name in ("cls", "self", "__pydantic_self__", "hunter2", "%00", "a[]"):
        response = await ann.get(f"{path}?{name}=hunter2")

        assert response.status_code in (200, 404)


async def test_lists_name_an_unknown_query_parameter(
    app: FastAPI, admin: AsyncClient, anonymous: AsyncClient
):
    post = await publish(admin)
    comment = await add_comment(admin, post)
    lists = [
        path.format(post_id=post["id"], user_id=post["user_id"], comment_id=comment["id"])
        for path, operations in app.openapi()["paths"].items()
        for parameter in operations.get("get", {}).get("parameters", ())
        if parameter["name"] in ("page", "skip")
    ]

    assert len(lists) >= 13
    for path in lists:
        # The cache has the list without the parameter.
        await anonymous.get(path)
        for client in (admin, anonymous):
            response = await client.get(path, params={"taag": "hunter2"})
            if response.status_code != 401:
                assert_problem(response, 422)
                (error,) = response.json()["errors"]
                assert error["loc"] == ["query", "taag"]
                assert error["msg"] == "Unknown parameter: taag"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("contnet", "contnet"),
        ("имя", "имя"),
        ("a\u202eb\n\x00", "a\ufffdb\ufffd\ufffd"),
        ("x" * 1000, "x" * 50),
    ],
)
async def test_an_unknown_field_is_named(ann: AsyncClient, name: str, shown: str):
    body = {"title": "Hello", "content": "World", name: MARK}

    response = await ann.post("/posts", json=body)

    assert_problem(response, 422)
    assert response.json()["errors"] == [
        {"loc": ["body", shown], "type": "extra_forbidden", "msg": f"Unknown field: {shown}"}
    ]


async def test_json_sent_to_a_form_route_is_told_to_be_a_form(anonymous: AsyncClient):
    body = {"username": MARK, "password": PASSWORD}

    response = await anonymous.post("/auth", json=body)
    oauth2 = await anonymous.post("/token", json=body | {"grant_type": "password"})

    assert_problem(response, 422)
    (error,) = response.json()["errors"]
    assert error["type"] == "no_form"
    assert error["msg"] == "Send a form, with Content-Type: application/x-www-form-urlencoded"
    # RFC 6749, 5.2: invalid_request.
    assert oauth2.status_code == 400
    assert oauth2.json()["detail"].startswith("Send a form with username and password")


async def test_a_chunked_body_over_the_size_limit_is_rejected(ann: AsyncClient):
    async def make_chunks() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b" " * 1024 * 1024

    response = await ann.post(
        "/posts", content=make_chunks(), headers={"Content-Type": "application/json"}
    )

    assert_problem(response, 413)


@pytest.mark.parametrize(
    "path", ["/nowhere", "/posts/abc", "/users/me/nothing", "/docs/x", "/posts//", "/%00"]
)
async def test_an_unknown_path_is_not_found(anonymous: AsyncClient, path: str):
    assert_problem(await anonymous.get(path), 404)


async def test_a_path_that_is_too_long_is_rejected(anonymous: AsyncClient):
    assert_problem(await anonymous.get("/posts/" + "9" * 5000), 414)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/posts", {"GET", "HEAD", "POST"}),
        ("POST", "/posts/1", {"GET", "HEAD", "PUT", "PATCH", "DELETE"}),
        ("GET", "/sign-up", {"POST"}),
        ("HEAD", "/sign-up", {"POST"}),
        ("TRACE", "/", {"GET", "HEAD"}),
        ("NONSENSE", "/auth", {"POST", "DELETE"}),
    ],
)
async def test_an_unsupported_method_is_rejected_with_an_allow_header(
    anonymous: AsyncClient, method: str, path: str, allowed: set[str]
):
    response = await anonymous.request(method, path)

    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == allowed
    if method != "HEAD":
        assert_problem(response, 405)


async def test_an_unexpected_error_returns_500_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    settings = make_settings(
        database_url="sqlite://", cors_origins=["https://example.com"], **CHEAP_HASHING
    )
    async with running(settings) as app, client_of(app) as client:
        await sign_up(client, "Ann")
        await client.post("/posts", json={"title": "Hello", "content": "World"})
        monkeypatch.delattr(listings, "paginate_posts")
        caplog.handler.setFormatter(TextFormatter())
        with caplog.at_level(logging.ERROR):
            response = await client.get("/posts", headers={"Origin": "https://example.com"})

    assert_problem(response, 500)
    assert response.headers["Access-Control-Allow-Origin"] == "https://example.com"
    assert caplog.text.endswith(f" {response.headers['X-Request-ID']}\n")
    assert "paginate_posts" in caplog.text


async def test_an_http_exception_keeps_its_status_and_headers():
    async def raise_error() -> None:
        raise HTTPException(429, "hunter2", headers={"Retry-After": "30"})

    settings = make_settings(database_url="sqlite://", **CHEAP_HASHING)
    async with running(settings) as app, client_of(app) as client:
        app.add_api_route("/error", raise_error)
        response = await client.get("/error")

    assert response.status_code == 429
    assert response.headers["Retry-After"] == "30"
    assert response.json()["type"] == "about:blank"
    assert response.json()["title"] == "Too Many Requests"
    assert "hunter2" not in response.text


async def test_caches_do_not_store_rejections_of_the_middleware():
    settings = make_settings(
        database_url="sqlite://",
        trusted_hosts=["example.com"],
        cors_origins=["https://example.com"],
        **CHEAP_HASHING,
    )
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    async with running(settings) as app, client_of(app) as client:
        responses = [
            await client.get("/posts"),
            await client.get(f"/{'a' * 2000}"),
            await client.options("/posts", headers=preflight),
        ]

    for response, status in zip(responses, (400, 414, 400), strict=True):
        assert_problem(response, status)
