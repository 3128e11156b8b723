"""Values made to fit the columns that they go into: what generators make, as the target's own types want it.

Pure functions of a batch and of what is known of the columns, before any encoder sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal, Protocol
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.copy.encoders import BINARY_TYPES, is_listed, is_octets, offsets_of
from bulkseed.errors import RunError

__all__ = ["ColumnMapping", "Keys", "convert_batch", "incompatibility"]

MICROSECONDS: Final = pa.timestamp("us")
MOST_DIGITS: Final = 38
WIDE_DIGITS: Final = 76

JSON_NAME: Final = "bulkseed.json"
"""The extension type of texts that are JSON (:data:`bulkseed.arrays.JSON`)."""

USUAL_UUID: Final = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"

FLOAT_SCALE: Final = 9
"""Decimals of a float in a ``numeric`` without a scale: all values of a column have as many."""


class Keys(Protocol):
    """What turns ids into the 16 octets of UUIDs, such as :class:`bulkseed.uuids.Uuids`."""

    def octets(self, ids: pa.Array) -> pa.Array:
        """Of int64 values; null stays null."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMapping:
    """A column of the target, and the column of a batch (``source``) that fills it.

    ``type`` is ``pg_type.typname`` of the base type, below any domains, and of the elements where it is an ``array``.
    ``length`` is the most characters of a varchar or char; ``precision`` and ``scale`` are numeric's; ``labels`` an
    enumeration's; ``keys`` makes ids UUIDs. Text goes into json and jsonb as a JSON string, or as the JSON that it
    is already (``json="text"``).
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
        """The key of BINARY_TYPES, or else a type that is none of them."""
        return "enum" if self.labels is not None else self.type

    def __str__(self) -> str:
        return self.type + "[]" * self.array


def convert_batch(batch: pa.RecordBatch, mappings: Sequence[ColumnMapping], table: str = "batch") -> pa.RecordBatch:
    """The columns of ``mappings``, in their order and by their names in the target, with values of their types.

    Text is cut to the column's length, by code points: a value that must stay whole is the business of
    :func:`incompatibility`. Times become the date of their UTC day, and numbers are rounded to numeric's scale. Raises
    RunError, naming ``table``, for a value that its column cannot take, and for a column of another kind.
    """
    columns = [convert_column(batch.column(fit.source), fit, f"{table}.{fit.name}") for fit in mappings]
    return pa.record_batch(columns, names=[fit.name for fit in mappings])


def incompatibility(given: pa.DataType, longest: int | None, fit: ColumnMapping) -> str | None:
    """Why values of the Arrow type ``given`` cannot go into a column, and what mends it; None where they can.

    ``longest`` is the most characters of values that must stay whole, such as those of a unique column; None where
    they may be cut. The clause goes after the column's name.
    """
    if converter(given, fit) is None:
        noun, wanted = described(given)
        return f"is of type {fit}, which cannot take {noun}: make it {wanted}"
    if longest is not None and fit.length is not None and fit.length < longest:
        return f"holds {fit.length} characters: it must hold {longest}, so make it text or varchar({longest})"
    return None


Converter = Callable[[pa.Array], pa.Array]


def convert_column(column: pa.Array, fit: ColumnMapping, name: str) -> pa.Array:
    if (convert := converter(column.type, fit)) is None:
        noun, wanted = described(column.type)
        raise RunError(f"the column {name} is of type {fit}, and cannot take {noun}: make it {wanted}")
    try:
        return convert(column)
    except (ValueError, OverflowError) as error:  # Arrow's errors of values are ValueErrors
        wrong = next((column[at] for at in range(len(column)) if not goes(convert, column.slice(at, 1))), None)
        # a time may be beyond what Python can show
        value = wrong.value if isinstance(wrong, pa.TimestampScalar) else wrong
        mend = f"give one of {', '.join(fit.labels)}" if fit.labels is not None else "make another, or widen the column"
        raise RunError(f"the column {name} is of type {fit}, and cannot take {value!s:.60}: {mend}") from error


def goes(convert: Converter, one: pa.Array) -> bool:
    try:
        convert(one)
    except (ValueError, OverflowError):
        return False
    return True


def converter(given: pa.DataType, fit: ColumnMapping) -> Converter | None:
    """What turns a column of the type ``given`` into one that the encoders take for ``fit``; None if nothing does."""
    if isinstance(given, pa.BaseExtensionType):
        plain = replace(fit, json="text") if given.extension_name == JSON_NAME else fit
        inner = converter(given.storage_type, plain)
        return inner and partial(after, inner, lambda column: column.storage)
    if pa.types.is_dictionary(given):
        inner = converter(given.value_type, fit)
        return inner and partial(after, inner, lambda column: column.dictionary_decode())
    if fit.array:
        element = replace(fit, array=False)
        inner = converter(given.value_type if is_listed(given) else pa.null(), element)
        return inner and partial(relisted, inner) if is_listed(given) or pa.types.is_null(given) else None
    if pa.types.is_null(given):
        return (lambda column: pa.nulls(len(column), null_type(fit.kind))) if fit.kind in BINARY_TYPES else None
    for takes, convert in CONVERSIONS.get(fit.kind, ()):
        if takes(given) and not (convert is keyed and fit.keys is None):
            return partial(convert, fit=fit)
    return None


def after(convert: Converter, first: Converter, column: pa.Array) -> pa.Array:
    return convert(first(column))


def null_type(kind: str) -> pa.DataType:
    return {"numeric": pa.decimal128(MOST_DIGITS, 0), "jsonb": pa.string()}.get(kind, BINARY_TYPES[kind].arrow)


def relisted(convert: Converter, column: pa.Array) -> pa.Array:
    """Lists of converted elements."""
    if pa.types.is_null(column.type):
        column = column.cast(pa.list_(pa.null()))
    offsets = pa.array(offsets_of(column), pa.int32())
    return pa.ListArray.from_arrays(offsets, convert(column.flatten()), mask=column.is_null())


def same(column: pa.Array, fit: ColumnMapping) -> pa.Array:
    return column


def narrowed(column: pa.Array, fit: ColumnMapping) -> pa.Array:
    return column.cast(BINARY_TYPES[fit.kind].arrow)


def floated(column: pa.Array, fit: ColumnMapping) -> pa.Array:
    # Arrow does not round decimals correctly, but their text
    plain = column.cast(pa.string()) if pa.types.is_decimal(column.type) else column
    made = plain.cast(pa.float64(), safe=False)
    if fit.kind == "float4":
        single = made.cast(pa.float32(), safe=False)
        if pc.any(pc.and_not(pc.is_inf(single), pc.is_inf(made))).as_py():
            raise ValueError("beyond the range of float4")
        return single
    return made


def numbered(column: pa.Array, fit: ColumnMapping) -> pa.Array:
    """Decimals, rounded half away from zero as the server does."""
    if pa.types.is_decimal(column.type):
        scale = column.type.scale if fit.scale is None else fit.scale
    else:
        scale = FLOAT_SCALE * pa.types.is_floating(column.type) if fit.scale is None else fit.scale
    scale = min(max(scale, 0), MOST_DIGITS)
    precision = min(max(fit.precision or MOST_DIGITS, scale), MOST_DIGITS)
    if pa.types.is_decimal(column.type):
        wide = column.cast(pa.decimal256(WIDE_DIGITS, max(column.type.scale, scale)))
        return pc.round(wide, scale, "half_towards_infinity").cast(pa.decimal128(precision, scale))
    return column.cast(pa.decimal256(WIDE_DIGITS, scale)).cast(pa.decimal128(precision, scale))


def truncate(column: pa.Array, fit: ColumnMapping) -> pa.Array:
    text = column.cast(pa.string())
    if fit.length is None or (pc.max(pc.utf8_length(text)).as_py() or 0) <= fit.length:
        return text
    return pc.utf8_slice_codeunits(text, 0, fit.length)


def labelled(column: pa.Array, fit: ColumnMapping) -> pa.Array:
    text = column.cast(pa.string())
    known = pc.is_in(text, value_set=pa.array([*(fit.labels or ()), None], pa.string()))
    if not pc.all(known, min_count=0).as_py():
        raise ValueError("none of the labels")
    return text


ESCAPES: Final = {chr(code): rf"\u{code:04x}" for code in range(0x20)}
"""What JSON wants escaped in a string (RFC 8259, section 7), besides the backslash and the quote."""


def as_json(column: pa.Array, fit: ColumnMapping) -> pa.Array:
    text = column.cast(pa.string())
    if fit.json == "text":
        return text
    text = pc.replace_substring(pc.replace_substring(text, "\\", r"\\"), '"', r"\"")
    if pc.any(pc.match_substring_regex(text, r"[\x00-\x1f]")).as_py():
        for character, escape in ESCAPES.items():
            text = pc.replace_substring(text, character, escape)
    quote = pa.scalar('"')
    return pc.binary_join_element_wise(quote, text, quote, pa.scalar(""))


def as_text(column: pa.Array, fit: ColumnMapping) -> pa.Array:
    """Integers and booleans, whose text is JSON."""
    return column.cast(pa.string())


def keyed(column: pa.Array, fit: ColumnMapping) -> pa.Array:
    assert fit.keys is not None
    return fit.keys.octets(column.cast(pa.int64()))


def parsed(column: pa.Array, fit: ColumnMapping) -> pa.Array:
    # a catalogue has few: each text is read once
    encoded = column.cast(pa.string()).dictionary_encode()
    return octets_of(encoded.dictionary).take(encoded.indices)


def octets_of(texts: pa.Array) -> pa.Array:
    """UUIDs in any form that Python reads; some five times quicker where all have the usual one."""
    if pc.all(pc.match_substring_regex(texts, USUAL_UUID)).as_py():
        octets = bytes.fromhex("".join(texts.to_pylist()).replace("-", ""))
        return pa.Array.from_buffers(pa.binary(16), len(texts), [None, pa.py_buffer(octets)])
    return pa.array([UUID(text).bytes for text in texts.to_pylist()], pa.binary(16))


def instants(column: pa.Array, fit: ColumnMapping) -> pa.Array:
    """Microseconds in UTC, without a zone."""
    if pa.types.is_date(column.type):
        return column.cast(MICROSECONDS)
    # a nanosecond is cut off; a second or millisecond may be beyond what microseconds reach
    whole = column.cast(pa.timestamp("us", column.type.tz), safe=column.type.unit != "ns")
    return whole.view(pa.int64()).view(MICROSECONDS)


def days(column: pa.Array, fit: ColumnMapping) -> pa.Array:
    if pa.types.is_date(column.type):
        return column.cast(pa.date32())
    return instants(column, fit).cast(pa.date32(), safe=False)


def is_text(given: pa.DataType) -> bool:
    return bool(pa.types.is_string(given) or pa.types.is_large_string(given) or pa.types.is_string_view(given))


Conversion = tuple[Callable[[pa.DataType], Any], Callable[..., pa.Array]]
TEXT: Final[tuple[Conversion, ...]] = ((is_text, truncate),)
JSON: Final[tuple[Conversion, ...]] = (
    (is_text, as_json),
    (pa.types.is_integer, as_text),
    (pa.types.is_boolean, as_text),
)
INTEGER: Final[tuple[Conversion, ...]] = ((pa.types.is_integer, narrowed),)
FLOAT: Final[tuple[Conversion, ...]] = (
    (pa.types.is_floating, floated),
    (pa.types.is_integer, floated),
    (pa.types.is_decimal, floated),
)
TIME: Final[tuple[Conversion, ...]] = ((pa.types.is_timestamp, instants), (pa.types.is_date, instants))

CONVERSIONS: Final[dict[str, tuple[Conversion, ...]]] = {
    "int2": INTEGER,
    "int4": INTEGER,
    "int8": INTEGER,
    "float4": FLOAT,
    "float8": FLOAT,
    "numeric": tuple((takes, numbered) for takes, _ in FLOAT),
    "bool": ((pa.types.is_boolean, same),),
    "text": TEXT,
    "varchar": TEXT,
    "bpchar": TEXT,
    "name": TEXT,
    "citext": TEXT,
    "enum": ((is_text, labelled),),
    "json": JSON,
    "jsonb": JSON,
    "uuid": ((pa.types.is_integer, keyed), (is_octets, same), (is_text, parsed)),
    "date": ((pa.types.is_date, days), (pa.types.is_timestamp, days)),
    "timestamp": TIME,
    "timestamptz": TIME,
}
"""Which types of Arrow go into a type of PostgreSQL (a key of BINARY_TYPES), and how."""

NOUNS: Final = (
    (is_listed, "lists", "an array"),
    (is_text, "text", "text"),
    (pa.types.is_boolean, "booleans", "boolean"),
    (pa.types.is_integer, "integers", "bigint"),
    (pa.types.is_floating, "floating-point numbers", "double precision"),
    (pa.types.is_decimal, "decimal numbers", "numeric"),
    (pa.types.is_timestamp, "times", "timestamp or timestamptz"),
    (pa.types.is_date, "dates", "date"),
    (is_octets, "UUIDs", "uuid"),
)


def described(given: pa.DataType) -> tuple[str, str]:
    """What values of a type are called, and the type of PostgreSQL that holds them."""
    if isinstance(given, pa.BaseExtensionType):
        return ("JSON", "jsonb") if given.extension_name == JSON_NAME else described(given.storage_type)
    for is_kind, noun, wanted in NOUNS:
        if is_kind(given):
            return noun, wanted
    return f"Arrow's {given}", "text, and its values too"
