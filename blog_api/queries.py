"""Named queries: what is read most, compiled once and given to the driver itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Dialect, Row, Select
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from blog_api.engines import fetch

# What a type does to a value on its way to the driver, or from there.
Processor = Callable[[Any], Any]
FoundRows = Sequence[Row[*tuple[Any, ...]]]


class NamedQuery:
    """A select that is built once, with its values bound by name.

    SQLAlchemy compiles it and knows its types. What its connection does for each execution, in a
    greenlet of its own, takes a third of the time of a request for one post, so that is left out.
    """

    def __init__(self, statement: Select[*tuple[Any, ...]]) -> None:
        self.statement = statement
        self._compiled: dict[str, CompiledQuery] = {}

    async def read(self, connection: AsyncConnection, values: Mapping[str, Any]) -> FoundRows:
        """The rows with these values bound; raises what `fetch()` does."""
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = CompiledQuery(self.statement, dialect)
        return compiled.rows(await fetch(connection, compiled.sql, compiled.parameters(values)))


class CompiledQuery:
    """A named query in the SQL of a dialect, and how its values and its rows are converted."""

    def __init__(self, statement: Select[*tuple[Any, ...]], dialect: Dialect) -> None:
        self._compiled = statement.compile(dialect=dialect)
        self.sql = str(self._compiled)
        binds = self._compiled.binds
        self._to_driver = [
            (name, adapted(binds[name].type, dialect).bind_processor(dialect))
            for name in self._compiled.positiontup or ()
        ]
        columns = statement.selected_columns
        self._from_driver = [
            (place, processor)
            for place, column in enumerate(columns)
            if (processor := adapted(column.type, dialect).result_processor(dialect, None))
        ]
        self._names = SimpleResultMetaData(list(columns.keys()))

    def parameters(self, values: Mapping[str, Any]) -> list[Any]:
        """All values in the order in which the SQL has them; raises InvalidRequestError where one
        is missing."""
        known = self._compiled.construct_params(values)
        return [
            known[name] if processor is None else processor(known[name])
            for name, processor in self._to_driver
        ]

    def rows(self, records: Sequence[Sequence[Any]]) -> FoundRows:
        found = []
        for record in records:
            row = [*record]
            for place, processor in self._from_driver:
                row[place] = processor(row[place])
            found.append(row)
        return IteratorResult(self._names, iter(found)).all()


def adapted(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """A type as a dialect has it."""
    return type_.dialect_impl(dialect)
