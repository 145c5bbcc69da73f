"""Where a request comes from."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

MAX_USER_AGENT_LENGTH = 200


@dataclass(frozen=True)
class Client:
    """The program and the address that sent a request."""

    user_agent: str | None
    address: str


async def get_client(request: Request) -> Client:
    user_agent = request.headers.get("User-Agent", "")[:MAX_USER_AGENT_LENGTH]
    printable = "".join(one for one in user_agent if one.isprintable())
    return Client(printable or None, request.client.host if request.client else "unknown")


ClientDep = Annotated[Client, Depends(get_client)]
