"""Rules about the code that a reviewer would otherwise have to remember."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from inspect import getsource
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.params import Form
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from pydantic import TypeAdapter
from sqlalchemy import inspect
from sqlmodel import SQLModel

import blog_api
from blog_api.accounts.auth import get_auth, get_author, get_optional_auth, get_writer
from blog_api.accounts.forms import FormRoute, require_unique_parameters
from blog_api.accounts.idempotency import (
    IdempotentRoute,
    claim_key,
    get_admin_creation,
    get_creation,
    reject_key,
)
from blog_api.accounts.rate_limits import get_login_throttle
from blog_api.accounts.write_limits import get_rate_limiter
from blog_api.app import create_app
from blog_api.core.errors import Forbidden, OAuth2Problem, Problem, Unauthorized
from blog_api.db.base import TableBase
from blog_api.db.session import get_session
from blog_api.models import TABLES
from blog_api.web.openapi import PLACEHOLDER
from tests.support.clients import CHEAP_HASHING, make_settings

PACKAGE = Path(blog_api.__file__).parent
MAX_LINES = 400
# Routes with a token whose response holds a secret, or that store nothing.
WITHOUT_KEY = {"create_personal_token", "preview_post", "request_email_verification"}


@pytest.fixture(scope="module")
def built() -> FastAPI:
    """An application that is never started."""
    return create_app(make_settings(database_url="sqlite://", **CHEAP_HASHING))


@pytest.fixture(scope="module")
def openapi(built: FastAPI) -> dict[str, Any]:
    return built.openapi()


def routes_of(app: FastAPI) -> Iterator[RouteContext]:
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute):
            yield route


def operations_of(openapi: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            yield f"{method.upper()} {path}", operation


def calls_of(dependant: Dependant) -> set[object]:
    """The functions of all its dependencies."""
    return {dependant.call}.union(*(calls_of(one) for one in dependant.dependencies))


def subclasses_of(problem: type[Problem]) -> set[type[Problem]]:
    """All those of the service, not those of tests."""
    found = {one for one in problem.__subclasses__() if one.__module__.startswith("blog_api.")}
    return found.union(*(subclasses_of(one) for one in found))


def test_packages_import_only_the_layers_below_them():
    """The contracts are in `pyproject.toml`."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]

    ran = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout


def test_the_index_of_models_lists_every_table():
    assert {inspect(table).local_table for table in TABLES} == set(TableBase.metadata.sorted_tables)


def test_every_table_is_in_the_models_of_its_package():
    for mapper in TableBase._sa_registry.mappers:
        # `search_models` and the like, once there are too many for one module.
        assert re.fullmatch(r"blog_api\.\w+\.(\w+_)?models", mapper.class_.__module__), mapper


IMPORT_EVERYTHING = """
import gc, importlib, pkgutil, sys
import blog_api

before = gc.get_threshold(), gc.get_freeze_count()
for module in pkgutil.walk_packages(blog_api.__path__, "blog_api."):
    if module.name != "blog_api.main" and ".migrations" not in module.name:
        importlib.import_module(module.name)
assert (gc.get_threshold(), gc.get_freeze_count()) == before
"""


def test_importing_a_module_changes_nothing_in_the_process():
    environment = {**os.environ, "BLOG_DATABASE_URL": "this is not a URL"}
    command = [sys.executable, "-c", IMPORT_EVERYTHING]

    ran = subprocess.run(command, env=environment, capture_output=True, text=True)

    assert ran.returncode == 0, ran.stderr


def test_every_module_is_below_the_line_limit():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= MAX_LINES, path.name


def test_only_sessions_of_the_database_end_transactions():
    """SQLAlchemy's `commit()` ends none on Postgres: its connections are in autocommit mode."""
    for path in PACKAGE.rglob("*.py"):
        ends = re.findall(r"\bsession\.(?:commit|rollback)\(\)", path.read_text())
        assert not ends or path == PACKAGE / "db" / "session.py", path


def test_the_docstring_of_a_module_begins_with_a_summary_line():
    for path in PACKAGE.rglob("*.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        summary, *rest = docstring.split("\n")

        assert len(summary) > 10 and summary.endswith("."), path
        assert not rest or rest[0] == "", path


def test_every_relationship_states_how_it_loads():
    for mapper in TableBase._sa_registry.mappers:
        for relationship in mapper.relationships:
            assert relationship.lazy in {"joined", "selectin", "raise"}, relationship


def test_every_table_has_a_plural_name():
    for table in TableBase.metadata.sorted_tables:
        assert table.name.endswith("s"), table.name


def test_problem_urns_never_change(openapi: dict[str, Any]):
    """Clients compare them; a class that is renamed must not rename its problem."""
    schemas = openapi["components"]["schemas"].values()
    types = [schema.get("properties", {}).get("type", {}).get("const", "") for schema in schemas]
    urns = {name for name in types if name.startswith("urn:")}

    assert urns == {
        "urn:blog-api:bad-request",
        "urn:blog-api:ban-not-found",
        "urn:blog-api:cannot-delete-self",
        "urn:blog-api:cannot-follow-self",
        "urn:blog-api:comment-not-found",
        "urn:blog-api:comments-closed",
        "urn:blog-api:conflict",
        "urn:blog-api:content-too-large",
        "urn:blog-api:email-banned",
        "urn:blog-api:email-not-verified",
        "urn:blog-api:email-taken",
        "urn:blog-api:idempotency-key-in-use",
        "urn:blog-api:idempotency-key-not-supported",
        "urn:blog-api:idempotency-key-reused",
        "urn:blog-api:inactive-user",
        "urn:blog-api:incorrect-credentials",
        "urn:blog-api:incorrect-log-in",
        "urn:blog-api:incorrect-password",
        "urn:blog-api:insufficient-scope",
        "urn:blog-api:invalid-code",
        "urn:blog-api:invalid-grant",
        "urn:blog-api:invalid-grant-request",
        "urn:blog-api:invalid-idempotency-key",
        "urn:blog-api:invalid-revocation-request",
        "urn:blog-api:invalid-scope",
        "urn:blog-api:invalid-token",
        "urn:blog-api:last-admin",
        "urn:blog-api:mail-not-configured",
        "urn:blog-api:media-blocked",
        "urn:blog-api:media-not-configured",
        "urn:blog-api:media-not-found",
        "urn:blog-api:media-quota-exceeded",
        "urn:blog-api:not-acceptable",
        "urn:blog-api:not-an-author",
        "urn:blog-api:not-authenticated",
        "urn:blog-api:not-found",
        "urn:blog-api:not-ready",
        "urn:blog-api:not-your-comment",
        "urn:blog-api:not-your-post",
        "urn:blog-api:post-gone",
        "urn:blog-api:post-not-found",
        "urn:blog-api:precondition-failed",
        "urn:blog-api:range-not-satisfiable",
        "urn:blog-api:repeated-parameter",
        "urn:blog-api:request-timeout",
        "urn:blog-api:service-unavailable",
        "urn:blog-api:session-not-found",
        "urn:blog-api:sign-up-closed",
        "urn:blog-api:slug-taken",
        "urn:blog-api:thread-too-deep",
        "urn:blog-api:token-not-found",
        "urn:blog-api:too-many-requests",
        "urn:blog-api:too-many-tokens",
        "urn:blog-api:unsupported-grant-type",
        "urn:blog-api:unsupported-picture",
        "urn:blog-api:user-not-found",
        "urn:blog-api:username-taken",
        "urn:blog-api:validation-failed",
    }


def test_the_guide_lists_all_types_of_problems():
    guide = (PACKAGE / "web/guide/use-the-api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d{3}) \| (.+?) \|", guide, re.MULTILINE)
    listed = {(name, int(status)) for status, cell in rows for name in re.findall("[a-z-]+", cell)}

    assert listed == {
        (problem.urn.rpartition(":")[2], problem.status)
        for problem in subclasses_of(Problem) - {Forbidden, OAuth2Problem, Unauthorized}
    }


def test_every_route_has_a_description_and_a_unique_operation_id(openapi: dict[str, Any]):
    operations = [operation for _, operation in operations_of(openapi)]
    tags = {tag["name"] for tag in openapi["tags"]}

    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation.get("description", "").endswith("."), operation["operationId"]
        assert set(operation.get("tags", [""])) <= tags, operation["operationId"]


def test_every_route_documents_the_errors_it_can_return(built: FastAPI, openapi: dict[str, Any]):
    for route in routes_of(built):
        if not route.include_in_schema:
            continue
        (method,) = route.methods or {"none"}
        operation = openapi["paths"][route.path_format][method.lower()]
        calls = calls_of(route.dependant)
        expected = set()
        if "requestBody" in operation:
            expected |= {"400", "409", "413", "422"}
        if "parameters" in operation:
            expected |= {"422"}
        if get_session in calls:
            expected |= {"503"}
        if not calls.isdisjoint({get_rate_limiter, get_login_throttle}):
            expected |= {"429"}
        if get_optional_auth in calls:
            assert "InactiveUser" in str(operation["responses"].get("400")), route.name
            assert "InvalidToken" in str(operation["responses"].get("401")), route.name
        if get_writer in calls:
            assert "EmailNotVerified" in str(operation["responses"].get("403")), route.name
        if get_author in calls:
            assert "NotAnAuthor" in str(operation["responses"].get("403")), route.name
        if get_auth in calls:
            assert "NotAuthenticated" in str(operation["responses"].get("401")), route.name

        assert expected <= operation["responses"].keys(), route.name


def test_every_route_that_creates_takes_an_idempotency_key(built: FastAPI):
    """A POST whose response is not stored, for want of a token or for a secret, rejects the key."""
    routes = [route for route in routes_of(built) if "POST" in (route.methods or ())]

    assert len(routes) >= 7
    for route in routes:
        calls = calls_of(route.dependant)
        if get_optional_auth not in calls or route.name in WITHOUT_KEY:
            assert reject_key in calls, f"{route.name} needs NO_KEY"
            continue
        assert isinstance(route.original_route, IdempotentRoute), f"{route.name}: route_class"
        takes_key = not calls.isdisjoint({get_creation, get_admin_creation})
        assert takes_key, f"{route.name} needs CREATE_ONCE, CreationDep or AdminCreationDep"
        source = getsource(route.original_route.endpoint)
        assert claim_key in calls or "await creation.claim()" in source, route.name


def test_every_documented_error_is_a_problem_document(openapi: dict[str, Any]):
    for name, operation in operations_of(openapi):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert response["content"].keys() == {"application/problem+json"}, name


def test_every_property_and_every_parameter_has_a_description(openapi: dict[str, Any]):
    undescribed = [
        f"{name}.{key}"
        for name, schema in openapi["components"]["schemas"].items()
        for key, value in schema.get("properties", {}).items()
        if "$ref" not in value and "description" not in value
    ]
    undescribed += [
        f"{name} {parameter['name']}"
        for name, operation in operations_of(openapi)
        for parameter in operation.get("parameters", [])
        if "description" not in parameter
    ]

    assert undescribed == []


def test_every_response_with_content_has_an_example(openapi: dict[str, Any]):
    for name, operation in operations_of(openapi):
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items():
                assert content.get("example") or content.get("examples"), (name, status, media_type)


def test_example_responses_match_their_models(built: FastAPI, openapi: dict[str, Any]):
    checked = 0
    for route in routes_of(built):
        if not route.include_in_schema or route.response_model is None:
            continue
        (method,) = route.methods or {"none"}
        operation = openapi["paths"][route.path_format][method.lower()]
        (success,) = (code for code in operation["responses"] if code[0] == "2")
        model = TypeAdapter(route.response_model)
        for media_type, content in operation["responses"][success]["content"].items():
            if media_type.endswith("json"):
                example = content["example"]
                assert model.dump_python(model.validate_python(example), mode="json") == example
                checked += 1

    assert checked > 30


def test_no_example_contains_a_placeholder(openapi: dict[str, Any]):
    """A property of a type that says nothing needs `examples`, or an entry in `EXAMPLES`."""
    examples = [
        (name, content.get("example"))
        for name, operation in operations_of(openapi)
        for response in operation["responses"].values()
        for content in response.get("content", {}).values()
    ]

    for name, example in (*examples, *openapi["components"]["examples"].items()):
        assert not re.search(rf"\b{PLACEHOLDER}\b", json.dumps(example)), name


def test_example_problems_match_their_schemas(openapi: dict[str, Any]):
    schemas = openapi["components"]["schemas"]

    examples = openapi["components"]["examples"]

    assert "PostNotFound" in examples
    for name, example in examples.items():
        assert example["value"].keys() == schemas[name]["properties"].keys(), name


def test_request_bodies_are_not_tables_and_forbid_unknown_fields(built: FastAPI):
    bodies = [(route, body) for route in routes_of(built) for body in route.dependant.body_params]

    assert len(bodies) > 8
    for route, body in bodies:
        model = body.field_info.annotation
        assert isinstance(model, type) and issubclass(model, SQLModel), route.name
        assert not model.model_config.get("table"), route.name
        # SQLModel's own `__init__` breaks on a field named `cls`: see `RequestModel`.
        assert not model.__pydantic_custom_init__, route.name
        assert isinstance(body.field_info, Form) or model.model_config.get("extra") == "forbid"


def test_every_form_is_decoded_as_utf_8_and_rejects_repeated_parameters(built: FastAPI):
    routes = [
        route
        for route in routes_of(built)
        if any(isinstance(body.field_info, Form) for body in route.dependant.body_params)
    ]

    assert len(routes) >= 2
    for route in routes:
        assert isinstance(route.original_route, FormRoute), route.name
        assert require_unique_parameters in calls_of(route.dependant), route.name


def alternatives_of(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for one in schema.get("anyOf", ()):
        yield from alternatives_of(one)
    if "anyOf" not in schema:
        yield schema


def test_every_input_is_bounded(openapi: dict[str, Any]):
    schemas = openapi["components"]["schemas"]
    inputs: dict[str, dict[str, Any]] = {}
    for name, operation in operations_of(openapi):
        for parameter in operation.get("parameters", []):
            inputs[f"{name} {parameter['name']}"] = parameter["schema"]
        for content in operation.get("requestBody", {}).get("content", {}).values():
            body = content["schema"]
            body = schemas[body["$ref"].rpartition("/")[2]] if "$ref" in body else body
            inputs |= {f"{name} {key}": value for key, value in body.get("properties", {}).items()}

    assert len(inputs) > 20
    for name, schema in inputs.items():
        for one in alternatives_of(schema):
            one = schemas[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
            if one["type"] == "string":
                # A file is limited by the body.
                is_format = one.get("format") in ("date-time", "binary")
                is_bound = "maxLength" in one or "enum" in one or is_format
                assert is_bound, name
            elif one["type"] == "integer":
                assert {"minimum", "maximum"} <= one.keys(), name
            elif one["type"] == "array":
                assert "maxItems" in one, name
            else:
                assert one["type"] in ("null", "boolean"), name


def test_serving_does_not_import_large_unused_packages():
    large = ["PIL", "alembic", "defusedxml", "rich", "typer", "yaml", "zxcvbn"]
    script = f"import sys, blog_api.app; print([m for m in {large} if m in sys.modules])"

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ran.stdout == "[]\n"
