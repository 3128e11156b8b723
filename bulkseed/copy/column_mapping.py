"""Conversion of generated values to the types of the target's columns.

Pure functions of a batch and the mappings of the columns, which run before an encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Protocol
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.copy.encoders import BINARY_TYPES, MICROSECONDS, is_list, is_octets, list_offsets
from bulkseed.errors import RunError

__all__ = ["ColumnMapping", "Incompatibility", "Keys", "convert_batch", "find_incompatibility"]

MAX_DIGITS: Final = 38
"""Digits of decimal128."""
WIDE_DIGITS: Final = 76
"""Digits of decimal256."""

JSON_NAME: Final = "bulkseed.json"
"""The extension type of texts that are JSON already (:data:`bulkseed.arrays.JSON`)."""

STANDARD_UUID: Final = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"

FLOAT_SCALE: Final = 9
"""Decimals of the floats in a column of ``numeric`` without a scale: the same number for all of them."""


class Keys(Protocol):
    """Turns ids into the 16 octets of UUIDs, as :class:`bulkseed.randomness.uuids.Uuids` does."""

    def octets(self, ids: pa.Array) -> pa.Array:
        """Return the UUIDs of ``ids`` (int64) as fixed-size binary of 16 octets; null stays null."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMapping:
    """A column of the target, and the column of a batch (``source``) that fills it.

    ``type`` is ``pg_type.typname`` of the base type, below any domains, and of the elements where it is an ``array``.
    ``length`` is the maximum length in characters of a varchar or char; ``precision`` and ``scale`` are those of a
    numeric; ``labels`` those of an enumeration; ``keys`` turns ids into UUIDs. Text goes into json and jsonb as a JSON
    string, or unchanged where it is JSON already (``json="text"``).
    """

    source: str
    name: str
    type: str
    array: bool = False
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    labels: tuple[str, ...] | None = None
    keys: Keys | None = None
    json: Literal["string", "text"] = "string"

    @property
    def kind(self) -> str:
        """The key of BINARY_TYPES; for other types their name."""
        return "enum" if self.labels is not None else self.type

    def __str__(self) -> str:
        return self.type + "[]" * self.array


def convert_batch(batch: pa.RecordBatch, mappings: Sequence[ColumnMapping], table: str = "batch") -> pa.RecordBatch:
    """Return the columns of ``mappings``, in this order and with their names in the target, converted to its types.

    Text is cut to the column's length, in code points; :func:`find_incompatibility` refuses columns too short for
    values that must not be cut. Times become the date of their day in UTC, and numbers are rounded to the scale of a
    numeric.
    Raises RunError, naming ``table``, for a value that its column cannot take, and for a type without a conversion.
    """
    columns = [convert_column(batch.column(mapping.source), mapping, f"{table}.{mapping.name}") for mapping in mappings]
    return pa.record_batch(columns, names=[mapping.name for mapping in mappings])


class Incompatibility(NamedTuple):
    """The reason why a column cannot take values, with the fix: a clause that follows the column's name."""

    code: str
    clause: str


def find_incompatibility(
    arrow_type: pa.DataType, longest: int | None, mapping: ColumnMapping
) -> Incompatibility | None:
    """Return why values of ``arrow_type`` cannot go into the column of ``mapping``, or None where they can.

    ``longest`` is the maximum length in characters of values that must not be cut, such as those of a unique column;
    None where they may be cut.
    """
    if find_converter(arrow_type, mapping) is None:
        noun, wanted = describe_type(arrow_type)
        return Incompatibility("column-type", f"is of type {mapping}, which cannot take {noun}: make it {wanted}")
    if longest is not None and mapping.length is not None and mapping.length < longest:
        return Incompatibility(
            "column-too-short",
            f"takes {mapping.length} characters, and values have up to {longest}: make it text or varchar({longest})",
        )
    return None


Converter = Callable[[pa.Array], pa.Array]


def convert_column(column: pa.Array, mapping: ColumnMapping, name: str) -> pa.Array:
    if (convert := find_converter(column.type, mapping)) is None:
        noun, wanted = describe_type(column.type)
        raise RunError(
            f"the column {name} is of type {mapping}, and cannot take {noun}: make it {wanted}", code="column-type"
        )
    try:
        return convert(column)
    except (ValueError, OverflowError) as error:  # Arrow's errors of values are ValueErrors
        rows = (column.slice(row, 1) for row in range(len(column)))
        refused = next((row[0] for row in rows if not is_convertible(convert, row)), None)
        # Python cannot show times beyond the years of its datetime
        value = refused.value if isinstance(refused, pa.TimestampScalar) else refused
        code, fix = "value-out-of-range", "change the value, or widen the column"
        if mapping.labels is not None:
            code, fix = "unknown-label", f"give one of {', '.join(mapping.labels)}"
        elif mapping.kind == "uuid":
            code, fix = "invalid-uuid", "give a UUID, or make the column text"
        raise RunError(
            f"the column {name} is of type {mapping}, and cannot take {value!s:.60}: {fix}", code=code
        ) from error


def is_convertible(convert: Converter, row: pa.Array) -> bool:
    try:
        convert(row)
    except (ValueError, OverflowError):
        return False
    return True


def find_converter(arrow_type: pa.DataType, mapping: ColumnMapping) -> Converter | None:
    """Return the function that converts columns of ``arrow_type`` for the encoders, or None where there is none."""
    if isinstance(arrow_type, pa.BaseExtensionType):
        plain = replace(mapping, json="text") if arrow_type.extension_name == JSON_NAME else mapping
        inner = find_converter(arrow_type.storage_type, plain)
        return inner and partial(convert_after, lambda column: column.storage, inner)
    if pa.types.is_dictionary(arrow_type):
        inner = find_converter(arrow_type.value_type, mapping)
        return inner and partial(convert_after, lambda column: column.dictionary_decode(), inner)
    if mapping.array:
        element = replace(mapping, array=False)
        inner = find_converter(arrow_type.value_type if is_list(arrow_type) else pa.null(), element)
        return (
            inner and partial(convert_elements, inner) if is_list(arrow_type) or pa.types.is_null(arrow_type) else None
        )
    if pa.types.is_null(arrow_type):
        return (lambda column: pa.nulls(len(column), null_type(mapping.kind))) if mapping.kind in BINARY_TYPES else None
    for accepts, convert in CONVERSIONS.get(mapping.kind, ()):
        if accepts(arrow_type) and not (convert is ids_to_uuids and mapping.keys is None):
            return partial(convert, mapping=mapping)
    return None


def convert_after(first: Converter, second: Converter, column: pa.Array) -> pa.Array:
    return second(first(column))


def null_type(kind: str) -> pa.DataType:
    return {"numeric": pa.decimal128(MAX_DIGITS, 0), "jsonb": pa.string()}.get(kind, BINARY_TYPES[kind].arrow)


def convert_elements(convert: Converter, column: pa.Array) -> pa.Array:
    if pa.types.is_null(column.type):
        column = column.cast(pa.list_(pa.null()))
    offsets = pa.array(list_offsets(column), pa.int32())
    return pa.ListArray.from_arrays(offsets, convert(column.flatten()), mask=column.is_null())


def keep(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    return column


def narrow(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    return column.cast(BINARY_TYPES[mapping.kind].arrow)


def to_float(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    # Arrow does not round decimals correctly; it does round their text
    plain = column.cast(pa.string()) if pa.types.is_decimal(column.type) else column
    double = plain.cast(pa.float64(), safe=False)
    if mapping.kind == "float4":
        single = double.cast(pa.float32(), safe=False)
        if pc.any(pc.and_not(pc.is_inf(single), pc.is_inf(double))).as_py():
            raise ValueError("beyond the range of float4")
        return single
    return double


def to_decimal(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    """Return the numbers as decimal128, rounded half away from zero as the server does."""
    if pa.types.is_decimal(column.type):
        scale = column.type.scale if mapping.scale is None else mapping.scale
    else:
        scale = FLOAT_SCALE * pa.types.is_floating(column.type) if mapping.scale is None else mapping.scale
    scale = min(max(scale, 0), MAX_DIGITS)
    precision = min(max(mapping.precision or MAX_DIGITS, scale), MAX_DIGITS)
    if pa.types.is_decimal(column.type):
        wide = column.cast(pa.decimal256(WIDE_DIGITS, max(column.type.scale, scale)))
        return pc.round(wide, scale, "half_towards_infinity").cast(pa.decimal128(precision, scale))
    return column.cast(pa.decimal256(WIDE_DIGITS, scale)).cast(pa.decimal128(precision, scale))


def truncate(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    text = column.cast(pa.string())
    if mapping.length is None or (pc.max(pc.utf8_length(text)).as_py() or 0) <= mapping.length:
        return text
    return pc.utf8_slice_codeunits(text, 0, mapping.length)


def check_labels(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    text = column.cast(pa.string())
    known = pc.is_in(text, value_set=pa.array([*(mapping.labels or ()), None], pa.string()))
    if not pc.all(known, min_count=0).as_py():
        raise ValueError("not one of the labels")
    return text


ESCAPES: Final = {chr(code): rf"\u{code:04x}" for code in range(0x20)}
"""The control characters that JSON strings must escape, besides the backslash and the quote (RFC 8259, section 7)."""


def to_json(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    text = column.cast(pa.string())
    if mapping.json == "text":
        return text
    text = pc.replace_substring(pc.replace_substring(text, "\\", r"\\"), '"', r"\"")
    if pc.any(pc.match_substring_regex(text, r"[\x00-\x1f]")).as_py():
        for character, escape in ESCAPES.items():
            text = pc.replace_substring(text, character, escape)
    quote = pa.scalar('"')
    return pc.binary_join_element_wise(quote, text, quote, pa.scalar(""))


def to_text(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    """Return integers and booleans as text, which is JSON."""
    return column.cast(pa.string())


def ids_to_uuids(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    assert mapping.keys is not None
    return mapping.keys.octets(column.cast(pa.int64()))


def parse_uuids(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    # the catalogue of reactions has few ids: each text is parsed once
    encoded = column.cast(pa.string()).dictionary_encode()
    return uuid_octets(encoded.dictionary).take(encoded.indices)


def uuid_octets(texts: pa.Array) -> pa.Array:
    """Return the octets of UUIDs in any form that Python reads; some five times quicker in the standard form."""
    if pc.all(pc.match_substring_regex(texts, STANDARD_UUID)).as_py():
        octets = bytes.fromhex("".join(texts.to_pylist()).replace("-", ""))
        return pa.Array.from_buffers(pa.binary(16), len(texts), [None, pa.py_buffer(octets)])
    return pa.array([UUID(text).bytes for text in texts.to_pylist()], pa.binary(16))


def to_microseconds(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    """Return times in microseconds of UTC, without a time zone."""
    if pa.types.is_date(column.type):
        return column.cast(MICROSECONDS)
    # nanoseconds are cut off; seconds and milliseconds may be out of the range of microseconds
    times = column.cast(pa.timestamp("us", column.type.tz), safe=column.type.unit != "ns")
    return times.view(pa.int64()).view(MICROSECONDS)


def to_days(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    if pa.types.is_date(column.type):
        return column.cast(pa.date32())
    return to_microseconds(column, mapping).cast(pa.date32(), safe=False)


def is_text(arrow_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or pa.types.is_string_view(arrow_type)
    )


Conversion = tuple[Callable[[pa.DataType], Any], Callable[..., pa.Array]]
TEXT: Final[tuple[Conversion, ...]] = ((is_text, truncate),)
JSON: Final[tuple[Conversion, ...]] = (
    (is_text, to_json),
    (pa.types.is_integer, to_text),
    (pa.types.is_boolean, to_text),
)
INTEGER: Final[tuple[Conversion, ...]] = ((pa.types.is_integer, narrow),)
FLOAT: Final[tuple[Conversion, ...]] = (
    (pa.types.is_floating, to_float),
    (pa.types.is_integer, to_float),
    (pa.types.is_decimal, to_float),
)
TIME: Final[tuple[Conversion, ...]] = ((pa.types.is_timestamp, to_microseconds), (pa.types.is_date, to_microseconds))

CONVERSIONS: Final[dict[str, tuple[Conversion, ...]]] = {
    "int2": INTEGER,
    "int4": INTEGER,
    "int8": INTEGER,
    "float4": FLOAT,
    "float8": FLOAT,
    "numeric": tuple((accepts, to_decimal) for accepts, _ in FLOAT),
    "bool": ((pa.types.is_boolean, keep),),
    "text": TEXT,
    "varchar": TEXT,
    "bpchar": TEXT,
    "name": TEXT,
    "citext": TEXT,
    "enum": ((is_text, check_labels),),
    "json": JSON,
    "jsonb": JSON,
    "uuid": ((pa.types.is_integer, ids_to_uuids), (is_octets, keep), (is_text, parse_uuids)),
    "date": ((pa.types.is_date, to_days), (pa.types.is_timestamp, to_days)),
    "timestamp": TIME,
    "timestamptz": TIME,
}
"""The conversions to each type of PostgreSQL (a key of BINARY_TYPES): the types of Arrow accepted, the function."""

NOUNS: Final = (
    (is_list, "lists", "an array"),
    (is_text, "text", "text"),
    (pa.types.is_boolean, "booleans", "boolean"),
    (pa.types.is_integer, "integers", "bigint"),
    (pa.types.is_floating, "floating-point numbers", "double precision"),
    (pa.types.is_decimal, "decimal numbers", "numeric"),
    (pa.types.is_timestamp, "times", "timestamp or timestamptz"),
    (pa.types.is_date, "dates", "date"),
    (is_octets, "UUIDs", "uuid"),
)


def describe_type(arrow_type: pa.DataType) -> tuple[str, str]:
    """Return a noun for values of the type, and the type of PostgreSQL that holds them."""
    if isinstance(arrow_type, pa.BaseExtensionType):
        if arrow_type.extension_name == JSON_NAME:
            return "JSON", "jsonb"
        return describe_type(arrow_type.storage_type)
    for is_kind, noun, wanted in NOUNS:
        if is_kind(arrow_type):
            return noun, wanted
    return f"Arrow's {arrow_type}", "text, and its values too"
