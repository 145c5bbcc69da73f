"""Shared field types in OpenAPI."""

from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Form, Query
from sqlmodel import Field

from blog_api.core.fields import LINE_PATTERN, PathId, RequestModel, Timestamp, Title


class Fields(RequestModel):
    plain: Title
    with_default: Title = Field(default="Hello")
    described: Title = Field(description="Title of the page.")
    optional: Timestamp | None = Field(default=None, description="Null: never.")


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    app = FastAPI()

    @app.post("/form/{page_id}")
    async def rename_page(page_id: PathId, form: Annotated[Fields, Form()]) -> str:
        return f"{page_id}: {form.plain}"

    @app.get("/query")
    async def find_page(query: Annotated[Fields, Query()]) -> str:
        return query.plain

    return app.openapi()


@pytest.fixture
def properties(openapi: dict[str, Any]) -> dict[str, dict[str, Any]]:
    properties: dict[str, dict[str, Any]] = openapi["components"]["schemas"]["Fields"]["properties"]
    return properties


@pytest.mark.parametrize("name", ["plain", "with_default"])
def test_a_type_describes_its_fields(properties: dict[str, dict[str, Any]], name: str):
    assert properties[name]["description"] == "Title, one line."
    assert properties[name]["examples"] == ["Hello, World"]
    assert properties[name]["pattern"] == LINE_PATTERN


def test_the_description_of_a_field_takes_precedence(properties: dict[str, dict[str, Any]]):
    assert properties["described"]["description"] == "Title of the page."
    assert properties["described"]["examples"] == ["Hello, World"]
    assert properties["optional"]["description"] == "Null: never."


def test_parameters_are_described(openapi: dict[str, Any]):
    (page_id,) = openapi["paths"]["/form/{page_id}"]["post"]["parameters"]
    parameters = {one["name"]: one for one in openapi["paths"]["/query"]["get"]["parameters"]}

    assert page_id["description"] == "Numeric id of the resource."
    assert parameters["plain"]["schema"]["description"] == "Title, one line."
    assert parameters["described"]["description"] == "Title of the page."
