"""The client and the bearer token of a request."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import Headers
from starlette.types import Scope

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


def get_bearer_token(scope: Scope) -> str:
    """Return the token as `OAuth2PasswordBearer` does; empty without one."""
    scheme, token = get_authorization_scheme_param(Headers(scope=scope).get("Authorization"))
    return token if scheme.lower() == "bearer" else ""
