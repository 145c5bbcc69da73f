"""Conditional requests through real proxies that compress."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from httpx import AsyncClient

from tests.support.clients import add_comment, publish, sign_up
from tests.support.processes import Server
from tests.support.proxies import running_proxy

pytestmark = pytest.mark.proxy

# What the proxy makes of the tag.
CHANGED_TAGS = {"nginx": 'W/"', "apache2": '-gzip"'}


@pytest.fixture(params=CHANGED_TAGS)
def proxy(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
async def ann(proxy: str, server: Server, tmp_path: Path) -> AsyncIterator[AsyncClient]:
    """Ann behind the proxy."""
    with running_proxy(proxy, tmp_path, server.address) as address:
        headers = {"Accept-Encoding": "gzip"}
        async with AsyncClient(base_url=address, headers=headers, trust_env=False) as client:
            await sign_up(client, f"Ann{uuid4().hex}")
            yield client


@pytest.mark.parametrize("kind", ["post", "comment"])
async def test_conditional_requests_work_behind_a_compressing_proxy(
    ann: AsyncClient, proxy: str, kind: str
):
    post = await publish(ann, content="World " * 100)
    path = f"/posts/{post['id']}"
    if kind == "comment":
        path = f"/comments/{(await add_comment(ann, post, 'Hello ' * 100))['id']}"

    first = await ann.get(path)
    stale = first.headers["ETag"]
    unchanged = await ann.get(path, headers={"If-None-Match": stale})
    body = {"content": "Moon " * 100}
    changed = await ann.patch(path, json=body, headers={"If-Match": stale})
    overwritten = await ann.patch(path, json=body, headers={"If-Match": stale})
    kept = await ann.delete(path, headers={"If-Match": stale})
    current = (await ann.get(path)).headers["ETag"]
    deleted = await ann.delete(path, headers={"If-Match": current})

    assert first.headers["Content-Encoding"] == "gzip"
    assert CHANGED_TAGS[proxy] in stale
    assert [one.status_code for one in (unchanged, changed)] == [304, 200]
    assert [one.status_code for one in (overwritten, kept, deleted)] == [412, 412, 204]
