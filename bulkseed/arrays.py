"""Conversions between Python values and Arrow arrays, and of Arrow arrays to text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
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
"""The type of timestamps: microseconds, in UTC, without a zone."""


class JsonText(pa.ExtensionType):  # type: ignore[misc]
    """Text that is JSON: for a column of type json it is a document, where other text would be a string in one."""

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
    IPv4Address: "texts",
    IPv4Network: "texts",
    IPv6Address: "texts",
    IPv6Network: "texts",
    bytes: "bytes",
    datetime: "datetimes",
    date: "dates",
    time: "times",
    timedelta: "durations",
    dict: "tables",
    list: "lists",
    tuple: "lists",
}
"""The types of values that a column can hold, and their kinds; subclasses come before their base classes."""

RANGE: Final = ("lower", "upper", "lower_inc", "upper_inc", "isempty")
"""The attributes of a range, as the classes of asyncpg and psycopg have them."""


PLAIN: Final = {bool, int, float, str, bytes, date, timedelta}
"""Types that Arrow accepts unchanged."""


def times(values: npt.NDArray[np.int64]) -> pa.TimestampArray:
    """Return microseconds since 1970 as Arrow timestamps without a zone (UTC)."""
    return pa.array(values).view(TIMESTAMP)


class ConversionError(Exception):
    """A value that a column cannot hold: ``place``, its index among the values, and the ``problem``."""

    def __init__(self, place: int, problem: str) -> None:
        super().__init__(place, problem)
        self.place, self.problem = place, problem


def array_of(values: Sequence[Any]) -> pa.Array:
    """Return an Arrow array of ``values``, all of one kind or None.

    Integers become int64, or float64 if there are fractions among them; decimals become float64; texts become string,
    as UUIDs, addresses, ranges and times of day with a zone do; mappings become JSON, as tuples of several kinds of
    values do; datetimes become microseconds in UTC. Lists must have values of one kind. Raises ConversionError
    for a value that no column can hold, and for one of another kind than the values before it.
    """
    types = set(map(type, values)) - {type(None)}
    if any(issubclass(type_, np.generic) for type_ in types):
        return array_of([from_numpy(value) if isinstance(value, np.generic) else value for value in values])
    kinds = {type_: kind_of(type_) for type_ in types}
    first = next((kinds[type(value)] for value in values if value is not None), None)
    if None in kinds.values() or len(set(kinds.values())) > 1:
        raise conversion_error(values, kinds, first)
    if first == "lists":
        return array_of_tuples(values) if is_mixed(values) else array_of_lists(values)
    if first == "times" and any(value is not None and value.utcoffset() is not None for value in values):
        return array_of([None if value is None else value.isoformat() for value in values])
    if not types <= PLAIN:
        values = [None if value is None else to_plain(value, index) for index, value in enumerate(values)]
    try:
        array = pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise ConversionError(0, f"is among values that no column can hold ({error})") from error
    if first == "texts" and (index := pc.index(pc.match_substring(array, "\0"), True).as_py()) >= 0:
        raise ConversionError(index, "has a NUL character, which PostgreSQL's texts cannot hold")
    return JSON.wrap_array(array) if first == "tables" else array


def from_numpy(value: np.generic) -> Any:
    # item() of nanoseconds is an int, that of microseconds a datetime
    return (value.astype("datetime64[us]") if isinstance(value, np.datetime64) else value).item()


def kind_of(type_: type) -> str | None:
    is_range = all(hasattr(type_, attribute) for attribute in RANGE)
    return "texts" if is_range else next((kind for base, kind in KINDS.items() if issubclass(type_, base)), None)


def conversion_error(values: Sequence[Any], kinds: Mapping[type, str | None], first: str | None) -> ConversionError:
    for index, value in enumerate(values):
        kind = first if value is None else kinds[type(value)]
        if kind is None:
            return ConversionError(index, f"is of the type {type(value).__name__}, which no column can hold")
        if kind != first:
            return ConversionError(index, f"is one of the {kind}, after {first}")
    raise AssertionError(values)


def to_plain(value: Any, index: int) -> Any:
    match value:
        case Mapping():
            return json.dumps(value, ensure_ascii=False, default=text_of)
        case Decimal():
            return float(value)
        case UUID() | IPv4Address() | IPv4Network() | IPv6Address() | IPv6Network():
            return str(value)
        case time() if value.tzinfo is not None:
            raise ConversionError(index, "is a time of day with a zone, which cannot be kept")
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC).replace(tzinfo=None)
        case time() | datetime() | list() | tuple() | bytes() | str() | int() | float():
            return value
    return text_of_range(value) if kind_of(type(value)) == "texts" else value


def text_of(value: Any) -> str:
    """Return the text of a value that JSON does not have, which PostgreSQL's input functions take."""
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, timedelta):
        return f"{value.days} days {value.seconds + value.microseconds / 1_000_000:f} seconds"
    return text_of_range(value) if all(hasattr(value, attribute) for attribute in RANGE) else str(value)


def text_of_range(value: Any) -> str:
    """Return the text of a range, such as ``["1","5")``."""
    if value.isempty:
        return "empty"
    lower, upper = (
        "" if bound is None else '"' + str(bound).replace("\\", "\\\\").replace('"', r"\"") + '"'
        for bound in (value.lower, value.upper)
    )
    return f"{'[' if value.lower_inc else '('}{lower},{upper}{']' if value.upper_inc else ')'}"


def is_mixed(values: Sequence[Any]) -> bool:
    """Return whether the values are tuples of several kinds of values, as composites may be."""
    tuples = [value for value in values if value is not None]
    return all(isinstance(value, tuple) for value in tuples) and any(
        len({kind_of(type(each)) for each in value if each is not None}) > 1 for value in tuples
    )


def array_of_tuples(values: Sequence[Any]) -> pa.Array:
    texts = [None if value is None else json.dumps(value, ensure_ascii=False, default=text_of) for value in values]
    return JSON.wrap_array(pa.array(texts, pa.string()))


def array_of_lists(values: Sequence[Any]) -> pa.Array:
    indexes = [index for index, value in enumerate(values) for _ in value or ()]
    try:
        flat = array_of([element for value in values for element in value or ()])
    except ConversionError as error:
        raise ConversionError(indexes[error.place], f"holds a value that {error.problem}") from error
    if pa.types.is_list(flat.type):
        raise ConversionError(0, "is a list of lists, which no column can hold")
    ends = np.cumsum([0, *(len(value or ()) for value in values)])
    offsets = pa.array(
        [None if value is None else int(end) for value, end in zip(values, ends, strict=False)] + [int(ends[-1])],
        pa.int32(),
    )
    return pa.ListArray.from_arrays(offsets, flat)


def in_microseconds(array: pa.Array) -> pa.Array:
    """Return ``array``; timestamps become microseconds in UTC without a zone, other types stay as they are."""
    if not pa.types.is_timestamp(array.type) or array.type == TIMESTAMP:
        return array
    return array.cast(pa.timestamp("us", array.type.tz), safe=False).view(TIMESTAMP)


def texts_of(array: pa.Array) -> pa.StringArray:
    """Return ``array`` as texts: times in ISO 8601 with a space, booleans as ``true`` and ``false``."""
    array = array.storage if array.type == JSON else array
    return array if pa.types.is_string(array.type) else array.cast(pa.string())


def longest_in(array: pa.Array) -> int | None:
    """Return the length of the longest text of ``array``, in characters; None if it is not an array of texts."""
    array = array.storage if array.type == JSON else array
    if not pa.types.is_string(array.type):
        return None
    most: int | None = pc.max(pc.utf8_length(array)).as_py()
    return most or 0


def python_values(array: pa.Array) -> list[Any]:
    """Return the values of ``array`` as Python objects."""
    if pa.types.is_timestamp(array.type):
        # NumPy creates datetimes about five times as fast as to_pylist
        times: list[Any] = array.to_numpy(zero_copy_only=False).astype("datetime64[us]").tolist()
        return times
    values: list[Any] = array.to_pylist()
    return values
