"""The configurations of the guide, tried with the programs that read them."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from anyio import fail_after
from httpx import AsyncClient

from blog_api.core.errors import ServiceUnavailable
from tests.support.processes import Server
from tests.support.proxies import read_guide_block, running_guide_proxy

pytestmark = pytest.mark.proxy

SILENT = 1_000
# Longer than every timeout of the configurations, 10 seconds for what these clients send.
DEADLINE = 90

STARTS = (
    b"",
    b"GET /posts HTTP/1.1\r\nHost: blog.example.com\r\n",
    b"POST /auth HTTP/1.1\r\nHost: blog.example.com\r\nContent-Length: 100\r\n\r\nusername=",
)


def host_of(kind: str, port: int) -> str:
    return "blog.example.com" if kind == "nginx" else f"127.0.0.1:{port}"


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
async def test_clients_that_send_nothing_more_are_disconnected(
    server: Server, tmp_path: Path, kind: str
):
    async def wait_for_end(port: int, start: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(start.replace(b"blog.example.com", host_of(kind, port).encode()))
        try:
            await reader.read()
        except ConnectionResetError:
            return
        finally:
            writer.close()

    with running_guide_proxy(kind, tmp_path, server.address) as port, fail_after(DEADLINE):
        # A request without a body for Caddy, which waits a minute for a body.
        starts = STARTS if kind == "nginx" else STARTS[:2]
        silent = [
            asyncio.create_task(wait_for_end(port, starts[number % len(starts)]))
            for number in range(SILENT)
        ]
        async with AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            headers = {"Host": host_of(kind, port)}
            read = [(await client.get("/posts", headers=headers)).status_code for _ in range(20)]
            large = await client.post("/auth", headers=headers, content=b"a" * 12 * 1024 * 1024)
            long_head = await client.get("/posts", headers={**headers, "Cookie": "a" * 100_000})
        await asyncio.gather(*silent)

    assert set(read) == {200}
    assert large.status_code == 413
    assert long_head.status_code in (400, 431)


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
async def test_a_stopped_service_is_unavailable_for_a_while(
    tmp_path: Path, closed_port: int, kind: str
):
    address = f"http://127.0.0.1:{closed_port}"
    with running_guide_proxy(kind, tmp_path, address) as port:
        async with AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            headers = {"Host": host_of(kind, port)}
            responses = [
                await client.request(method, "/posts", headers=headers)
                for method in ("GET", "POST")
            ]

    for response in responses:
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.json()["type"] == ServiceUnavailable.urn


def test_the_unit_of_systemd_is_valid(tmp_path: Path):
    unit = tmp_path / "blog.service"
    program = str(Path(sys.executable).with_name("blog-api"))
    unit.write_text(read_guide_block("ini").replace("/srv/blog/.venv/bin/blog-api", program))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "blog.service" not in done.stderr
