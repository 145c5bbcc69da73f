"""Rules about the code that a reviewer would otherwise have to remember."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.params import Form
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from sqlalchemy import inspect, text
from sqlmodel import SQLModel

import blog_api
from blog_api.accounts.auth import get_auth, get_optional_auth
from blog_api.app import create_app
from blog_api.core.settings import Settings
from blog_api.db.base import TableBase
from blog_api.db.session import UNSEEN_TABLES, get_session
from blog_api.models import TABLES
from tests.conftest import CHEAP, make_settings

PACKAGE = Path(blog_api.__file__).parent
README = (PACKAGE.parent / "README.md").read_text()
MAX_LINES = 400


@pytest.fixture(scope="module")
def built() -> FastAPI:
    """An application that is never started."""
    return create_app(make_settings(database_url="sqlite://", **CHEAP))


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


def test_packages_import_only_the_layers_below_them():
    """The contracts stand in `pyproject.toml`."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]

    ran = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout


def test_the_index_of_models_lists_every_table():
    assert {inspect(table).local_table for table in TABLES} == set(TableBase.metadata.sorted_tables)


def test_every_table_stands_in_the_models_of_its_package():
    for mapper in TableBase._sa_registry.mappers:
        assert mapper.class_.__module__.endswith(".models"), mapper.class_


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


def test_no_module_is_crowded():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= MAX_LINES, path.name


def test_the_docstring_of_a_module_begins_with_a_summary_line():
    for path in PACKAGE.rglob("*.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        summary, *rest = docstring.split("\n")

        assert len(summary) > 10 and summary.endswith("."), path
        assert not rest or rest[0] == "", path


def test_every_setting_stands_in_the_readme():
    for field in Settings.model_fields:
        assert f"| `BLOG_{field.upper()}`" in README, field


def test_every_relationship_says_how_it_loads():
    for mapper in TableBase._sa_registry.mappers:
        for relationship in mapper.relationships:
            assert relationship.lazy in {"joined", "selectin", "raise"}, relationship


def test_every_table_has_a_plural_name():
    for table in TableBase.metadata.sorted_tables:
        assert table.name.endswith("s"), table.name


def test_the_names_of_problems_never_change(openapi: dict[str, Any]):
    """Clients compare them; a class that is renamed must not rename its problem."""
    schemas = openapi["components"]["schemas"].values()
    types = [schema.get("properties", {}).get("type", {}).get("const", "") for schema in schemas]
    urns = {name for name in types if name.startswith("urn:")}

    assert urns == {
        "urn:blog-api:bad-request",
        "urn:blog-api:cannot-follow-self",
        "urn:blog-api:comment-not-found",
        "urn:blog-api:conflict",
        "urn:blog-api:content-too-large",
        "urn:blog-api:email-taken",
        "urn:blog-api:inactive-user",
        "urn:blog-api:incorrect-credentials",
        "urn:blog-api:incorrect-log-in",
        "urn:blog-api:incorrect-password",
        "urn:blog-api:insufficient-scope",
        "urn:blog-api:invalid-grant",
        "urn:blog-api:invalid-grant-request",
        "urn:blog-api:invalid-scope",
        "urn:blog-api:invalid-token",
        "urn:blog-api:last-admin",
        "urn:blog-api:not-authenticated",
        "urn:blog-api:not-found",
        "urn:blog-api:not-ready",
        "urn:blog-api:not-your-comment",
        "urn:blog-api:not-your-post",
        "urn:blog-api:post-gone",
        "urn:blog-api:post-not-found",
        "urn:blog-api:precondition-failed",
        "urn:blog-api:service-unavailable",
        "urn:blog-api:thread-too-deep",
        "urn:blog-api:token-not-found",
        "urn:blog-api:too-many-requests",
        "urn:blog-api:unsupported-grant-type",
        "urn:blog-api:user-not-found",
        "urn:blog-api:validation-failed",
    }


def test_every_route_has_a_sentence_and_a_name_of_its_own(openapi: dict[str, Any]):
    operations = [operation for _, operation in operations_of(openapi)]
    tags = {tag["name"] for tag in openapi["tags"]}

    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation.get("description", "").endswith("."), operation["operationId"]
        assert set(operation.get("tags", [""])) <= tags, operation["operationId"]


def test_every_route_lists_its_problems(built: FastAPI, openapi: dict[str, Any]):
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
        if get_optional_auth in calls:
            assert "InactiveUser" in str(operation["responses"].get("400")), route.name
            assert "InvalidToken" in str(operation["responses"].get("401")), route.name
        if get_auth in calls:
            assert "NotAuthenticated" in str(operation["responses"].get("401")), route.name

        assert expected <= operation["responses"].keys(), route.name


def test_every_problem_in_the_documentation_is_a_problem_document(openapi: dict[str, Any]):
    for name, operation in operations_of(openapi):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert response["content"].keys() == {"application/problem+json"}, name


def test_no_body_is_a_table_and_each_forbids_unknown_fields(built: FastAPI):
    bodies = [(route, body) for route in routes_of(built) for body in route.dependant.body_params]

    assert len(bodies) > 8
    for route, body in bodies:
        model = body.field_info.annotation
        assert isinstance(model, type) and issubclass(model, SQLModel), route.name
        assert not model.model_config.get("table"), route.name
        # SQLModel's own `__init__` breaks on a field named `cls`: see `RequestModel`.
        assert not model.__pydantic_custom_init__, route.name
        assert isinstance(body.field_info, Form) or model.model_config.get("extra") == "forbid"


def test_nothing_that_comes_in_is_without_a_bound(openapi: dict[str, Any]):
    schemas = openapi["components"]["schemas"]
    inputs: dict[str, dict[str, Any]] = {}
    for name, operation in operations_of(openapi):
        for parameter in operation.get("parameters", []):
            inputs[f"{name} {parameter['name']}"] = parameter["schema"]
        for content in operation.get("requestBody", {}).get("content", {}).values():
            body = schemas[content["schema"]["$ref"].rpartition("/")[2]]
            inputs |= {f"{name} {key}": value for key, value in body["properties"].items()}

    assert len(inputs) > 20
    for name, schema in inputs.items():
        for one in schema.get("anyOf", [schema]):
            one = schemas[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
            if one["type"] == "string":
                is_bound = "maxLength" in one or "enum" in one or one.get("format") == "date-time"
                assert is_bound, name
            elif one["type"] == "integer":
                assert {"minimum", "maximum"} <= one.keys(), name
            elif one["type"] == "array":
                assert "maxItems" in one, name
            else:
                assert one["type"] in ("null", "boolean"), name


async def test_every_table_that_readers_see_tells_of_its_changes(app: FastAPI):
    """Other workers keep answers; a table that they do not hear of would be shown as it was."""
    if app.state.settings.is_sqlite:
        # The file tells of every change.
        return
    async with app.state.database.engine.connect() as connection:
        found = await connection.execute(
            text("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'notify_of_change'")
        )
        telling = set(found.scalars())

    seen = {table.name for table in TableBase.metadata.sorted_tables} - UNSEEN_TABLES
    # These change with the posts that they belong to.
    assert telling == seen - {"post_counts", "slugs", "tags"}


def test_serving_imports_nothing_that_it_does_not_use():
    large = ["alembic", "defusedxml", "rich", "typer", "yaml", "zxcvbn"]
    script = f"import sys, blog_api.app; print([m for m in {large} if m in sys.modules])"

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ran.stdout == "[]\n"
