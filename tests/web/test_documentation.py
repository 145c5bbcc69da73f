"""The documentation, the OpenAPI document, static files, and where else all of it stands."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from blog_api.posts.bodies import PostBody
from tests.support.clients import CHEAP_HASHING, client_of, make_settings, running, sign_up

HELLO = {"title": "Hello", "content": "World"}


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_the_documentation_pages_load_only_local_files(anonymous: AsyncClient, path: str):
    page = await anonymous.get(path)

    loaded = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    policy = dict(
        directive.split(" ", 1) for directive in page.headers["Content-Security-Policy"].split("; ")
    )
    assert page.status_code == 200
    assert len(loaded) >= 2
    for address in loaded:
        assert address.startswith("/static/")
        assert (await anonymous.get(address)).status_code == 200, address
    assert policy["default-src"] == "'none'"
    assert "http" not in str(policy)
    assert "unsafe-inline" not in policy["script-src"]


async def test_all_other_responses_have_a_policy_that_loads_nothing(anonymous: AsyncClient):
    for path in ("/", "/posts", "/nowhere", "/static/favicon.svg"):
        response = await anonymous.get(path)

        policy = response.headers["Content-Security-Policy"]
        assert policy == "default-src 'none'; frame-ancestors 'none'"


async def test_static_files_support_etags_and_head(anonymous: AsyncClient):
    icon = await anonymous.get("/static/favicon.svg")
    again = await anonymous.get(
        "/static/favicon.svg", headers={"If-None-Match": icon.headers["ETag"]}
    )
    head = await anonymous.head("/static/favicon.svg")

    assert icon.headers["Cache-Control"] == "public, max-age=86400"
    assert icon.headers["Content-Type"] == "image/svg+xml"
    assert icon.text.startswith("<svg")
    assert again.status_code == 304
    assert head.status_code == 200
    assert head.headers["Content-Length"] == icon.headers["Content-Length"]


async def test_static_files_accept_the_etags_of_compressing_proxies(anonymous: AsyncClient):
    path = "/static/docs/swagger-ui.css"
    tag = (await anonymous.get(path)).headers["ETag"].strip('"')

    for changed in (f'W/"{tag}"', f'"{tag}-gzip"', f'"x", "{tag}-br"'):
        response = await anonymous.get(path, headers={"If-None-Match": changed})
        assert response.status_code == 304
        assert response.headers["Cache-Control"] == "public, max-age=86400"


@pytest.mark.parametrize("value", ["bytes=0-3", "bytes=9999999-", "nonsense"])
async def test_ranges_of_static_files_are_ignored(anonymous: AsyncClient, value: str):
    response = await anonymous.get("/static/favicon.svg", headers={"Range": value})

    assert response.status_code == 200
    assert response.headers["Accept-Ranges"] == "none"


@pytest.mark.parametrize(
    "path",
    ["nothing.png", "", "docs", "../main.py", "%2e%2e/main.py", "..%2fmain.py", "%00", "a" * 500],
)
async def test_paths_outside_the_static_folder_are_not_found(anonymous: AsyncClient, path: str):
    response = await anonymous.get(f"/static/{path}")

    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_static_files_allow_only_get_and_head(anonymous: AsyncClient):
    for method in ("POST", "PUT", "DELETE"):
        response = await anonymous.request(method, "/static/favicon.svg")

        assert response.status_code == 405
        assert response.headers["Allow"] == "HEAD, GET"
        assert response.headers["Content-Type"] == "application/problem+json"


async def test_every_route_is_available_under_the_version_prefix(ann: AsyncClient):
    post = (await ann.post("/api/v1/posts", json=HELLO)).json()

    for path in ("/users/me", "/posts", f"/posts/{post['id']}", "/posts/slug/hello", "/docs",
                 "/static/favicon.svg", "/health/ready", "/users/"):  # fmt: skip
        assert (await ann.get(f"/api/v1{path}")).status_code == 200, path
    assert (await ann.get("/api/v1/posts")).json() == (await ann.get("/posts")).json()


@pytest.mark.parametrize("path", ["/api/v1", "/api/v1/"])
async def test_links_keep_the_version_prefix(anonymous: AsyncClient, path: str):
    links = (await anonymous.get(path)).json()["links"]

    assert links["docs"] == "/api/v1/docs"
    for link in links.values():
        assert (await anonymous.get(link)).status_code == 200


@pytest.mark.parametrize("path", ["/api", "/api/v1x", "/api/v2/posts", "/api/v1/api/v1/posts"])
async def test_other_prefixes_are_not_found(anonymous: AsyncClient, path: str):
    assert (await anonymous.get(path)).status_code == 404


async def test_the_openapi_document_has_the_version_prefix_as_its_server(anonymous: AsyncClient):
    plain = (await anonymous.get("/openapi.json")).json()
    versioned = (await anonymous.get("/api/v1/openapi.json")).json()

    # A generated client would request `//posts` from a server `/`: a URL of the host `posts`.
    assert "servers" not in plain
    assert versioned == plain | {"servers": [{"url": "/api/v1"}, {"url": "/"}]}
    assert not [path for path in plain["paths"] if path.startswith("/api")]


@pytest.mark.parametrize("prefix", ["", "/blog"], ids=["taken off", "left on"])
async def test_every_path_is_served_under_the_path_of_the_public_url(prefix: str):
    """The proxy may remove the prefix or leave it."""
    settings = make_settings(
        database_url="sqlite://", public_url="https://example.com/blog", **CHEAP_HASHING
    )
    async with running(settings) as app, client_of(app) as client:
        await sign_up(client, "Ann")
        posted = await client.post(f"{prefix}/posts", json=HELLO)
        slashed = await client.get(f"{prefix}/posts/")
        index = (await client.get(f"{prefix}/" if prefix else "/")).json()
        bare = await client.get(prefix or "/")
        below = await client.get(f"{prefix}/api/v1")
        docs = (await client.get(f"{prefix}/docs")).text
        versioned = await client.get(f"{prefix}/api/v1/docs")
        openapi = (await client.get(f"{prefix}/openapi.json")).json()
        icon = await client.get(f"{prefix}/static/favicon.svg")

    assert posted.status_code == 201
    assert slashed.json()["total_count"] == 1
    assert bare.json() == index
    assert below.json()["links"]["docs"] == "https://example.com/blog/api/v1/docs"
    assert index["links"]["docs"] == "https://example.com/blog/docs"
    assert "url: '/blog/openapi.json'" in docs
    assert "url: '/blog/api/v1/openapi.json'" in versioned.text
    assert openapi["servers"] == [{"url": "/blog"}]
    assert icon.status_code == 200


def refs(value: Any) -> set[str]:
    """Every reference within a part of the document."""
    if isinstance(value, dict):
        return {value["$ref"]} if "$ref" in value else set().union(*map(refs, value.values()))
    return set().union(*map(refs, value)) if isinstance(value, list) else set()


async def test_the_openapi_document_has_clean_names_and_descriptions(anonymous: AsyncClient):
    openapi = (await anonymous.get("/openapi.json")).json()
    schemas = openapi["components"]["schemas"]

    assert not [name for name in schemas if re.search(r"-Input|-Output|_|^Body", name)]
    assert {ref.rpartition("/")[2] for ref in refs(openapi)} == schemas.keys()
    for name, schema in schemas.items():
        assert schema.get("description") or schema["type"] == "string", name
    for operations in openapi["paths"].values():
        for operation in operations.values():
            assert len(operation["tags"]) == 1


async def test_every_field_of_a_request_body_has_an_example(anonymous: AsyncClient):
    openapi = (await anonymous.get("/openapi.json")).json()
    schemas = openapi["components"]["schemas"]
    is_plain = {"boolean", "integer"}

    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                # The form of an upload has a schema of its own.
                name = content["schema"].get("$ref", "").rpartition("/")[2]
                for field, schema in (
                    schemas.get(name, content["schema"]).get("properties", {}).items()
                ):
                    shown = [schema, *schema.get("anyOf", [])]
                    assert schema.get("type") in is_plain or any(
                        "examples" in one or "items" in one for one in shown
                    ), f"{method} {path}: {field}"


async def test_the_openapi_document_marks_optional_authentication(anonymous: AsyncClient):
    for _ in range(2):
        openapi = (await anonymous.get("/openapi.json")).json()
        security = openapi["paths"]["/posts"]["get"]["security"]

        assert security == [{}, {"OAuth2": []}, {"Token": []}]
        assert {} not in openapi["paths"]["/users/me"]["get"]["security"]
        assert openapi["paths"]["/sign-up"]["post"]["security"] == []


async def test_the_openapi_document_is_valid_for_its_version(app: FastAPI):
    openapi = app.openapi()

    OpenAPIV31SpecValidator(openapi).validate()
    assert openapi["openapi"].startswith("3.1.")
    # The validator accepts unknown keywords.
    assert "itemSchema" not in str(openapi)
    assert openapi["info"]["license"]["name"] == "MIT"
    assert openapi["info"]["contact"]["name"]


async def test_every_array_in_the_openapi_document_is_bounded(app: FastAPI):
    def find_arrays(value: Any) -> list[dict[str, Any]]:
        if isinstance(value, list):
            return [found for one in value for found in find_arrays(one)]
        if not isinstance(value, dict):
            return []
        own = [value] if value.get("type") == "array" else []
        return own + find_arrays(list(value.values()))

    arrays = find_arrays(app.openapi())

    assert len(arrays) > 20
    assert [one for one in arrays if "maxItems" not in one] == []


@pytest.mark.parametrize("path", ["/posts/{post_id}", "/posts/slug/{slug}"])
async def test_generated_clients_read_a_post_as_one_type(app: FastAPI, path: str):
    response = app.openapi()["paths"][path]["get"]["responses"]["200"]

    assert response["content"].keys() == {"application/json"}
    schema = response["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/PostDetail"}


def operations_of(openapi: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in openapi["paths"].values():
        yield from operations.values()


async def test_generated_clients_send_neither_null_nor_defaults_as_parameters(app: FastAPI):
    """Null would be the text `null`, and `ids` and `cursor` do not go with the default `size`."""
    parameters = [
        parameter
        for operation in operations_of(app.openapi())
        for parameter in operation.get("parameters", ())
    ]

    assert {"Idempotency-Key", "If-Match", "ids", "author", "sort"} <= {
        parameter["name"] for parameter in parameters
    }
    for parameter in parameters:
        assert {"type": "null"} not in parameter["schema"].get("anyOf", ()), parameter
        assert "default" not in parameter["schema"], parameter
    described = {parameter["name"]: parameter["description"] for parameter in parameters}
    assert described["limit"].endswith(" Default: `100`.")


async def test_generated_clients_may_omit_what_has_a_default(app: FastAPI):
    """Some require a property with a default, and some always send it."""
    openapi = app.openapi()
    bodies = [
        openapi["components"]["schemas"][ref.rpartition("/")[2]]
        for operation in operations_of(openapi)
        for ref in refs(operation.get("requestBody", {}))
    ]

    optional = [
        value
        for body in bodies
        for name, value in body["properties"].items()
        if name not in body.get("required", ())
    ]
    assert len(optional) > 20
    assert [value for value in optional if "default" in value] == []


async def test_the_schemas_of_posts_have_null_where_a_response_has_it(
    app: FastAPI, ann: AsyncClient, admin: AsyncClient
):
    """Responses with `body` are not validated by FastAPI.

    The schemas of single posts keep texts that are never null: with `body`, a client knows better.
    """
    openapi = app.openapi()
    post = (await ann.post("/posts", json=HELLO)).json()

    for client, path, name in (
        (ann, f"/posts/{post['id']}", "PostDetail"),
        (ann, f"/posts/slug/{post['slug']}", "PostDetail"),
        (ann, "/posts", "PostPage"),
        (ann, "/posts?q=hello", "PostPage"),
        (ann, "/users/me/posts", "OwnPostPage"),
        (admin, f"/admin/posts/{post['id']}", "OwnPostDetail"),
    ):
        schema = {"$ref": f"#/components/schemas/{name}", "components": openapi["components"]}
        path, _, q = path.partition("?q=")
        for body in PostBody if name.endswith("Page") else [PostBody.both]:
            query = {"body": body} | ({"q": q} if q else {})
            document = (await client.get(path, params=query)).json()
            OAS31Validator(schema).validate(document)
            assert ("snippet" in str(document)) == bool(q)


async def test_every_page_has_a_next_cursor(app: FastAPI):
    pages = {
        name: schema["required"]
        for name, schema in app.openapi()["components"]["schemas"].items()
        if name.endswith("Page")
    }

    assert len(pages) > 5
    for name, required in pages.items():
        assert required == ["total_count", "results", "next_cursor"], name


async def test_no_parameter_beside_a_request_body_is_named_body(app: FastAPI):
    """openapi-python-client gives the request body this name in the functions that it writes."""
    parameters = [
        [parameter["name"] for parameter in operation.get("parameters", ())]
        for operation in operations_of(app.openapi())
        if "requestBody" in operation
    ]

    assert ["Idempotency-Key"] in parameters
    assert [names for names in parameters if "body" in names] == []
