"""Checks: that all contenders answer the same before anything is measured."""

import json
import secrets
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from blog_api.text.markdown import render_markdown
from tests.load import data
from tests.load.contenders import Running, client_of
from tests.load.measure import Load, Request

# What is of one answer alone, or is the server's own.
PASSING_HEADERS = {"date", "server", "x-request-id", "x-process-time"}


def send(client: httpx.Client, request: Request) -> httpx.Response:
    return client.request(
        request.method, request.path, headers=dict(request.headers), content=request.body
    )


def normal(value: Any, name: str = "") -> Any:
    """The same value whatever the language: a moment can be written in several ways."""
    if isinstance(value, dict):
        return {key: normal(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [normal(one) for one in value]
    return datetime.fromisoformat(value) if name.endswith("_at") and value else value


def content_of(response: httpx.Response) -> Any:
    """What has to be equal: a list's cursor, for one, is an extra of ours."""
    body = normal(response.json())
    if "results" in body:
        return {"total_count": body["total_count"], "results": body["results"]}
    return body


def check_reads(reference: Running, other: Running, loads: list[Load]) -> list[str]:
    """What the other answers otherwise than the reference."""
    problems = []
    with client_of(reference) as expected, client_of(other) as found:
        for load in loads:
            for request in load.requests:
                answers = [send(client, request) for client in (expected, found)]
                statuses = [answer.status_code for answer in answers]
                if statuses != [200, 200]:
                    problems.append(f"{request.path} answers {statuses}, not 200")
                elif content_of(answers[0]) != content_of(answers[1]):
                    problems.append(f"{request.path} has another content")
    return [f"{other.contender.name}: {problem}" for problem in problems]


def check_create(reference: Running, writer: Running) -> list[str]:
    """What of a post that the writer writes is not as it should be to readers of the reference."""
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
        again = client.post("/posts", json=body, headers=authorization)
        if [first.status_code, again.status_code] != [201, 201]:
            return [f"{writer.contender.name}: POST answers {first.status_code}: {first.text}"]
        post = normal(first.json())
        if {name: post.get(name) for name in expected} != expected:
            problems.append(f"the new post is {first.text}")
        shown = normal(reader.get(f"/posts/slug/{expected['slug']}").json())
        if shown != {**post, "content_html": render_markdown(content)}:
            problems.append(f"the new post is read as {shown}")
        if again.json()["slug"] == expected["slug"]:
            problems.append("a slug goes to two posts")
        if reader.get("/posts").json()["total_count"] != counted + 2:
            problems.append("the new posts are not counted")
        tagged = reader.get("/posts", params={"tag": tags[0]}).json()
        if [one["id"] for one in tagged["results"]] != [again.json()["id"], post["id"]]:
            problems.append("the new posts are not found by their tag")
    return [f"{writer.contender.name}: {problem}" for problem in problems]


def record(running: Running, loads: list[Load], file: Path) -> None:
    """Write the answers, with their headers, for who knows them by heart."""
    answers = {}
    with client_of(running) as client:
        for load in loads:
            for request in load.requests:
                answer = send(client, request)
                headers = [
                    (name, value)
                    for name, value in answer.headers.items()
                    if name not in PASSING_HEADERS
                ]
                answers[request.path] = {"headers": headers, "body": answer.text}
    file.write_text(json.dumps(answers))
