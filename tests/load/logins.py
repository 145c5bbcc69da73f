"""Continuous log-ins in a separate process: `python logins.py URL PASSWORD EMAIL...`"""

import asyncio
import json
import signal
import sys
from collections import Counter

import httpx


async def log_in_repeatedly(
    client: httpx.AsyncClient, email: str, password: str, statuses: Counter[str]
) -> None:
    """Count responses by status, and errors by class."""
    while True:
        try:
            response = await client.post("/auth", data={"username": email, "password": password})
            statuses[str(response.status_code)] += 1
        except httpx.HTTPError as error:
            statuses[type(error).__name__] += 1
        if statuses.total() == 1:
            print("ready", flush=True)


async def main(url: str, password: str, *emails: str) -> None:
    """Print `ready` after the first response, and the counts when SIGTERM is received."""
    statuses: Counter[str] = Counter()
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, verify=False) as client:
        clients = [
            asyncio.create_task(log_in_repeatedly(client, email, password, statuses))
            for email in emails
        ]
        is_terminated = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, is_terminated.set)
        await is_terminated.wait()
        for one in clients:
            one.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    print(json.dumps(statuses))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
