"""Clients that read and write continuously, and remember what was acknowledged."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from anyio import create_task_group, fail_after
from httpx import AsyncClient, Response

from tests.support.clients import PASSWORD, bearer, request_with_retry
from tests.support.pictures import make_picture

WRITERS = ("Ann", "Bob")
READERS = 2
# Far longer than anything takes, so that a test that waits in vain ends.
DEADLINE_SECONDS = 120
BACKOFF_SECONDS = 0.1
# The load is not what is tested, and the commands need the processors too.
PAUSE_SECONDS = 0.1


class Restored(Exception):
    """The database was restored while a client worked with what is lost."""


class Traffic:
    """Every response is a success, or a 503 with `Retry-After`, after which a client tries again.

    A post contains the number of its last change that was acknowledged.
    """

    def __init__(self, address: str) -> None:
        self.posts: dict[int, int] = {}
        self.pictures: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self._address = address
        self._restores = 0
        readers = [f"Reader{number}" for number in range(READERS)]
        self._clients = {name: self._write for name in WRITERS}
        self._clients |= dict.fromkeys(readers, self._read) | {"Jane": self._use_jwt}
        self._rounds = Counter(dict.fromkeys(self._clients, 0))
        self._is_over = asyncio.Event()
        self._progress = asyncio.Condition()

    def client(self) -> AsyncClient:
        return AsyncClient(base_url=self._address, timeout=60, trust_env=False)

    async def run(self) -> None:
        """Send requests until `stop()`."""
        async with create_task_group() as group:
            for name, work in self._clients.items():
                group.start_soon(self._repeat, name, work)

    def stop(self) -> None:
        self._is_over.set()

    async def advance(self, rounds: int = 2) -> None:
        """Wait until every client has done so many complete rounds more."""
        goals = {name: done + rounds + 1 for name, done in self._rounds.items()}
        await self._wait_for(
            lambda: all(self._rounds[name] >= goal for name, goal in goals.items())
        )

    async def wait_for_outage(self, number: int = 20) -> None:
        """Wait for so many responses more that are 503."""
        goal = self.statuses[503] + number
        await self._wait_for(lambda: self.statuses[503] >= goal)

    def acknowledged(self) -> tuple[dict[int, int], set[str]]:
        return dict(self.posts), set(self.pictures)

    def restore(self, acknowledged: tuple[dict[int, int], set[str]]) -> None:
        """Forget what was acknowledged later: the service is stopped, and a backup replaces it."""
        self.posts, self.pictures = acknowledged
        self._restores += 1

    async def find_lost(self) -> list[str]:
        """Return what was acknowledged and is not there."""
        lost = []
        async with self.client() as client:
            for post_id, number in self.posts.items():
                response = await request_with_retry(client, "GET", f"/posts/{post_id}")
                if response.status_code != 200 or int(response.json()["content"]) < number:
                    lost.append(f"post {post_id}, change {number}: {response.text}")
            for url in self.pictures:
                if (await request_with_retry(client, "GET", url)).status_code != 200:
                    lost.append(url)
        return lost

    async def _wait_for(self, condition: Callable[[], bool]) -> None:
        with fail_after(DEADLINE_SECONDS):
            async with self._progress:
                await self._progress.wait_for(condition)

    async def _notify(self) -> None:
        async with self._progress:
            self._progress.notify_all()

    async def _repeat(self, name: str, work: Any) -> None:
        async with self.client() as client:
            await self._log_in(client, name)
            while not self._is_over.is_set():
                try:
                    await work(client, self._restores)
                except Restored:
                    continue
                self._rounds[name] += 1
                await self._notify()
                await asyncio.sleep(PAUSE_SECONDS)

    async def _log_in(self, client: AsyncClient, name: str) -> None:
        email = f"{name.lower()}@example.com"
        body = {"email": email, "name": name, "password": PASSWORD}
        await request_with_retry(client, "POST", "/sign-up", json=body)
        form = {"username": email, "password": PASSWORD}
        token = (await request_with_retry(client, "POST", "/auth", data=form)).json()
        client.headers.update(bearer(token["access_token"]))

    async def _send(
        self, client: AsyncClient, restores: int, method: str, path: str, **values: Any
    ) -> Response:
        """Send a request until it succeeds.

        After a 503 the first attempt may still hold its key: then the response is 409.
        """
        is_repeated = False
        while True:
            response = await client.request(method, path, **values)
            self.statuses[response.status_code] += 1
            await self._notify()
            if response.is_success:
                return response
            is_in_use = is_repeated and "idempotency-key-in-use" in response.text
            if response.status_code == 503 or is_in_use:
                assert "Retry-After" in response.headers, response.text
                is_repeated = True
                await asyncio.sleep(BACKOFF_SECONDS)
            elif restores != self._restores:
                raise Restored
            else:
                raise AssertionError(f"{method} {path}: {response.status_code} {response.text}")

    async def _write(self, client: AsyncClient, restores: int) -> None:
        async def send(method: str, path: str, **values: Any) -> Any:
            headers = {"Idempotency-Key": str(uuid4())}
            return await self._send(client, restores, method, path, headers=headers, **values)

        body = {"title": "Hello", "content": "0"}
        post_id = (await send("POST", "/posts", json=body)).json()["id"]
        self.posts[post_id] = 0
        for number in (1, 2):
            await send("PATCH", f"/posts/{post_id}", json={"content": str(number)})
            self.posts[post_id] = number
        await send("POST", f"/posts/{post_id}/comments", json={"content": "Hi"})
        # One picture stays, another is deleted.
        for is_kept in (True, False):
            files = {"file": make_picture(color=f"#{uuid4().hex[:6]}")}
            picture = (await send("POST", "/media", files=files)).json()
            await send("GET", picture["url"])
            if is_kept:
                self.pictures.add(picture["url"])
            elif picture["url"] not in self.pictures:
                await send("DELETE", f"/media/{picture['id']}")

    async def _read(self, client: AsyncClient, restores: int) -> None:
        await self._send(client, restores, "GET", "/posts?size=5")
        await self._send(client, restores, "GET", "/users/me")
        if self.posts:
            await self._send(client, restores, "GET", f"/posts/{max(self.posts)}")

    async def _use_jwt(self, client: AsyncClient, restores: int) -> None:
        """Log in, and use the token in several requests, which different workers serve."""
        form = {"grant_type": "password", "username": "jane@example.com", "password": PASSWORD}
        token = (await self._send(client, restores, "POST", "/token", data=form)).json()
        client.headers.update(bearer(token["access_token"]))
        for _ in range(4):
            headers = {"Connection": "close"}
            await self._send(client, restores, "GET", "/users/me", headers=headers)
