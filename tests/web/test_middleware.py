"""Headers and behavior of all routes: request ids, HEAD, the access log, CORS and hosts."""

import logging
import re
from uuid import UUID

import anyio
import anyio.lowlevel
import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from blog_api.accounts.errors import NotAuthenticated
from blog_api.db.session import get_session
from tests.support.clients import (
    CHEAP_HASHING,
    PASSWORD,
    assert_problem,
    client_of,
    make_settings,
    running,
    sign_up,
)

HELLO = {"title": "Hello", "content": "World"}


@pytest.mark.parametrize("path", ["/", "/posts", "/nowhere", "/users/me", "/posts?page=0"])
async def test_every_response_has_a_request_id_timing_and_security_headers(
    anonymous: AsyncClient, path: str
):
    response = await anonymous.get(path)

    assert UUID(response.headers["X-Request-ID"])
    assert re.fullmatch(r"\d+\.\d+", response.headers["X-Process-Time"])
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["Referrer-Policy"] == "no-referrer"


async def test_each_request_has_its_own_id(anonymous: AsyncClient):
    responses = [await anonymous.get("/nowhere") for _ in range(3)]

    assert len({response.headers["X-Request-ID"] for response in responses}) == len(responses)


async def test_a_uuid_in_x_request_id_becomes_the_request_id(anonymous: AsyncClient):
    request_id = "01234567-89ab-cdef-0123-456789abcdef"

    for given in (request_id, request_id.upper(), request_id.replace("-", "")):
        response = await anonymous.get("/nowhere", headers={"X-Request-ID": given})

        assert response.headers["X-Request-ID"] == request_id
        assert response.json()["instance"] == f"urn:uuid:{request_id}"


@pytest.mark.parametrize("given", ["x", "a" * 10_000, "'\"<>", ""])
async def test_an_invalid_request_id_is_replaced(anonymous: AsyncClient, given: str):
    response = await anonymous.get("/", headers={"X-Request-ID": given})

    assert UUID(response.headers["X-Request-ID"])
    assert response.headers["X-Request-ID"] != given


@pytest.mark.parametrize(
    "path", ["/", "/posts", "/users", "/health/live", "/openapi.json", "/docs", "/nowhere"]
)
async def test_head_returns_the_headers_of_get_without_a_body(anonymous: AsyncClient, path: str):
    get = await anonymous.get(path)

    head = await anonymous.head(path)

    assert head.status_code == get.status_code
    assert head.content == b""
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


async def test_one_trailing_slash_is_accepted(anonymous: AsyncClient):
    new = {"email": "carl@example.com", "password": PASSWORD}

    created = await anonymous.post("/users/", json=new)
    listed = await anonymous.get("/users/?skip=0&limit=100")
    shown = await anonymous.get(f"/users/{created.json()['id']}/")

    assert created.status_code == 201
    assert [user["id"] for user in listed.json()] == [created.json()["id"]]
    assert shown.json()["name"] == "Anonymous"
    assert (await anonymous.get("/users//")).status_code == 404


async def test_each_request_is_one_line_in_the_access_log(
    ann: AsyncClient, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, logger="blog_api.access")
    caplog.clear()

    responses = [
        await ann.get("/posts/1%0A2?token=hunter2"),
        await ann.post("/posts", json=HELLO),
        await ann.get(f"/{'a' * 60_000}"),
    ]

    ids = [response.headers["X-Request-ID"] for response in responses]
    lines: list[str] = []
    with anyio.fail_after(60):
        while len(lines) < 3:
            await anyio.lowlevel.checkpoint()
            # Lines are logged in batches, with those of other tests.
            written = [one.message for one in caplog.records if one.name == "blog_api.access"]
            lines = [line for line in "\n".join(written).splitlines() if line.endswith(tuple(ids))]
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"
    for line, request, request_id in zip(
        lines,
        ("GET /posts/1%0A2 404", "POST /posts 201", f"GET /{'a' * 999} 414"),
        ids,
        strict=True,
    ):
        expected = rf"{time} INFO blog_api\.access: 127\.0\.0\.1 {request} \d+\.\dms {request_id}"
        assert re.fullmatch(expected, line)


async def test_an_unknown_origin_gets_no_cors_headers(anonymous: AsyncClient):
    response = await anonymous.get("/posts", headers={"Origin": "https://example.com"})

    assert "Access-Control-Allow-Origin" not in response.headers


async def test_a_configured_origin_may_read_responses_and_errors():
    settings = make_settings(
        database_url="sqlite://", cors_origins=["https://example.com"], **CHEAP_HASHING
    )
    async with running(settings) as app, client_of(app) as client:
        for path in ("/posts", "/nowhere", "/users/me", "/posts?page=0"):
            configured = await client.get(path, headers={"Origin": "https://example.com"})
            other = await client.get(path, headers={"Origin": "https://example.org"})

            assert configured.headers["Access-Control-Allow-Origin"] == "https://example.com"
            assert "X-Request-ID" in configured.headers["Access-Control-Expose-Headers"]
            assert "Access-Control-Allow-Origin" not in other.headers


PREFLIGHT = {
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "authorization",
}


async def test_a_preflight_is_accepted_or_rejected_with_a_problem_document():
    settings = make_settings(
        database_url="sqlite://",
        cors_origins=["https://example.com"],
        cors_max_age=60,
        **CHEAP_HASHING,
    )
    async with running(settings) as app, client_of(app) as client:
        accepted = await client.options(
            "/posts/1", headers={"Origin": "https://example.com", **PREFLIGHT}
        )
        rejected = await client.options(
            "/posts/1", headers={"Origin": "https://example.org", **PREFLIGHT}
        )

    assert accepted.status_code == 200
    assert accepted.headers["Access-Control-Allow-Origin"] == "https://example.com"
    assert "PUT" in accepted.headers["Access-Control-Allow-Methods"].split(", ")
    assert accepted.headers["Access-Control-Allow-Headers"] == "authorization"
    assert accepted.headers["Access-Control-Max-Age"] == "60"
    assert "Access-Control-Allow-Credentials" not in accepted.headers
    assert rejected.status_code == 400
    assert rejected.json()["type"] == "urn:blog-api:cross-origin-refused"
    assert "Access-Control-Allow-Origin" not in rejected.headers


async def test_origins_can_be_configured_by_a_pattern():
    settings = make_settings(
        database_url="sqlite://",
        cors_origin_pattern=r"https://[a-z]+\.example\.com",
        cors_credentials=True,
        **CHEAP_HASHING,
    )
    async with running(settings) as app, client_of(app) as client:
        matching = await client.get("/posts", headers={"Origin": "https://app.example.com"})
        others = [
            await client.get("/posts", headers={"Origin": origin})
            for origin in ("https://example.com", "https://app.example.com.evil.org", "null")
        ]

    assert matching.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert matching.headers["Access-Control-Allow-Credentials"] == "true"
    for other in others:
        assert "Access-Control-Allow-Origin" not in other.headers


@pytest.mark.parametrize(
    "values",
    [
        {"cors_origins": ["*"]},
        {"cors_origin_pattern": ".*"},
        {"cors_origin_pattern": "https?://.+"},
    ],
)
def test_cors_credentials_cannot_be_combined_with_any_origin(values: dict[str, object]):
    with pytest.raises(ValueError, match="BLOG_CORS_CREDENTIALS"):
        make_settings(database_url="sqlite://", cors_credentials=True, **CHEAP_HASHING, **values)


async def test_an_untrusted_host_is_rejected():
    settings = make_settings(
        database_url="sqlite://", trusted_hosts=["blog.example"], **CHEAP_HASHING
    )
    async with running(settings) as app, client_of(app) as client:
        trusted = await client.get("/", headers={"Host": "blog.example"})
        untrusted = await client.get("/", headers={"Host": "evil.example"})
        health = await client.get("/health/ready", headers={"Host": "10.0.0.7"})
        versioned = await client.get("/api/v1/health/live", headers={"Host": "10.0.0.7"})
        below = await client.get("/health/nothing", headers={"Host": "10.0.0.7"})

    assert trusted.status_code == 200
    assert untrusted.status_code == 400
    assert untrusted.headers["Content-Type"] == "application/problem+json"
    assert untrusted.json()["detail"] == "This host name is not served here"
    assert health.status_code == versioned.status_code == 200
    assert below.status_code == 400


async def test_links_do_not_depend_on_the_host_header(anonymous: AsyncClient):
    response = await anonymous.get("/", headers={"Host": "evil.example"})

    assert response.json()["name"] == "Blog API"
    assert response.json()["links"]["docs"] == "/docs"


async def test_links_start_with_the_public_url():
    settings = make_settings(
        database_url="sqlite://", public_url="https://example.com/blog/", **CHEAP_HASHING
    )
    async with running(settings) as app, client_of(app) as client:
        response = await client.get("/")

    assert response.json()["links"]["docs"] == "https://example.com/blog/docs"


async def test_the_documentation_and_openapi_document_are_served(anonymous: AsyncClient):
    docs = await anonymous.get("/docs")
    openapi = await anonymous.get("/openapi.json")

    assert docs.status_code == 200
    assert docs.headers["Content-Type"].startswith("text/html")
    assert openapi.json()["info"]["title"] == "Blog API"


async def test_two_applications_share_nothing():
    settings = make_settings(database_url="sqlite://", **CHEAP_HASHING)
    async with (
        running(settings) as one,
        running(settings) as other,
        client_of(one) as ann,
        client_of(other) as bob,
    ):
        await sign_up(ann, "Ann")

        assert len((await ann.get("/users")).json()) == 1
        assert (await bob.get("/users")).json() == []


@pytest.mark.parametrize("path", ["/", "/posts", "/health/live", "/nowhere"])
async def test_a_request_without_one_host_header_is_rejected(anonymous: AsyncClient, path: str):
    cached = await anonymous.get(path, headers=[("Host", "test")])

    two = await anonymous.get(path, headers=[("Host", "test"), ("Host", "example.com")])
    without_host = anonymous.build_request("GET", path)
    del without_host.headers["Host"]
    none = await anonymous.send(without_host)

    assert cached.status_code in (200, 404)
    assert_problem(two, 400)
    assert_problem(none, 400)


async def test_an_application_can_override_dependencies(app: FastAPI, anonymous: AsyncClient):
    async def reject() -> None:
        raise NotAuthenticated

    app.dependency_overrides[get_session] = reject
    try:
        response = await anonymous.get("/posts/1")
    finally:
        app.dependency_overrides.clear()

    assert_problem(response, 401)
