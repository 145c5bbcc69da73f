"""The OpenAPI document: what FastAPI cannot derive from the routes."""

import json
from pathlib import Path
from typing import Any

from blog_api.core.errors import MAX_ERRORS, PROBLEM_MEDIA_TYPE
from blog_api.core.fields import MAX_TAGS
from blog_api.web.pagination import MAX_PAGE_SIZE

NOT_AUTHENTICATED = "#/components/schemas/NotAuthenticated"
JSON_LINES = "application/jsonl"
BEARER_SCHEME = "Token"
# Markdown, shown at the top of `/docs` and `/redoc`.
INTRODUCTION = Path(__file__).parent / "introduction.md"

TAGS = [
    {"name": "index", "description": "Name, version and links."},
    {"name": "users", "description": "Accounts and public profiles."},
    {"name": "tokens", "description": "Sign up, log in and out, OAuth2."},
    {"name": "recovery", "description": "Codes by mail: new passwords and verified addresses."},
    {"name": "sessions", "description": "Where the user is logged in."},
    {"name": "personal tokens", "description": "Named tokens with scopes, for scripts and apps."},
    {"name": "me", "description": "The account of the token."},
    {"name": "posts", "description": "Published posts, drafts and scheduled posts; tags."},
    {"name": "media", "description": "Uploaded pictures."},
    {"name": "comments", "description": "Comments in threads."},
    {"name": "follows", "description": "Followed authors and their posts."},
    {"name": "bookmarks", "description": "Bookmarked posts."},
    {"name": "feeds", "description": "The newest posts as JSON Feed, Atom and RSS."},
    {"name": "admin", "description": "Accounts, moderation, statistics and the audit log."},
    {"name": "health", "description": "Checks for load balancers and supervisors."},
]

ETAG_HEADER = {"description": "Strong ETag (RFC 9110, 8.8.3).", "schema": {"type": "string"}}
REPLAYED_HEADER = {
    "description": "`true`: the stored response of the first request with this key.",
    "schema": {"type": "string"},
}
LINK_HEADER = {
    "description": "URLs of other pages: `first`, `prev`, `next`, `last` (RFC 8288).",
    "schema": {"type": "string"},
}

DIGEST = "0a" * 32

# Example values by property, for properties without `examples`; "Schema.property" comes first.
EXAMPLES: dict[str, Any] = {
    "access_token": "ZXhhbXBsZS10b2tlbg",
    "alt": "A river at dawn.",
    "answer_count": 0,
    "answers": [],
    "avatar_url": "https://example.com/ann.jpg",
    "bio": "Writes about Python.",
    "bookmark_count": 0,
    "client": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "canonical_url": None,
    "comment_count": 0,
    "comments_open": True,
    "content": "My *first* post.",
    "content_type": "text/markdown",
    "content_html": "<p>My <em>first</em> post.</p>\n",
    "cover_alt": "A river at dawn.",
    "cover_url": "https://example.com/river.jpg",
    "depth": 0,
    "digest": DIGEST,
    "email": "ann@example.com",
    "expires": "2026-02-14T09:00:00Z",
    "expires_at": "2026-05-01T09:00:00Z",
    "expires_in": 1800,
    "is_admin": False,
    "is_approved": True,
    "is_deleted": False,
    "grant_types_supported": ["password", "refresh_token"],
    "email_verified_at": None,
    "issuer": "https://example.com",
    "links": {"docs": "/docs", "posts": "/posts", "json_feed": "/feed.json"},
    "name": "Ann",
    "network": "192.0.2.1",
    "next_cursor": None,
    "parent_id": None,
    "pending_email": None,
    "post_slug": "hello-world",
    "post_title": "Hello, World",
    "refresh_token": "c2Vzc2lvbg.cmVmcmVzaC10b2tlbg",
    "response_types_supported": ["none"],
    "revocation_endpoint": "https://example.com/revoke",
    "revocation_endpoint_auth_methods_supported": ["none"],
    "scope": "posts:read posts:write users:read users:write",
    "scopes_supported": ["posts:read", "posts:write"],
    "service_documentation": "https://example.com/docs",
    "slug": "hello-world",
    "source_digest": "f" * 64,
    "snippet": "My *<mark>first</mark>* post.",
    "summary": "My first post.",
    "tags": ["Python"],
    "taken_down_at": None,
    "takedown_reason": None,
    "title": "Hello, World",
    "token_endpoint": "https://example.com/token",
    "token_endpoint_auth_methods_supported": ["none"],
    "url": f"/media/{DIGEST}.jpg",
    "user_name": "Ann",
    "username": "ann",
    "version": "1.0.0",
    "AdminMediaRead.content_type": "image/jpeg",
    "AuditEntryRead.comment_id": None,
    "AuditEntryRead.media_id": None,
    "AuditEntryRead.post_id": None,
    "AuditEntryRead.reason": None,
    "CommentRead.content": "Well said.",
    "CommentThread.content": "Well said.",
    "ExportedComment.content": "Well said.",
    "ExportedToken.name": "Backup script",
    "ExportedMedia.content_type": "image/jpeg",
    "ExportedMedia.url": f"https://example.com/media/{DIGEST}.jpg",
    "GrantRead.access_token": "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl",
    "Index.name": "Blog API",
    "MediaRead.content_type": "image/jpeg",
    "InsufficientScope.scope": "posts:write",
    "NewPersonalTokenRead.name": "Backup script",
    "PersonalTokenRead.name": "Backup script",
    "TagRead.name": "Python",
}
# Of the arrays of responses, by property.
MAX_ITEMS = {
    "answers": 20,
    "authors": 1,
    "errors": MAX_ERRORS,
    "grant_types_supported": 2,
    "items": MAX_PAGE_SIZE,
    "loc": 20,
    "response_types_supported": 1,
    "results": MAX_PAGE_SIZE,
    "revocation_endpoint_auth_methods_supported": 1,
    "scopes": 5,
    "scopes_supported": 5,
    "tags": MAX_TAGS,
    "token_endpoint_auth_methods_supported": 1,
}
# By `format`, or by `type`.
EXAMPLES_BY_KIND = {"date-time": "2026-01-31T09:00:00Z", "boolean": True, "integer": 1}
# A property needs `examples` or an entry in `EXAMPLES`.
PLACEHOLDER = "string"


def complete_openapi(openapi: dict[str, Any]) -> None:
    """Add the introduction, bearer tokens, conditional requests, problems and examples."""
    components = openapi["components"]
    openapi["info"] |= {
        "description": INTRODUCTION.read_text(),
        "license": {"name": "MIT", "identifier": "MIT"},
        "contact": {"name": "The operator of this blog"},
    }
    # Accepted wherever OAuth2 is: a second security dependency would slow down each request.
    components["securitySchemes"][BEARER_SCHEME] = {
        "type": "http",
        "scheme": "bearer",
        "description": "Any token: of `/auth`, of `/token`, or a personal token.",
    }
    components["examples"] = {
        name: {"value": make_example(schema, components["schemas"], name)}
        for name, schema in components["schemas"].items()
        if is_problem(schema)
    }
    for operations in openapi["paths"].values():
        for method, operation in operations.items():
            complete_operation(method, operation)
            add_examples(operation, components["schemas"])
            for content in operation.get("requestBody", {}).get("content", {}).values():
                # An upload has a schema of its own, without defaults.
                name = content["schema"].get("$ref", "").rpartition("/")[2]
                schema = components["schemas"].get(name, {})
                for value in schema.get("properties", {}).values():
                    # Generated clients send a default, or require a property that has one.
                    value.pop("default", None)
    for schema in components["schemas"].values():
        for name, value in schema.get("properties", {}).items():
            if value.get("type") == "array":
                value.setdefault("maxItems", MAX_ITEMS[name])


def complete_operation(method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    for code, response in responses.items():
        if code >= "400":
            # FastAPI documents errors with the media type of the route.
            (content,) = response["content"].values()
            response["content"] = {PROBLEM_MEDIA_TYPE: content}
    if "security" in operation:
        operation["security"].append({BEARER_SCHEME: []})
        if NOT_AUTHENTICATED not in find_refs(responses["401"]):
            # Authentication is optional. First, so that Swagger UI shows the operation as open.
            operation["security"].insert(0, {})
    else:
        operation["security"] = []
    if method == "get" and "200" in responses and JSON_LINES not in responses["200"]["content"]:
        responses["200"]["headers"] = {"ETag": ETAG_HEADER}
        responses["304"] = {"description": "Not modified: `If-None-Match` has the current ETag."}
    parameters = {one["name"]: one for one in operation.get("parameters", ())}
    for parameter in parameters.values():
        schema = parameter["schema"] = remove_null(parameter["schema"])
        if "default" in schema:
            # Some clients would send it beside `cursor` or `ids`, where only these may stand.
            parameter["description"] += f" Default: `{schema.pop('default')}`."
    if "Idempotency-Key" in parameters:
        success = next(code for code in responses if code < "300")
        responses[success]["headers"] = {
            "ETag": ETAG_HEADER,
            "Idempotency-Replayed": REPLAYED_HEADER,
        }
    if "page" in parameters:
        responses["200"]["headers"]["Link"] = LINK_HEADER


def remove_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an optional parameter without null, which generated clients would send.

    Such a null is the text `null` in a query or a header.
    """
    choices = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(choices) == 1:
        return {**choices[0], **{name: schema[name] for name in schema if name != "anyOf"}}
    return schema | {"anyOf": choices} if choices else schema


def find_refs(response: dict[str, Any]) -> list[str]:
    """Return the references to the schemas of a response with one media type."""
    (content,) = response["content"].values()
    return [one["$ref"] for one in content["schema"].get("anyOf", [content["schema"]])]


def is_problem(schema: dict[str, Any]) -> bool:
    urn = schema.get("properties", {}).get("type", {}).get("const", "")
    return isinstance(urn, str) and urn.startswith("urn:")


def add_examples(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Add an example to each response that has content and no example of its route."""
    for code, response in operation["responses"].items():
        for content in response.get("content", {}).values():
            if code >= "400":
                names = [ref.rpartition("/")[2] for ref in find_refs(response)]
                content["examples"] = {
                    name: {"$ref": f"#/components/examples/{name}"} for name in names
                }
            elif "itemSchema" in content:
                items = [make_example(item, schemas) for item in content["itemSchema"]["anyOf"]]
                content["example"] = "".join(f"{json.dumps(item)}\n" for item in items)
                # A keyword of OpenAPI 3.2; the document is 3.1.
                content["x-item-schema"] = content.pop("itemSchema")
                content["schema"] = {"type": "string"}
            elif "example" not in content:
                content["example"] = make_example(content["schema"], schemas)
            if content["schema"].get("type") == "array":
                content["schema"].setdefault("maxItems", MAX_PAGE_SIZE)


def make_example(schema: dict[str, Any], schemas: dict[str, Any], name: str = "") -> Any:
    """Return a value of a schema; `name` is its name, or that of its schema and property."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return make_example(schemas[name], schemas, name)
    if "const" in schema:
        return schema["const"]
    if "examples" in schema:
        return schema["examples"][0]
    for key in (name, name.partition(".")[2]):
        if key in EXAMPLES:
            return EXAMPLES[key]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return make_example(schema["anyOf"][0], schemas, name)
    if schema.get("type") == "array":
        return [make_example(schema["items"], schemas, name)]
    if schema.get("type") == "object":
        return {
            key: make_example(value, schemas, f"{name}.{key}")
            for key, value in schema.get("properties", {}).items()
        }
    kind = schema.get("format") or schema.get("type", "")
    return EXAMPLES_BY_KIND.get(kind, PLACEHOLDER)
