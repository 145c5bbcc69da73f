"""Fill every table of the metadata with rows, whatever tables it has."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    insert,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeDecorator

ROWS = 3
# Beyond those that triggers insert.
FIRST_ID = 1_001


def make_value(column: Column[Any], number: int) -> Any:
    """Return the value of a column in a row, from 0. The last row has null wherever it can."""
    if column.foreign_keys or (column.primary_key and isinstance(column.type, Integer)):
        return FIRST_ID + number
    if column.nullable and number == ROWS - 1:
        return None
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    if isinstance(kind, DateTime):
        return datetime(2026, 1, 31, 23, 59, 59, number, UTC) + timedelta(days=number)
    if isinstance(kind, Boolean):
        return number % 2 == 0
    if isinstance(kind, Integer):
        return number
    if isinstance(kind, JSON):
        return ["ß", 'quoted "text"', "\\"] if column.name == "tags" else {"b": "é", "a": None}
    if isinstance(kind, LargeBinary):
        return bytes([0, 255, number])
    length = getattr(kind, "length", None) or 100
    return f"{number}{column.name}'\"\\é\n🎉"[:length]


def find_self_reference(table: Table) -> Column[Any] | None:
    """Return the column that refers to rows of its own table."""
    for column in table.columns:
        if any(key.column.table is table for key in column.foreign_keys):
            return column
    return None


async def fill_tables(connection: AsyncConnection, metadata: MetaData) -> None:
    """Insert rows; of those that refer to rows of their own table, the first to the last one."""
    for table in metadata.sorted_tables:
        to_itself = find_self_reference(table)
        for number in range(ROWS):
            row = {column.name: make_value(column, number) for column in table.columns}
            if to_itself is not None:
                row[to_itself.name] = None
            await connection.execute(insert(table).values(row))
        if to_itself is not None:
            is_first = table.c.id == FIRST_ID
            values = {to_itself.name: FIRST_ID + ROWS - 1}
            await connection.execute(update(table).where(is_first).values(values))


async def read_tables(connection: AsyncConnection, metadata: MetaData) -> dict[str, list[Any]]:
    """Return the rows of all tables, in the order of their primary keys."""
    return {
        table.name: [
            tuple(row)
            for row in await connection.execute(select(table).order_by(*table.primary_key))
        ]
        for table in metadata.sorted_tables
    }
