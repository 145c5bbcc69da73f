"""Problem documents: every error response is `application/problem+json` (RFC 9457).

A problem is an exception class, raised anywhere and listed in the `responses` of a route. Its type
and title are made of its name: `PostNotFound` is `urn:blog-api:post-not-found`, `Post not found`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cache, reduce
from http import HTTPStatus
from operator import or_
from types import MappingProxyType
from typing import Any, ClassVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Form
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, create_model
from starlette import status as codes
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount
from starlette.types import Scope

PROBLEM_MEDIA_TYPE = "application/problem+json"
# Of one response: a body has room for a hundred thousand invalid fields.
MAX_ERRORS = 20
# Of an unknown field, in characters.
MAX_NAME_LENGTH = 50
URLENCODED = "application/x-www-form-urlencoded"
FORM_MEDIA_TYPES = (URLENCODED, "multipart/form-data")
ROUTE_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

HEADER_DESCRIPTIONS = {
    "RateLimit": "Remaining requests, and seconds until the limit is reset.",
    "RateLimit-Policy": "Allowed requests, and the length of the time window in seconds.",
    "Retry-After": "Seconds to wait before the next request.",
    "WWW-Authenticate": "Challenge of the scheme `Bearer` (RFC 6750, 3).",
}


class Problem(Exception):
    """An error response; the docstring of a subclass is the description of its schema."""

    title: ClassVar[str]
    urn: ClassVar[str]
    status: ClassVar[int]
    detail: str
    # An instance may have headers of its own.
    headers: Mapping[str, str] = MappingProxyType({})
    documented_headers: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.title = re.sub(r"(?<=.)(?=[A-Z])", " ", cls.__name__).capitalize()
        cls.urn = f"urn:blog-api:{cls.title.lower().replace(' ', '-')}"

    @classmethod
    @cache
    def make_model(cls) -> type[BaseModel]:
        """Return the schema of the problem document for OpenAPI."""
        return create_model(
            cls.__name__,
            __doc__=cls.__doc__ or f"{cls.detail}.",
            type=(str, const_field(cls.urn, "Identifies the type of problem; never changes.")),
            title=(str, const_field(cls.title, "Short name of the type of problem.")),
            status=(int, const_field(cls.status, "HTTP status code.")),
            detail=(str, Field(examples=[cls.detail], description="Human-readable explanation.")),
            instance=(
                str,
                Field(
                    examples=["urn:uuid:5f3c2d8e-9d0b-4c53-8a55-0c1c1d8e4a10"],
                    description="`urn:uuid:` and the `X-Request-ID` of the response.",
                ),
            ),
            **cls.extension_schema(),
        )

    @classmethod
    def extension_schema(cls) -> dict[str, Any]:
        """Return the fields of `extensions()` for `create_model()`."""
        return {}

    def extensions(self) -> dict[str, Any]:
        """Return additional members of the problem document (RFC 9457, 3.2)."""
        return {}


def const_field(value: str | int, description: str) -> Any:
    return Field(description=description, json_schema_extra={"const": value})


class BadRequest(Problem):
    status = codes.HTTP_400_BAD_REQUEST
    detail = "The request could not be read"


class Unauthorized(Problem):
    status = codes.HTTP_401_UNAUTHORIZED
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})
    documented_headers = ("WWW-Authenticate",)


class Forbidden(Problem):
    status = codes.HTTP_403_FORBIDDEN


class NotFound(Problem):
    status = codes.HTTP_404_NOT_FOUND
    detail = "There is nothing at this address"


class MethodNotAllowed(Problem):
    status = codes.HTTP_405_METHOD_NOT_ALLOWED
    detail = "This address does not take this method"


class Conflict(Problem):
    """A concurrent request changed the same resource; retry."""

    status = codes.HTTP_409_CONFLICT
    detail = "Another request changed the same thing at the same time"


class UntrustedHost(BadRequest):
    detail = "This host name is not served here"


class CrossOriginRefused(BadRequest):
    detail = "Pages of this origin may not send this request"


class RequestTimeout(Problem):
    status = codes.HTTP_408_REQUEST_TIMEOUT
    detail = "The body took too long to arrive"


class ContentTooLarge(Problem):
    status = codes.HTTP_413_CONTENT_TOO_LARGE
    detail = "The body is too large"

    def __init__(self, detail: str = detail) -> None:
        self.detail = detail


class UriTooLong(Problem):
    status = codes.HTTP_414_URI_TOO_LONG
    detail = "The address is too long"


class FieldError(BaseModel):
    """An invalid field. The submitted value is not repeated."""

    loc: list[str | int] = Field(
        examples=[["body", "title"]],
        description="Path of the field, from `body`, `query` or `path` on.",
    )
    type: str = Field(examples=["missing"], description="Identifies the violated rule.")
    msg: str = Field(examples=["Field required"], description="Human-readable explanation.")


def missing_field(*loc: str) -> FieldError:
    return FieldError(loc=list(loc), type="missing", msg="Field required")


class OAuth2Problem(Problem):
    """A problem with the error code that OAuth2 clients read (RFC 6749, 5.2)."""

    error: ClassVar[str]

    @classmethod
    def extension_schema(cls) -> dict[str, Any]:
        return {
            "error": (str, const_field(cls.error, "Error code of RFC 6749, 5.2.")),
            "error_description": (
                str,
                Field(examples=[cls.detail], description="Equal to `detail`."),
            ),
        }

    def extensions(self) -> dict[str, Any]:
        return {"error": self.error, "error_description": self.detail}


class ValidationFailed(Problem):
    """The request has invalid fields."""

    status = codes.HTTP_422_UNPROCESSABLE_CONTENT
    detail = "The request is not valid"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = errors[:MAX_ERRORS]

    @classmethod
    def extension_schema(cls) -> dict[str, Any]:
        description = f"The first {MAX_ERRORS} invalid fields."
        return {"errors": (list[FieldError], Field(description=description))}

    def extensions(self) -> dict[str, Any]:
        return {"errors": [error.model_dump() for error in self.errors]}


class TooManyRequests(Problem):
    """The rate limit is exceeded."""

    status = codes.HTTP_429_TOO_MANY_REQUESTS
    detail = "Too many requests; try again later"
    documented_headers = ("RateLimit", "RateLimit-Policy", "Retry-After")

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers


class InternalServerError(Problem):
    status = codes.HTTP_500_INTERNAL_SERVER_ERROR
    detail = "Internal error; the server logged it under this instance"


class ServiceUnavailable(Problem):
    status = codes.HTTP_503_SERVICE_UNAVAILABLE
    detail = "The service is not available right now"
    headers = MappingProxyType({"Retry-After": "1"})
    documented_headers = ("Retry-After",)


# Of every route that takes a body and writes.
BODY_PROBLEMS = (BadRequest, Conflict, ContentTooLarge, RequestTimeout, ValidationFailed)

# Replace the HTTPExceptions of FastAPI and Starlette.
PROBLEMS_BY_STATUS = {
    problem.status: problem for problem in (BadRequest, NotFound, MethodNotAllowed, ContentTooLarge)
}


def problem_responses(*problems: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route; problems with one status become `anyOf`."""
    models = defaultdict(list)
    headers: dict[int, dict[str, object]] = defaultdict(dict)
    for problem in problems:
        models[problem.status].append(problem.make_model())
        headers[problem.status] |= {
            name: {"description": HEADER_DESCRIPTIONS[name], "schema": {"type": "string"}}
            for name in problem.documented_headers
        }
        if issubclass(problem, NotFound) and problem is not NotFound:
            # An id that is not a number matches no route.
            models[problem.status].append(NotFound.make_model())
    return {
        code: {
            "model": reduce(or_, models[code]),
            "description": HTTPStatus(code).phrase,
            **({"headers": headers[code]} if headers[code] else {}),
        }
        for code in sorted(models)
    }


def problem_response(problem: Problem, scope: Scope) -> JSONResponse:
    document = {
        "type": problem.urn,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        **problem.extensions(),
    }
    return problem_document_response(document, scope, problem.headers)


def problem_document_response(
    document: dict[str, Any], scope: Scope, headers: Mapping[str, str] | None
) -> JSONResponse:
    return JSONResponse(
        document | {"instance": f"urn:uuid:{scope['state']['request_id']}"},
        status_code=document["status"],
        # By default caches may store 404, 405, 410 and 414 (RFC 9110, 15.1).
        headers={**(headers or {}), "Cache-Control": "no-store"},
        media_type=PROBLEM_MEDIA_TYPE,
    )


async def handle_problem(request: Request, problem: Problem) -> JSONResponse:
    return problem_response(problem, request.scope)


async def handle_http_exception(request: Request, error: HTTPException) -> JSONResponse:
    """Handle errors of routing and of unreadable bodies, and exceptions raised by routes."""
    code = error.status_code
    if code == codes.HTTP_405_METHOD_NOT_ALLOWED:
        response = problem_response(MethodNotAllowed(), request.scope)
        response.headers["Allow"] = ", ".join(find_allowed_methods(request))
        return response
    if code in PROBLEMS_BY_STATUS:
        return problem_response(PROBLEMS_BY_STATUS[code](), request.scope)
    # RFC 9457, 4.2.1: the type of a problem without a type of its own.
    phrase = HTTPStatus(code).phrase
    document = {"type": "about:blank", "title": phrase, "status": code, "detail": phrase}
    return problem_document_response(document, request.scope, error.headers)


async def handle_validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    if expects_form(request) and get_media_type(request) not in FORM_MEDIA_TYPES:
        msg = f"Send a form, with Content-Type: {URLENCODED}"
        errors = [FieldError(loc=["body"], type="no_form", msg=msg)]
    else:
        errors = [to_field_error(found) for found in error.errors()[:MAX_ERRORS]]
    return problem_response(ValidationFailed(errors), request.scope)


def get_media_type(request: Request) -> str:
    """Return the media type of the body, without parameters."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def expects_form(request: Request) -> bool:
    route = request.scope.get("route")
    field = route.body_field if isinstance(route, APIRoute) else None
    return field is not None and isinstance(field.field_info, Form)


def sanitize_name(name: object) -> str:
    """Return the start of a name that the client made up, without invisible characters."""
    start = str(name)[:MAX_NAME_LENGTH]
    return "".join(one if one.isprintable() else "\ufffd" for one in start)


def to_field_error(found: Mapping[str, Any]) -> FieldError:
    """Return a Pydantic error without its input, except for the name of an unknown field."""
    loc = list(found["loc"])
    if found["type"] == "extra_forbidden":
        kind = "parameter" if loc[0] == "query" else "field"
        loc[-1] = sanitize_name(loc[-1])
        return FieldError(loc=loc, type="extra_forbidden", msg=f"Unknown {kind}: {loc[-1]}")
    if found["type"] == "model_attributes_type":
        msg = "Send a JSON object, with Content-Type: application/json"
        return FieldError(loc=loc, type="no_object", msg=msg)
    return FieldError(loc=loc, type=found["type"], msg=found["msg"])


def find_allowed_methods(request: Request) -> list[str]:
    """Return the methods of all routes with this path; Starlette lists those of one route."""
    # A mount has added its path to `root_path`.
    root = request.scope.get("app_root_path", request.scope.get("root_path", ""))
    scope = {**request.scope, "root_path": root}
    allowed = [
        method
        for method in ROUTE_METHODS
        if any(
            route.matches({**scope, "method": method})[0] is Match.FULL
            # A mount matches every method, but static files support GET only.
            and (method == "GET" or not isinstance(route, Mount))
            for route in request.app.routes
        )
    ]
    return ["HEAD", *allowed] if "GET" in allowed else allowed


EXCEPTION_HANDLERS: dict[
    int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]
] = {
    Problem: handle_problem,
    HTTPException: handle_http_exception,
    RequestValidationError: handle_validation_error,
}
