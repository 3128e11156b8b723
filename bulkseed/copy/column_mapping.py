"""Conversion of generated values to the types of the target's columns.

Pure functions of a batch and the mappings of the columns, which run before an encoder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Protocol
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.arrays import ConversionError, array_of
from bulkseed.copy.encoders import (
    BINARY_TYPES,
    MICROSECONDS,
    MULTIRANGES,
    RANGES,
    TIME_OF_DAY,
    is_list,
    is_octets,
    list_offsets,
)
from bulkseed.copy.wire_values import (
    LOWER_INCLUDED,
    LOWER_INFINITE,
    UPPER_INFINITE,
    RangeText,
    intervals_of,
    parse_bits,
    parse_bool,
    parse_bytes,
    parse_cidr,
    parse_date,
    parse_decimal,
    parse_inet,
    parse_interval,
    parse_mac,
    parse_mac8,
    parse_multirange,
    parse_range,
    parse_time,
    parse_timestamp,
    parse_timetz,
    parse_tsvector,
    timetz_of,
)
from bulkseed.errors import RunError

__all__ = ["ColumnMapping", "Incompatibility", "Keys", "convert_batch", "find_incompatibility"]

MAX_DIGITS: Final = 38
"""Digits of decimal128."""
WIDE_DIGITS: Final = 76
"""Digits of decimal256."""

COMPOSITE: Final = "composite"

JSON_NAME: Final = "bulkseed.json"
"""The extension type of texts that are JSON already (:data:`bulkseed.arrays.JSON`)."""

STANDARD_UUID: Final = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"

DAY: Final = 86_400_000_000
"""Microseconds of a day."""

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
    ``length`` is the maximum length in characters of a varchar or char, in bits of a varbit, and the length of a bit;
    ``precision`` and ``scale`` are those of a numeric; ``labels`` those of an enumeration; ``attributes`` those of a
    composite type, by name; ``keys`` turns ids into UUIDs. Text goes into json and jsonb as a JSON string, or unchanged
    where it is JSON already (``json="text"``). ``parses`` lets it also become numbers, booleans, dates and times, as
    within ranges and composites.
    """

    source: str
    name: str
    type: str
    array: bool = False
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    labels: tuple[str, ...] | None = None
    attributes: tuple[ColumnMapping, ...] | None = None
    keys: Keys | None = None
    json: Literal["string", "text"] = "string"
    parses: bool = False

    @property
    def kind(self) -> str:
        """The key of BINARY_TYPES; ``composite``; for other types their name."""
        return "enum" if self.labels is not None else self.type if self.attributes is None else COMPOSITE

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
        noun, fix = describe_refusal(arrow_type, mapping)
        return Incompatibility("column-type", f"is of type {mapping}, which cannot take {noun}: {fix}")
    if longest is not None and mapping.length is not None and mapping.length < longest:
        return Incompatibility(
            "column-too-short",
            f"takes {mapping.length} characters, and values have up to {longest}: make it text or varchar({longest})",
        )
    return None


Converter = Callable[[pa.Array], pa.Array]


def convert_column(column: pa.Array, mapping: ColumnMapping, name: str) -> pa.Array:
    if (convert := find_converter(column.type, mapping)) is None:
        noun, fix = describe_refusal(column.type, mapping)
        if not fix.startswith("give "):  # the values are those of a field or a plugin
            fix = f"give values of this type, or {fix}"
        raise RunError(f"the column {name} is of type {mapping}, and cannot take {noun}: {fix}", code="column-type")
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
        elif mapping.parses and mapping.kind in PARSERS and is_text(column.type):
            code, fix = "invalid-value", f"give a value of type {mapping}"
        elif (form := describe_form(mapping)) is not None:
            code, fix = "invalid-value", f"give {form}"
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
        if (made := null_type(mapping)) is None:
            return None
        return lambda column: pa.nulls(len(column), made)
    if is_list(arrow_type) and mapping.kind in MULTIRANGES:
        inner = find_converter(arrow_type.value_type, replace(mapping, type=MULTIRANGES[mapping.kind]))
        return inner and partial(convert_elements, inner)
    if mapping.parses and is_text(arrow_type) and mapping.kind in PARSERS:
        return partial(parse_texts, *PARSERS[mapping.kind], mapping=mapping)
    for accepts, convert in CONVERSIONS.get(mapping.kind, ()):
        if not accepts(arrow_type) or (convert is ids_to_uuids and mapping.keys is None):
            continue
        if convert is parse_composites and mapping.json != "text":
            continue
        return partial(convert, mapping=mapping)
    return None


def convert_after(first: Converter, second: Converter, column: pa.Array) -> pa.Array:
    return second(first(column))


def null_type(mapping: ColumnMapping) -> pa.DataType | None:
    """Return the type of Arrow that the encoders take for a column of nulls; None if they do not know the type."""
    kind = mapping.kind
    if mapping.attributes is not None:
        types = [null_type(attribute) for attribute in mapping.attributes]
        return None if None in types else pa.struct([(str(place), type_) for place, type_ in enumerate(types)])
    if mapping.array:
        element = null_type(replace(mapping, array=False))
        return element and pa.list_(element)
    if kind in RANGES:
        return range_type(null_type(replace(mapping, type=RANGES[kind])))
    if kind in MULTIRANGES:
        return pa.list_(null_type(replace(mapping, type=MULTIRANGES[kind])))
    if kind not in BINARY_TYPES:
        return None
    return {"numeric": pa.decimal128(MAX_DIGITS, 0), "jsonb": pa.string()}.get(kind, BINARY_TYPES[kind].arrow)


def range_type(bound: pa.DataType) -> pa.DataType:
    return pa.struct([("lower", bound), ("upper", bound), ("flags", pa.uint8())])


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


def to_time_of_day(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        moments = to_microseconds(column, mapping)
        days = moments.cast(pa.date32(), safe=False).cast(MICROSECONDS)
        return pc.subtract(moments, days).cast(pa.int64()).cast(TIME_OF_DAY)
    return column.cast(TIME_OF_DAY, safe=False)


def to_timetz(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    return timetz_of(numbers_of(to_time_of_day(column, mapping).view(pa.int64())), column.is_valid())


def numbers_of(column: pa.Array) -> Any:
    return column.fill_null(0).to_numpy(zero_copy_only=False)


def duration_to_interval(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    microseconds = numbers_of(column.cast(pa.duration("us"), safe=column.type.unit != "ns").view(pa.int64()))
    days, rest = np.divmod(microseconds, DAY)
    return intervals_of(rest, days, np.zeros_like(days), column.is_valid())


MONTH_DAY_NANO: Final = np.dtype([("months", np.int32), ("days", np.int32), ("nanoseconds", np.int64)])


def months_to_interval(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    if not len(column):
        return pa.array([], pa.binary())
    offset = column.offset * MONTH_DAY_NANO.itemsize
    table = np.frombuffer(column.buffers()[1], MONTH_DAY_NANO, len(column), offset)
    return intervals_of(table["nanoseconds"] // 1000, table["days"], table["months"], column.is_valid())


def to_octets(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    return column.cast(pa.binary())


def parse_texts(
    parse: Callable[[str], Any], arrow_type: pa.DataType | None, column: pa.Array, mapping: ColumnMapping
) -> pa.Array:
    """Return what ``parse`` returns for each text, which is called once for equal ones."""
    encoded = column.cast(pa.string()).dictionary_encode()
    parsed = pa.array([parse(text) for text in encoded.dictionary.to_pylist()], arrow_type)
    if pa.types.is_null(parsed.type):  # without texts
        return pa.nulls(len(column), null_type(mapping))
    values = parsed.take(encoded.indices)
    return to_decimal(values, mapping) if mapping.kind == "numeric" else values


def parse_bit_texts(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    parse = partial(parse_bits, length=mapping.length, exactly=mapping.kind == "bit")
    return parse_texts(parse, pa.binary(), column, mapping)


def bool_to_bits(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    return parse_bit_texts(column.cast(pa.uint8()).cast(pa.string()), mapping)


def parse_ranges(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    encoded = column.cast(pa.string()).dictionary_encode()
    return make_ranges(map(parse_range, encoded.dictionary.to_pylist()), mapping).take(encoded.indices)


def make_ranges(ranges: Iterable[RangeText], mapping: ColumnMapping) -> pa.Array:
    """Return ranges of the type of ``mapping``. Raises ValueError for a bound that is no value of their subtype."""
    flags, *bounds = zip(*ranges, strict=True) if (ranges := [*ranges]) else ((), (), ())
    lower, upper = (pa.array(texts, pa.string()) for texts in bounds)
    return join_bounds(*convert_bounds(lower, upper, mapping), pa.array(flags, pa.uint8()))


def convert_bounds(lower: pa.Array, upper: pa.Array, mapping: ColumnMapping) -> tuple[pa.Array, pa.Array]:
    """Return the bounds as values of the subtype. Raises ValueError for those that are not."""
    subtype = ColumnMapping(source=mapping.source, name=mapping.name, type=RANGES[mapping.kind], parses=True)
    if pa.types.is_null(lower.type) or pa.types.is_null(upper.type):
        of_type = upper.type if pa.types.is_null(lower.type) else lower.type
        lower, upper = lower.cast(of_type), upper.cast(of_type)
    # together, since the scale of decimals depends on all of them
    bounds = pa.concat_arrays([lower, upper])
    if (convert := find_converter(bounds.type, subtype)) is None:
        raise ValueError("bounds of another type")
    converted = with_zone(convert(bounds), subtype)
    return converted.slice(0, len(lower)), converted.slice(len(lower))


def with_zone(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    """Return a column that is part of a structure: times of timestamptz have a zone there, to be told from others."""
    return column.cast(pa.timestamp("us", "UTC")) if mapping.kind == "timestamptz" and not mapping.array else column


def join_bounds(lower: pa.Array, upper: pa.Array, flags: pa.Array, mask: pa.Array | None = None) -> pa.Array:
    if pc.any(pc.greater(lower, upper)).as_py():
        raise ValueError("the lower bound is above the upper bound")
    return pa.StructArray.from_arrays([lower, upper, flags], fields=[*range_type(lower.type)], mask=mask)


def has_bounds(arrow_type: pa.DataType) -> bool:
    return bool(pa.types.is_struct(arrow_type) and [child.name for child in arrow_type] == ["lower", "upper"])


def bounds_to_ranges(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    """Return structures of two bounds as ranges that include the lower bound, and not the upper one."""
    lower, upper = column.flatten()
    lower, upper = convert_bounds(lower, upper, mapping)
    flags = np.where(lower.is_valid(), LOWER_INCLUDED, LOWER_INFINITE) | np.where(upper.is_valid(), 0, UPPER_INFINITE)
    return join_bounds(lower, upper, pa.array(flags.astype(np.uint8)), column.is_null())


def parse_multiranges(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    encoded = column.cast(pa.string()).dictionary_encode()
    multiranges = [parse_multirange(text) for text in encoded.dictionary.to_pylist()]
    offsets = np.cumsum([0, *map(len, multiranges)])
    of_ranges = replace(mapping, type=MULTIRANGES[mapping.kind])
    ranges = make_ranges((each for ranges in multiranges for each in ranges), of_ranges)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), ranges).take(encoded.indices)


def structs_to_composites(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    """Return structures with the attributes of the composite type; those that they do not have are null."""
    attributes = mapping.attributes or ()
    given = {child.name: values for child, values in zip(column.type, column.flatten(), strict=True)}
    if not given.keys() <= {attribute.name for attribute in attributes}:
        raise ValueError("other attributes")
    children = [
        convert_attribute(given.get(attribute.name, pa.nulls(len(column))), attribute, mapping)
        for attribute in attributes
    ]
    return make_composites(children, column.is_null())


def make_composites(children: Sequence[pa.Array], is_null: pa.Array) -> pa.Array:
    # by number: the names of attributes must not make a range of a composite
    fields = [pa.field(str(place), child.type) for place, child in enumerate(children)]
    return pa.StructArray.from_arrays(children, fields=fields, mask=is_null)


def convert_attribute(column: pa.Array, attribute: ColumnMapping, mapping: ColumnMapping) -> pa.Array:
    return with_zone(convert_column(column, attribute, f"{mapping.name}.{attribute.name}"), attribute)


def parse_composites(column: pa.Array, mapping: ColumnMapping) -> pa.Array:
    """Return composites from JSON: objects of attributes by name, or lists of all attributes in their order."""
    attributes = mapping.attributes or ()
    encoded = column.cast(pa.string()).dictionary_encode()
    objects = [
        read_object(text, [attribute.name for attribute in attributes]) for text in encoded.dictionary.to_pylist()
    ]
    children = []
    for attribute in attributes:
        try:
            values = array_of([each.get(attribute.name) for each in objects])
        except ConversionError as error:
            raise ValueError(error.problem) from error
        children.append(convert_attribute(values, attribute, mapping))
    return make_composites(children, pa.array(np.zeros(len(objects), np.bool_))).take(encoded.indices)


def read_object(text: str, names: Sequence[str]) -> dict[str, Any]:
    given = json.loads(text)
    if isinstance(given, list) and len(given) == len(names):
        return dict(zip(names, given, strict=True))
    if not isinstance(given, dict) or not given.keys() <= {*names}:
        raise ValueError("other attributes")
    return given


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
TEXTS_OF: Final[dict[str, tuple[Callable[[str], Any], pa.DataType]]] = {
    "time": (parse_time, TIME_OF_DAY),
    "timetz": (parse_timetz, pa.binary()),
    "interval": (parse_interval, pa.binary()),
    "inet": (parse_inet, pa.binary()),
    "cidr": (parse_cidr, pa.binary()),
    "macaddr": (parse_mac, pa.binary()),
    "macaddr8": (parse_mac8, pa.binary()),
    "bytea": (parse_bytes, pa.binary()),
    "tsvector": (parse_tsvector, pa.binary()),
}
"""Types that take texts in their input syntax: the function that reads one, and the type of its results."""

PARSERS: Final[dict[str, tuple[Callable[[str], Any], pa.DataType | None]]] = {
    "int2": (int, pa.int16()),
    "int4": (int, pa.int32()),
    "int8": (int, pa.int64()),
    "float4": (float, pa.float32()),
    "float8": (float, pa.float64()),
    "numeric": (parse_decimal, None),
    "bool": (parse_bool, pa.bool_()),
    "date": (parse_date, pa.date32()),
    "timestamp": (parse_timestamp, MICROSECONDS),
    "timestamptz": (parse_timestamp, MICROSECONDS),
}
"""The same for types that take texts only where a mapping ``parses`` them."""


def text_conversion(kind: str) -> Conversion:
    parse, arrow_type = TEXTS_OF[kind]
    return is_text, partial(parse_texts, parse, arrow_type)


def is_time_of_day(arrow_type: pa.DataType) -> bool:
    return bool(pa.types.is_time(arrow_type))


def is_bytes(arrow_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(arrow_type)
        or pa.types.is_large_binary(arrow_type)
        or pa.types.is_fixed_size_binary(arrow_type)
        or pa.types.is_binary_view(arrow_type)
    )


TIMES_OF_DAY: Final = (is_time_of_day, pa.types.is_timestamp)
RANGE: Final[tuple[Conversion, ...]] = ((is_text, parse_ranges), (has_bounds, bounds_to_ranges))
MULTIRANGE: Final[tuple[Conversion, ...]] = ((is_text, parse_multiranges),)

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
    "time": (text_conversion("time"), *((accepts, to_time_of_day) for accepts in TIMES_OF_DAY)),
    "timetz": (text_conversion("timetz"), *((accepts, to_timetz) for accepts in TIMES_OF_DAY)),
    "interval": (
        text_conversion("interval"),
        (pa.types.is_duration, duration_to_interval),
        (pa.types.is_interval, months_to_interval),
    ),
    "bytea": (text_conversion("bytea"), (is_bytes, to_octets)),
    "bit": ((is_text, parse_bit_texts), (pa.types.is_boolean, bool_to_bits)),
    "varbit": ((is_text, parse_bit_texts),),
    **{name: (text_conversion(name),) for name in ("inet", "cidr", "macaddr", "macaddr8", "tsvector")},
    **dict.fromkeys(RANGES, RANGE),
    **dict.fromkeys(MULTIRANGES, MULTIRANGE),
    COMPOSITE: ((pa.types.is_struct, structs_to_composites), (is_text, parse_composites)),
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
    (is_bytes, "bytes", "bytea"),
    (is_time_of_day, "times of day", "time"),
    (pa.types.is_duration, "durations", "interval"),
    (pa.types.is_interval, "durations", "interval"),
)

FORMS: Final = {
    "time": "a time of day such as 17:30:00",
    "timetz": "a time of day such as 17:30:00+02",
    "interval": "an interval such as 90 minutes or 2 days 03:30:00",
    "inet": "an address such as 192.0.2.7 or 2001:db8::7",
    "cidr": "a network such as 192.0.2.0/24, without bits beyond its length",
    "macaddr": "an address such as 08:00:2b:01:02:03",
    "macaddr8": "an address such as 08:00:2b:01:02:03:04:05",
    "bytea": r"hexadecimal digits such as \x00ff, or text without backslashes",
    "tsvector": "lexemes such as 'fat':2 'rat':3A",
    **dict.fromkeys(("int4range", "int8range", "numrange"), "a range such as [1,10)"),
    **dict.fromkeys(("int4multirange", "int8multirange", "nummultirange"), "ranges such as {[1,3),[5,8)}"),
    **dict.fromkeys(("tsrange", "tstzrange", "daterange"), "a range such as [2026-01-01,2026-02-01)"),
    **dict.fromkeys(("tsmultirange", "tstzmultirange", "datemultirange"), "ranges such as {[2026-01-01,2026-02-01)}"),
}
"""How values of further types are written, for messages."""


def describe_form(mapping: ColumnMapping) -> str | None:
    """Return how values of the type are written; None where there is nothing to say about it."""
    if mapping.kind in {"bit", "varbit"}:
        number = (
            ""
            if mapping.length is None
            else f" {mapping.length}"
            if mapping.kind == "bit"
            else f" up to {mapping.length}"
        )
        return f"{number.strip() or 'some'} zeros and ones, such as {'101'[: mapping.length]}"
    if mapping.attributes is not None:
        return f"a table of its attributes {', '.join(attribute.name for attribute in mapping.attributes)}"
    return FORMS.get(mapping.kind)


def describe_refusal(arrow_type: pa.DataType, mapping: ColumnMapping) -> tuple[str, str]:
    """Return a noun for values of ``arrow_type``, which the column cannot take, and the fix."""
    noun, wanted = describe_type(arrow_type)
    form = None if mapping.array else describe_form(mapping)
    return noun, f"make it {wanted}" if form is None else f"give {form}, or make it {wanted}"


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
