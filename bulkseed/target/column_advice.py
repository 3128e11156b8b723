"""What a user can do about a column without changing the app's tables: a line of the scenario."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from bulkseed.plan.tables import Model, Table

if TYPE_CHECKING:
    from bulkseed.copy.column_mapping import ColumnMapping

__all__ = ["leave_out", "toml_key", "with_field"]

BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")

SAMPLES: Final = {
    **dict.fromkeys(("text", "varchar", "bpchar", "citext", "name"), '"faker:word"'),
    **dict.fromkeys(("int2", "int4", "int8"), "{ uniform = [1, 100] }"),
    **dict.fromkeys(("numeric", "float4", "float8"), "{ uniform = [0, 1] }"),
    **dict.fromkeys(("date", "timestamp", "timestamptz"), "{ value = 2026-01-01 }"),
    "bool": "{ choice = [true, false] }",
    "uuid": "{ uuid = 4 }",
    "json": "{ value = {} }",
    "jsonb": "{ value = {} }",
    "time": "{ uniform = [09:00:00, 17:00:00] }",
    "interval": '{ uniform = ["1 minute", "2 hours"] }',
    "inet": '"faker:ipv4"',
    "macaddr": '"faker:mac_address"',
}
"""A field for a column of each type, as TOML."""


def toml_key(name: str) -> str:
    """Return the name as a key of TOML: quoted if need be."""
    return name if BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False)


TEXT_TYPES: Final = {"text", "varchar", "citext"}
ROOM: Final = 24
"""The characters that the longer of the unique texts may need."""


def with_field(table: str, column: str, mapping: ColumnMapping | None, *, unique: bool = False) -> str:
    """Return the advice to fill a column by a field, with an example that fits its type: a clause.

    ``table`` is bulkseed's name, ``column`` the app's. The values of the example differ in each row if ``unique``.
    """
    sample = None
    if mapping is not None and not mapping.array:
        sample = SAMPLES.get(mapping.kind)
        if mapping.labels:
            sample = f"{{ choice = {json.dumps(list(mapping.labels), ensure_ascii=False)} }}"
        if unique:
            has_room = mapping.length is None or mapping.length >= ROOM
            texts = '{ template = "name-{id}" }' if has_room else '{ template = "{id}" }'
            sample = texts if mapping.type in TEXT_TYPES else None
    section = f"in the scenario's [fields.{toml_key(table)}]"
    return f"a field {section}" if sample is None else f"a field such as `{toml_key(column)} = {sample}` {section}"


def leave_out(model: Model, table: Table, column: str, *, filled: bool, mapping: ColumnMapping | None = None) -> str:
    """Return the advice on a column whose type cannot be changed: a clause that follows other advice.

    ``column`` is bulkseed's name. ``filled`` tells whether the app's column is filled where it is left out, or may be
    null; else it needs a field, too.
    """
    section = f"[columns.{toml_key(table.name)}]"
    if model.is_needed(table.name, column):
        return f"or name another column in the scenario's {section}"
    clause = f"or leave it out with `{toml_key(column)} = false` in the scenario's {section}"
    if filled:
        return clause
    is_unique = (column,) in table.unique
    field = with_field(table.name, model.column(table.name, column), mapping, unique=is_unique)
    return f"{clause} and fill it with {field}"
