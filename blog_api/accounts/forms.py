"""Forms of the log-in routes: decoded as UTF-8, each parameter at most once."""

import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from blog_api.accounts.errors import RepeatedParameter
from blog_api.core.errors import URLENCODED, get_media_type

NON_ASCII_BYTE = re.compile(rb"[\x80-\xff]")


class FormRequest(Request):
    """A request whose urlencoded form is decoded as UTF-8 (URL Standard, 5.1)."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        is_urlencoded = get_media_type(self) == URLENCODED
        async for chunk in super().stream():
            # Starlette decodes bytes that are not percent-encoded as Latin-1.
            yield NON_ASCII_BYTE.sub(percent_encode, chunk) if is_urlencoded else chunk


def percent_encode(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found[0][0]


class FormRoute(APIRoute):
    """A route that takes a form; every such route is one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_form(request: Request) -> Response:
            return await handle(FormRequest(request.scope, request.receive))

        return handle_form


async def require_unique_parameters(request: Request) -> None:
    """Raise RepeatedParameter if the form has two parameters of one name (RFC 6749, 3.2)."""
    form = await request.form()
    if len(form.multi_items()) > len(form):
        raise RepeatedParameter


# A dependency of a route, solved before the form is validated.
UNIQUE_PARAMETERS = Depends(require_unique_parameters)
