"""Checks before measuring: all contenders return the same content, perhaps with fewer fields."""

import json
import re
import secrets
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from blog_api.text.markdown import render_markdown
from blog_api.text.sanitizer import ID_PREFIX
from tests.load import data
from tests.load.contenders import Running, client_of
from tests.load.measure import Load, Request

# The others differ only in the token.
CHECKED_REQUESTS = 3
# Headers that differ between equal responses.
VARYING_HEADERS = {"date", "server", "x-request-id", "x-process-time"}


def send(client: httpx.Client, request: Request) -> httpx.Response:
    return client.request(
        request.method, request.path, headers=dict(request.headers), content=request.body
    )


def normalize(value: Any, name: str = "") -> Any:
    """Parse the times in a JSON value, which other languages format differently."""
    if isinstance(value, dict):
        return {key: normalize(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [normalize(one) for one in value]
    return datetime.fromisoformat(value) if name.endswith("_at") and value else value


def content_of(response: httpx.Response) -> Any:
    """Return the content that must be equal; only the service has cursors, for example."""
    body = normalize(response.json())
    if "results" in body:
        return {"total_count": body["total_count"], "results": body["results"]}
    return body


def is_part(part: Any, whole: Any) -> bool:
    """Return whether a JSON value has the same content, perhaps without some fields.

    The other contenders have those that a tutorial writes: no profiles, summaries and covers.
    """
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(name in whole and is_part(one, whole[name]) for name, one in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(is_part, part, whole))
    return bool(part == whole)


def check_reads(reference: Running, other: Running, loads: list[Load]) -> list[str]:
    """Return descriptions of the responses that differ from those of the reference."""
    problems = []
    with client_of(reference) as reference_client, client_of(other) as other_client:
        for load in loads:
            for request in load.requests[:CHECKED_REQUESTS]:
                responses = [send(client, request) for client in (reference_client, other_client)]
                statuses = [response.status_code for response in responses]
                if statuses != [200, 200]:
                    problems.append(f"{request.path} returns {statuses} instead of 200")
                elif not is_part(content_of(responses[1]), content_of(responses[0])):
                    problems.append(f"{request.path} returns different content")
    return [f"{other.contender.name}: {problem}" for problem in problems]


def check_total(reference: Running, other: Running, loads: list[Load]) -> list[str]:
    """Return what is wrong with searches: others may rank differently, but must find the same."""
    problems = []
    with client_of(reference) as reference_client, client_of(other) as other_client:
        for load in loads:
            for request in load.requests:
                clients = (reference_client, other_client)
                one, two = (send(client, request).json() for client in clients)
                shapes = [(found["total_count"], len(found["results"])) for found in (one, two)]
                if shapes[0] != shapes[1] or shapes[0][0] == 0:
                    problems.append(f"{other.contender.name}: {load.name} finds {shapes}")
    return problems


def check_members(reference: Running, writer: Running) -> list[str]:
    """Comment on a post and bookmark it; return what is wrong on the reference."""
    assert writer.contender.loaded is not None
    post_id = writer.contender.loaded.size.posts
    path, bookmark = f"/posts/{post_id}", f"/users/me/bookmarks/{post_id}"
    content = f"A *check* {secrets.token_hex(4)}"
    headers = {"Authorization": f"Bearer {data.token_of(2)}"}
    steps = [
        ("POST", f"{path}/comments", {"content": content}, 201, (1, 0)),
        ("PUT", bookmark, None, 204, (1, 1)),
        ("PUT", bookmark, None, 204, (1, 1)),
        ("DELETE", bookmark, None, 204, (1, 0)),
        ("DELETE", bookmark, None, 204, (1, 0)),
    ]
    problems = []
    with client_of(reference) as reader, client_of(writer) as client:
        before = read_counts(reader, path)
        for method, target, body, status, added in steps:
            response = client.request(method, target, json=body, headers=headers)
            if response.status_code != status:
                problems.append(f"{method} {target} returns {response.status_code}")
            counts = read_counts(reader, path)
            if counts != (before[0] + added[0], before[1] + added[1]):
                problems.append(f"{method} {target} changes the counts from {before} to {counts}")
            if method == "POST" and response.status_code == status:
                comment = reader.get(f"/comments/{response.json()['id']}").json()
                if (comment["content"], comment["user_id"]) != (content, 2):
                    problems.append(f"the new comment is read as {comment}")
    return [f"{writer.contender.name}: {problem}" for problem in problems]


def read_counts(client: httpx.Client, path: str) -> tuple[int, int]:
    post = client.get(path).json()
    return post["comment_count"], post["bookmark_count"]


def remove_ids(html: str) -> str:
    """Remove the ids of headings, which the other contenders do without."""
    return re.sub(f' id="{ID_PREFIX}[^"]*"', "", html)


def check_create(reference: Running, writer: Running) -> list[str]:
    """Create two posts on the writer; return what is wrong with them on the reference."""
    word = secrets.token_hex(4)
    content = data.sample_markdown()
    tags = [f"New {word}", data.tag_name(1)]
    body = {"title": f"A *check* {word}", "content": content, "tags": tags}
    authorization = {"Authorization": f"Bearer {data.TOKEN}"}
    expected = {
        **body,
        "slug": f"a-check-{word}",
        "user_id": 1,
        "comment_count": 0,
        "bookmark_count": 0,
    }
    problems = []
    with client_of(reference) as reader, client_of(writer) as client:
        counted = reader.get("/posts").json()["total_count"]
        first = client.post("/posts", json=body, headers=authorization)
        second = client.post("/posts", json=body, headers=authorization)
        if [first.status_code, second.status_code] != [201, 201]:
            return [f"{writer.contender.name}: POST returns {first.status_code}: {first.text}"]
        post = normalize(first.json())
        if {name: post.get(name) for name in expected} != expected:
            problems.append(f"the new post is {first.text}")
        shown = normalize(reader.get(f"/posts/slug/{expected['slug']}").json())
        shown["content_html"] = remove_ids(shown.get("content_html", ""))
        if not is_part({**post, "content_html": remove_ids(render_markdown(content))}, shown):
            problems.append(f"the new post is read as {shown}")
        if second.json()["slug"] == expected["slug"]:
            problems.append("two posts have one slug")
        if reader.get("/posts").json()["total_count"] != counted + 2:
            problems.append("the new posts are not counted")
        tagged = reader.get("/posts", params={"tag": tags[0]}).json()
        if [one["id"] for one in tagged["results"]] != [second.json()["id"], post["id"]]:
            problems.append("the new posts are not found by their tag")
    return [f"{writer.contender.name}: {problem}" for problem in problems]


def record_responses(running: Running, loads: list[Load], file: Path) -> None:
    """Write the responses with their headers to a file, for the bare application."""
    responses = {}
    with client_of(running) as client:
        for load in loads:
            for request in load.requests:
                response = send(client, request)
                headers = [
                    (name, value)
                    for name, value in response.headers.items()
                    if name not in VARYING_HEADERS
                ]
                responses[request.path] = {"headers": headers, "body": response.text}
    file.write_text(json.dumps(responses))
