"""SQL functions that both databases have under different names."""

from datetime import datetime
from typing import Any

from sqlalchemy import Integer, String, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction
from sqlmodel import UTCDateTime


class utf8_length(GenericFunction[int]):
    """The number of bytes of a text in UTF-8."""

    type = Integer()
    inherit_cache = True


@compiles(utf8_length)
def compile_utf8_length(element: utf8_length, compiler: Any, **options: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **options)})"


# SQLite has `octet_length()` since 3.43.
@compiles(utf8_length, "sqlite")
def compile_utf8_length_on_sqlite(element: utf8_length, compiler: Any, **options: Any) -> str:
    return f"length(CAST({compiler.process(element.clauses, **options)} AS BLOB))"


class text_position(GenericFunction[int]):
    """The position of a text in another, from 1, by exact comparison; 0 if it is not in it."""

    type = Integer()
    inherit_cache = True


@compiles(text_position)
def compile_text_position(element: text_position, compiler: Any, **options: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **options)})"


@compiles(text_position, "sqlite")
def compile_text_position_on_sqlite(element: text_position, compiler: Any, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)})"


class json_values(GenericFunction[Any]):
    """The values of a JSON array, after `IN`: one parameter for any number of them.

    Their type is given as `type_`.
    """

    inherit_cache = True


@compiles(json_values)
def compile_json_values(element: json_values, compiler: Any, **options: Any) -> str:
    array = compiler.process(element.clauses, **options)
    value_type = compiler.dialect.type_compiler_instance.process(element.type)
    return f"(SELECT value::{value_type} FROM json_array_elements_text(CAST({array} AS JSON)))"


@compiles(json_values, "sqlite")
def compile_json_values_on_sqlite(element: json_values, compiler: Any, **options: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(element.clauses, **options)}))"


class next_id(GenericFunction[int]):
    """The id of the next row of a table, for an INSERT that uses it in other columns too."""

    type = Integer()
    inherit_cache = True

    def __init__(self, table: str) -> None:
        super().__init__(literal(table, String))


@compiles(next_id)
def compile_next_id(element: next_id, compiler: Any, **options: Any) -> str:
    return f"nextval(pg_get_serial_sequence({compiler.process(element.clauses, **options)}, 'id'))"


@compiles(next_id, "sqlite")
def compile_next_id_on_sqlite(element: next_id, compiler: Any, **options: Any) -> str:
    table = compiler.process(element.clauses, **options)
    return f"coalesce((SELECT seq FROM sqlite_sequence WHERE name = {table}), 0) + 1"


class later_time(GenericFunction[datetime]):
    """The later one of two times."""

    type = UTCDateTime()
    inherit_cache = True


@compiles(later_time)
def compile_later_time(element: later_time, compiler: Any, **options: Any) -> str:
    return f"greatest({compiler.process(element.clauses, **options)})"


# Times are texts of one format.
@compiles(later_time, "sqlite")
def compile_later_time_on_sqlite(element: later_time, compiler: Any, **options: Any) -> str:
    return f"max({compiler.process(element.clauses, **options)})"
