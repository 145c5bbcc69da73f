"""How the service stops: requests are responded to, and clients that are stuck do not delay it."""

import asyncio
import re
import signal
from pathlib import Path

import pytest
from anyio import fail_after
from sqlalchemy import URL

from tests.support.processes import Server

pytestmark = pytest.mark.processes

CLIENTS = 20
# A server that hangs. In seconds; each test takes 5 to 10.
DEADLINE = 60
REQUEST = b"GET /posts HTTP/1.1\r\nHost: test\r\n\r\n"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(server: Server) -> Connection:
    host, _, port = server.address.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


async def read_response(reader: asyncio.StreamReader) -> bytes:
    """Read a response; return its head."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None, head
    await reader.readexactly(int(length[1]))
    return head


async def request_until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send requests until a response says that the server closes the connection."""
    head = b""
    while b"\r\nconnection: close\r\n" not in head:
        writer.write(REQUEST)
        head = await read_response(reader)
        assert head.startswith(b"HTTP/1.1 200 ")
    writer.close()


@pytest.mark.parametrize("workers", [1, 2])
async def test_requests_that_were_sent_before_the_stop_get_a_response(
    tmp_path: Path, shared_url: URL, workers: int
):
    with Server(tmp_path, shared_url, workers=workers) as server:
        with fail_after(DEADLINE):
            idle = [await connect(server) for _ in range(CLIENTS)]
            for reader, writer in idle:
                writer.write(REQUEST)
                await read_response(reader)
            new = [await connect(server) for _ in range(CLIENTS)]

            server.process.terminate()
            await asyncio.gather(*(request_until_closed(*one) for one in idle + new))
            await asyncio.to_thread(server.stop)

    assert "Traceback" not in server.log


@pytest.mark.parametrize("workers", [1, 2])
async def test_clients_that_are_stuck_do_not_delay_the_stop(
    tmp_path: Path, shared_url: URL, workers: int
):
    settings = {"SHUTDOWN_SECONDS": "2"}
    with Server(tmp_path, shared_url, workers=workers, settings=settings) as server:
        with fail_after(DEADLINE):
            silent = await connect(server)
            half_head = await connect(server)
            half_head[1].write(REQUEST[:10])
            half_body = await connect(server)
            half_body[1].write(
                b"POST /auth HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n"
                b"Content-Type: application/x-www-form-urlencoded\r\n\r\nusername="
            )
            served = await connect(server)
            served[1].write(REQUEST)
            await read_response(served[0])
            await asyncio.to_thread(server.stop)
            rejected = await half_body[0].read()

        for _, writer in (silent, half_head, half_body, served):
            writer.close()
    assert rejected.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in rejected
    assert "Cancel 1 running task(s)" in server.log
    assert "Traceback" not in server.log


async def test_a_second_ctrl_c_does_not_wait_for_requests(tmp_path: Path, shared_url: URL):
    with Server(tmp_path, shared_url, settings={"SHUTDOWN_SECONDS": "60"}) as server:
        with fail_after(DEADLINE / 2):
            _, half_body = await connect(server)
            half_body.write(
                b"POST /sign-up HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n"
                b"Content-Type: application/json\r\n\r\n{"
            )
            await half_body.drain()
            server.process.send_signal(signal.SIGINT)
            await asyncio.to_thread(server.wait_for_log, "(Shutting down)")
            server.process.send_signal(signal.SIGINT)
            await asyncio.to_thread(server._wait)

        half_body.close()
    assert "Application shutdown complete" in server.log
    assert "Traceback" not in server.log


async def test_workers_are_replaced_without_a_failed_request(tmp_path: Path, shared_url: URL):
    with Server(tmp_path, shared_url, workers=2) as server:
        async with server.client() as client:
            is_over = asyncio.Event()

            async def read_continuously() -> int:
                number = 0
                while not is_over.is_set():
                    # A new connection each: the server may close an idle one at any time.
                    response = await client.get("/posts", headers={"Connection": "close"})
                    assert response.status_code == 200
                    number += 1
                return number

            with fail_after(DEADLINE):
                readers = [asyncio.create_task(read_continuously()) for _ in range(CLIENTS)]
                server.process.send_signal(signal.SIGHUP)
                await asyncio.to_thread(server.wait_for_log, r"(?s)((Finished server .*){2})")
                is_over.set()
                numbers = await asyncio.gather(*readers)
        await asyncio.to_thread(server.stop)

    assert min(numbers) > 0
    assert server.log.count("Started server process") == 4
    assert "Traceback" not in server.log


async def test_a_restart_of_the_workers_ends_with_the_stop(tmp_path: Path, shared_url: URL):
    with Server(tmp_path, shared_url, workers=2) as server:
        # Both signals arrive at the same moment.
        server.process.send_signal(signal.SIGSTOP)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
            server.process.send_signal(number)
        server.stop()

    # One may have been started before the parent noticed.
    assert server.log.count("Started server process") <= 3
    assert server.log.count("Finished server process") >= 2
    assert "Received SIGTERM" in server.log
    assert "Traceback" not in server.log
