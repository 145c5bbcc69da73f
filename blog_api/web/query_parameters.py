"""The query parameters of the GET routes, which belong to the keys of the response cache."""

from collections.abc import Sequence

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel
from starlette.routing import BaseRoute


def find_query_parameters(routes: Sequence[BaseRoute]) -> frozenset[str]:
    """Return the names of all query parameters of the GET routes; none of them is a list."""
    names: set[str] = set()
    for route in iter_route_contexts(routes):
        if isinstance(route.original_route, APIRoute) and "GET" in (route.methods or ()):
            names |= find_parameter_names(route.dependant)
    return frozenset(names)


def find_parameter_names(dependant: Dependant) -> set[str]:
    """Return the names of the query parameters of a route or dependency and of its dependencies."""
    names = set().union(*(find_parameter_names(one) for one in dependant.dependencies))
    for field in dependant.query_params:
        model = field.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            names |= model.model_fields.keys()
        else:
            names.add(field.alias)
    return names
