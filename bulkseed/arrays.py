"""Arrow arrays of Python's values, and texts of Arrow's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "JSON",
    "TIMESTAMP",
    "ConversionError",
    "array_of",
    "in_microseconds",
    "longest_in",
    "python_values",
    "texts_of",
    "times",
]

TIMESTAMP: Final = pa.timestamp("us")
"""Moments, in UTC."""


class JsonText(pa.ExtensionType):  # type: ignore[misc]
    """Text that is JSON: in a column of json it is not one string more, as other texts are."""

    def __init__(self) -> None:
        super().__init__(pa.string(), "bulkseed.json")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> JsonText:
        return cls()


JSON: Final = JsonText()

KINDS: Final = {
    bool: "booleans",
    int: "numbers",
    float: "numbers",
    Decimal: "numbers",
    str: "texts",
    UUID: "texts",
    bytes: "bytes",
    datetime: "datetimes",
    date: "dates",
    time: "times",
    dict: "tables",
    list: "lists",
    tuple: "lists",
}
"""The types of values that a column can have, in the order that ``isinstance`` must be asked in, and their kinds."""


PLAIN: Final = {bool, int, float, str, bytes, date}
"""Types that Arrow takes as they are."""


def times(values: npt.NDArray[np.int64]) -> pa.TimestampArray:
    """Microseconds since 1970 as Arrow timestamps without zone (UTC)."""
    return pa.array(values).view(TIMESTAMP)


class ConversionError(Exception):
    """A value that cannot be one of a column: the place of it, and what is wrong with it."""

    def __init__(self, place: int, problem: str) -> None:
        super().__init__(place, problem)
        self.place, self.problem = place, problem


def array_of(values: Sequence[Any]) -> pa.Array:
    """An Arrow array of ``values``, all of one kind, or None.

    Whole numbers are int64, with fractions among them float64; decimals are float64 too; texts are string, and tables
    are of the type JSON; datetimes are microseconds in UTC; lists have values of one kind. Raises Unfit.
    """
    types = set(map(type, values)) - {type(None)}
    if any(issubclass(each, np.generic) for each in types):
        return array_of([of_numpy(value) if isinstance(value, np.generic) else value for value in values])
    kinds = {each: kind_of(each) for each in types}
    first = next((kinds[type(value)] for value in values if value is not None), None)
    if None in kinds.values() or len(set(kinds.values())) > 1:
        raise conversion_error(values, kinds, first)
    if first == "lists":
        return array_of_lists(values)
    if not types <= PLAIN:
        values = [None if value is None else plain(value, place) for place, value in enumerate(values)]
    try:
        made = pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise ConversionError(0, f"is among values that no column can hold ({error})") from None
    if first == "texts" and (place := pc.index(pc.match_substring(made, "\0"), True).as_py()) >= 0:
        raise ConversionError(place, "has a NUL character, which PostgreSQL's texts cannot hold")
    return JSON.wrap_array(made) if first == "tables" else made


def of_numpy(value: np.generic) -> Any:
    # nanoseconds would become a whole number
    return (value.astype("datetime64[us]") if isinstance(value, np.datetime64) else value).item()


def kind_of(kind: type) -> str | None:
    return next((name for each, name in KINDS.items() if issubclass(kind, each)), None)


def conversion_error(values: Sequence[Any], kinds: Mapping[type, str | None], first: str | None) -> ConversionError:
    for place, value in enumerate(values):
        kind = first if value is None else kinds[type(value)]
        if kind is None:
            return ConversionError(place, f"is of the type {type(value).__name__}, which no column can hold")
        if kind != first:
            return ConversionError(place, f"is one of the {kind}, after {first}")
    raise AssertionError(values)


def plain(value: Any, place: int) -> Any:
    match value:
        case Mapping():
            return json.dumps(value, ensure_ascii=False, default=str)
        case Decimal():
            return float(value)
        case UUID():
            return str(value)
        case time() if value.tzinfo is not None:
            raise ConversionError(place, "is a time of day with a zone, which cannot be kept")
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC).replace(tzinfo=None)
    return value


def array_of_lists(values: Sequence[Any]) -> pa.Array:
    places = [place for place, value in enumerate(values) for _ in value or ()]
    try:
        flat = array_of([each for value in values for each in value or ()])
    except ConversionError as unfit:
        raise ConversionError(places[unfit.place], f"holds a value that {unfit.problem}") from None
    if pa.types.is_list(flat.type):
        raise ConversionError(0, "is a list of lists, which no column can hold")
    ends = np.cumsum([0, *(len(value or ()) for value in values)])
    offsets = pa.array(
        [None if value is None else int(end) for value, end in zip(values, ends, strict=False)] + [int(ends[-1])],
        pa.int32(),
    )
    return pa.ListArray.from_arrays(offsets, flat)


def in_microseconds(array: pa.Array) -> pa.Array:
    """``array``, its times without zone in microseconds where it has any: the same instants in UTC."""
    if not pa.types.is_timestamp(array.type) or array.type == TIMESTAMP:
        return array
    return array.cast(pa.timestamp("us", array.type.tz), safe=False).view(TIMESTAMP)


def texts_of(array: pa.Array) -> pa.StringArray:
    """``array`` as texts: times in ISO 8601 with a space, booleans as ``true`` and ``false``."""
    array = array.storage if array.type == JSON else array
    return array if pa.types.is_string(array.type) else array.cast(pa.string())


def longest_in(array: pa.Array) -> int | None:
    """The most characters of a text of ``array``; None where it has no texts."""
    array = array.storage if array.type == JSON else array
    if not pa.types.is_string(array.type):
        return None
    most: int | None = pc.max(pc.utf8_length(array)).as_py()
    return most or 0


def python_values(array: pa.Array) -> list[Any]:
    """The values of ``array`` as Python has them."""
    if pa.types.is_timestamp(array.type):
        # NumPy makes datetimes some five times quicker than to_pylist
        made: list[Any] = array.to_numpy(zero_copy_only=False).astype("datetime64[us]").tolist()
        return made
    listed: list[Any] = array.to_pylist()
    return listed
