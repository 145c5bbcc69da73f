"""One shape for every error: `application/problem+json` (RFC 9457)."""

import re
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import reduce
from http import HTTPStatus
from operator import or_
from types import MappingProxyType
from typing import Any, ClassVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, create_model
from starlette import status as codes
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount
from starlette.types import Scope


class TooBusy(Exception):
    """So many passwords wait to be hashed that one more would wait for too long."""


PROBLEM_MEDIA_TYPE = "application/problem+json"


# A body can hold a hundred thousand mistakes; an answer that lists them all helps nobody.
MAX_ERRORS = 20


ROUTE_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Problem(Exception):
    """What a client is told. Its type and title are the words of the class's name."""

    status: ClassVar[int]
    detail: str
    # A class's own, or, where an answer has headers of its own, the exception's.
    headers: Mapping[str, str] = MappingProxyType({})
    documented_headers: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def title(cls) -> str:
        return re.sub(r"(?<=.)(?=[A-Z])", " ", cls.__name__).capitalize()

    @classmethod
    def urn(cls) -> str:
        return f"urn:blog-api:{cls.title().lower().replace(' ', '-')}"

    @classmethod
    def model(cls) -> type[BaseModel]:
        """The answer's shape for OpenAPI."""
        if cls not in PROBLEM_MODELS:
            PROBLEM_MODELS[cls] = create_model(
                cls.__name__,
                __doc__=cls.__doc__ or cls.title(),
                type=(str, Field(json_schema_extra={"const": cls.urn()})),
                title=(str, Field(json_schema_extra={"const": cls.title()})),
                status=(int, Field(json_schema_extra={"const": cls.status})),
                detail=(str, Field(examples=[cls.detail])),
                instance=(str, Field(description="`urn:uuid:` and the answer's `X-Request-ID`")),
                **cls.extension_schema(),
            )
        return PROBLEM_MODELS[cls]

    @classmethod
    def extension_schema(cls) -> dict[str, Any]:
        """Further members of the answer, as fields of its model."""
        return {}

    def extensions(self) -> dict[str, Any]:
        """Further members of this answer."""
        return {}


PROBLEM_MODELS: dict[type[Problem], type[BaseModel]] = {}


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
    """Another request changed the same thing at the same time; ask again."""

    status = codes.HTTP_409_CONFLICT
    detail = "Another request changed the same thing at the same time"


class UntrustedHost(BadRequest):
    detail = "This host name is not served here"


class CrossOriginRefused(BadRequest):
    detail = "Pages of this origin may not send this request"


class ContentTooLarge(Problem):
    status = codes.HTTP_413_CONTENT_TOO_LARGE
    detail = "The body is too large"


class UriTooLong(Problem):
    status = codes.HTTP_414_URI_TOO_LONG
    detail = "The address is too long"


class FieldError(BaseModel):
    """One mistake: where, which, and in words. What was sent is not repeated."""

    loc: list[str | int]
    type: str
    msg: str


def missing_field(*loc: str) -> FieldError:
    return FieldError(loc=list(loc), type="missing", msg="Field required")


class OAuth2Problem(Problem):
    """With the `error` of RFC 6749, 5.2, by which its clients tell."""

    error: ClassVar[str]

    @classmethod
    def extension_schema(cls) -> dict[str, Any]:
        return {
            "error": (str, Field(json_schema_extra={"const": cls.error})),
            "error_description": (str, Field(description="The same as `detail`.")),
        }

    def extensions(self) -> dict[str, Any]:
        return {"error": self.error, "error_description": self.detail}


class ValidationFailed(Problem):
    """The request breaks a rule; each mistake is listed."""

    status = codes.HTTP_422_UNPROCESSABLE_CONTENT
    detail = "The request is not valid"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = errors[:MAX_ERRORS]

    @classmethod
    def extension_schema(cls) -> dict[str, Any]:
        return {"errors": (list[FieldError], ...)}

    def extensions(self) -> dict[str, Any]:
        return {"errors": [error.model_dump() for error in self.errors]}


class TooManyRequests(Problem):
    """A limit is used up; `Retry-After` says for how many seconds."""

    status = codes.HTTP_429_TOO_MANY_REQUESTS
    detail = "Too many attempts; try again later"
    documented_headers = ("RateLimit", "RateLimit-Policy", "Retry-After")

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers


class InternalServerError(Problem):
    status = codes.HTTP_500_INTERNAL_SERVER_ERROR
    detail = "Something went wrong here; the log knows this answer by its instance"


class ServiceUnavailable(Problem):
    status = codes.HTTP_503_SERVICE_UNAVAILABLE
    detail = "The service is not available right now"
    headers = MappingProxyType({"Retry-After": "1"})
    documented_headers = ("Retry-After",)


# What any route that takes a body and writes can answer.
BODY_PROBLEMS = (BadRequest, Conflict, ContentTooLarge, ValidationFailed)


# What FastAPI and Starlette raise by themselves.
PROBLEMS_BY_STATUS = {
    problem.status: problem for problem in (BadRequest, NotFound, MethodNotAllowed, ContentTooLarge)
}


def problem_responses(*problems: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """A route's `responses=`: the problems it can raise, those of one status as `anyOf`."""
    by_status = defaultdict(list)
    headers: dict[int, dict[str, object]] = defaultdict(dict)
    for problem in problems:
        by_status[problem.status].append(problem.model())
        headers[problem.status] |= {
            name: {"schema": {"type": "string"}} for name in problem.documented_headers
        }
        if issubclass(problem, NotFound) and problem is not NotFound:
            # Where an id is no number, no route is found to tell what is missing.
            by_status[problem.status].append(NotFound.model())
    return {
        code: {
            "model": reduce(or_, models),
            "description": HTTPStatus(code).phrase,
            **({"headers": headers[code]} if headers[code] else {}),
        }
        for code, models in sorted(by_status.items())
    }


def problem_response(problem: Problem, scope: Scope) -> JSONResponse:
    """The answer for a problem; `scope` knows the request's id."""
    document = {
        "type": problem.urn(),
        "title": problem.title(),
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
        headers=headers,
        media_type=PROBLEM_MEDIA_TYPE,
    )


async def handle_problem(request: Request, problem: Problem) -> JSONResponse:
    return problem_response(problem, request.scope)


async def handle_http_exception(request: Request, error: HTTPException) -> JSONResponse:
    """An error that is no `Problem`: of routing, of an unreadable body, or a route's own."""
    code = error.status_code
    if code == codes.HTTP_405_METHOD_NOT_ALLOWED:
        response = problem_response(MethodNotAllowed(), request.scope)
        response.headers["Allow"] = ", ".join(allowed_methods(request))
        return response
    if code in PROBLEMS_BY_STATUS:
        return problem_response(PROBLEMS_BY_STATUS[code](), request.scope)
    # RFC 9457, 4.2.1: a type that says no more than the status does.
    phrase = HTTPStatus(code).phrase
    document = {"type": "about:blank", "title": phrase, "status": code, "detail": phrase}
    return problem_document_response(document, request.scope, error.headers)


async def handle_validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    problem = ValidationFailed([to_field_error(found) for found in error.errors()[:MAX_ERRORS]])
    return problem_response(problem, request.scope)


def to_field_error(found: Mapping[str, Any]) -> FieldError:
    """A mistake without the input; an unknown field's name is input too."""
    loc = list(found["loc"])
    if found["type"] == "extra_forbidden":
        return FieldError(loc=loc[:-1], type="extra_forbidden", msg="There is an unknown field")
    if found["type"] == "model_attributes_type":
        msg = "Send a JSON object, with Content-Type: application/json"
        return FieldError(loc=loc, type="no_object", msg=msg)
    return FieldError(loc=loc, type=found["type"], msg=found["msg"])


def allowed_methods(request: Request) -> list[str]:
    """What this address does take (RFC 9110, 10.2.1); Starlette tells of its first route alone."""
    # A mount has moved the root to itself.
    root = request.scope.get("app_root_path", request.scope.get("root_path", ""))
    scope = {**request.scope, "root_path": root}
    allowed = [
        method
        for method in ROUTE_METHODS
        if any(
            route.matches({**scope, "method": method})[0] is Match.FULL
            # A mount takes any method, and its files answer GET alone.
            and (method == "GET" or not isinstance(route, Mount))
            for route in request.app.routes
        )
    ]
    return ["HEAD", *allowed] if "GET" in allowed else allowed


async def handle_too_busy(request: Request, _: TooBusy) -> JSONResponse:
    return problem_response(ServiceUnavailable(), request.scope)


EXCEPTION_HANDLERS: dict[
    int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]
] = {
    Problem: handle_problem,
    TooBusy: handle_too_busy,
    HTTPException: handle_http_exception,
    RequestValidationError: handle_validation_error,
}
