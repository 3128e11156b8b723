"""The encoders without a database: the bytes that a server would get, and the values that are refused before."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkseed.copy.encoders import (
    BINARY_TYPES,
    MULTIRANGES,
    RANGES,
    WIRE_TYPES,
    ArrayOf,
    Chunk,
    Record,
    Type,
    encode_binary,
    encode_numeric,
    encode_records,
)
from bulkseed.errors import RunError
from bulkseed.plan.plan import EPOCH, Plan, microseconds
from bulkseed.plan.tables import TABLES
from support.errors import raises
from support.generated_rows import batches_of

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
EPOCH_OF_POSTGRES = datetime(2000, 1, 1, tzinfo=UTC)
AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
TYPE_OF = {"integer": "int8", "text": "text", "boolean": "bool", "timestamp": "timestamp"}
RANGE = pa.struct([("lower", pa.int32()), ("upper", pa.int32()), ("flags", pa.uint8())])
INTEGERS = {"int2": (16, ">h"), "int4": (32, ">i"), "int8": (64, ">q")}


def value_of(data: bytes, type_name: str) -> Any:
    if type_name in INTEGERS:
        return struct.unpack(INTEGERS[type_name][1], data)[0]
    if type_name == "bool":
        return {b"\0": False, b"\1": True}[data]
    if type_name == "[]":
        dimensions, _, _, size, bound = struct.unpack(">5i", data[:20])
        assert (dimensions, bound, data[20:]) == (1, 1, b"\xff" * 4 * size)
        return [None] * size
    if type_name.startswith("timestamp"):
        return (EPOCH_OF_POSTGRES + timedelta(microseconds=struct.unpack(">q", data)[0])).replace(tzinfo=None)
    return data.decode()


def decoded(data: bytes, types: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of COPY's binary format, as its documentation describes it."""
    assert data.startswith(HEADER)
    at = len(HEADER)

    def take(length: int) -> bytes:
        nonlocal at
        at += length
        assert at <= len(data)
        return data[at - length : at]

    while (fields := take(2)) != TRAILER:
        assert fields == struct.pack(">h", len(types))
        row = []
        for type_name in types:
            (length,) = struct.unpack(">i", take(4))
            row.append(None if length == -1 else value_of(take(length), type_name))
        yield tuple(row)
    assert at == len(data)


def whole(chunks: Sequence[Chunk]) -> bytes:
    return b"".join(chunk.data for chunk in chunks)


def one(value: Any, arrow: pa.DataType) -> pa.RecordBatch:
    return pa.record_batch([pa.array([value], arrow)], names=["x"])


def test_a_workspace_in_binary_is_its_tuples() -> None:
    for table in TABLES:
        types = {column.name: TYPE_OF[column.kind] for column in table.columns}
        batches = batches_of(Plan(users=50, channels=20, messages_per_channel=30, as_of=AS_OF))[table.name]
        chunks = [*encode_binary(batches, types, table.name)]
        expected = [row for batch in batches for row in encode_records(batch)]
        assert sum(chunk.rows for chunk in chunks) == len(expected) > 0
        assert list(decoded(whole(chunks), [*types.values()])) == expected


@pytest.mark.parametrize("batches", [[], [one(1, pa.int64()).slice(1)]], ids=["no batch", "an empty batch"])
def test_no_rows_are_a_header_and_a_trailer(batches: list[pa.RecordBatch]) -> None:
    chunks = [*encode_binary(batches, {"x": "int8"}, "t")]
    assert whole(chunks) == HEADER + TRAILER
    assert sum(chunk.rows for chunk in chunks) == 0


@given(st.lists(st.integers(0, 300), max_size=12), st.sampled_from([0, 10, 9000]))
def test_each_row_is_in_a_chunk_that_says_so(sizes: list[int], width: int) -> None:
    batches = [pa.record_batch([pa.array(["x" * width] * size, pa.string())], names=["x"]) for size in sizes]
    rows = 0
    for chunk in encode_binary(batches, {"x": "text"}, "t"):
        rows += chunk.rows
        if chunk.rows:
            assert chunk.data
    assert rows == sum(sizes)


def test_a_batch_over_a_mebibyte_goes_at_once() -> None:
    texts = [chr(0x1F600 + number % 50) * 500 for number in range(2000)]
    batch = pa.record_batch([pa.array(texts)], names=["x"])
    header, first, second, last = encode_binary([batch, batch], {"x": "text"}, "t")
    assert [header.rows, first.rows, second.rows, last.rows] == [0, 2000, 2000, 0]
    assert len(first.data) > 2**20
    assert [row[0] for row in decoded(whole([header, first, second, last]), ["text"])] == texts * 2


def test_rows_without_columns_are_counts_of_no_fields() -> None:
    batch = pa.record_batch([range(3)], names=["x"])
    assert whole([*encode_binary([batch, batch], {}, "t")]) == HEADER + b"\0\0" * 6 + TRAILER


def test_octets_below_a_null_are_not_sent() -> None:
    text, number = pa.array(["abc", "de", ""]), pa.array([1, 2, 3], pa.int16())
    masked = [
        pa.Array.from_buffers(column.type, 3, [pa.py_buffer(bytes([0b101])), *column.buffers()[1:]])
        for column in (text, number)
    ]
    batch = pa.record_batch([*masked, masked[0]], names=["t", "n", "u"])
    found = whole([*encode_binary([batch], {"t": "text", "n": "int2", "u": "jsonb"}, "t")])
    rows = [(b"abc", b"\0\1", b"\1abc"), (None, None, None), (b"", b"\0\3", b"\1")]
    fields = [
        b"\0\3" + b"".join(b"\xff" * 4 if each is None else struct.pack(">i", len(each)) + each for each in row)
        for row in rows
    ]
    assert found == HEADER + b"".join(fields) + TRAILER


@pytest.mark.parametrize(("limit", "value"), [("PART_ROWS", 1), ("PART_ROWS", 7), ("PART_OCTETS", 100)])
def test_large_batches_are_encoded_in_parts(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    batch = pa.record_batch([pa.array(["a", None, "ccc"] * 10), pa.array([None, 1, 2] * 10)], names=["x", "y"])
    types: dict[str, Type] = {"x": "text", "y": "int8"}
    expected = whole([*encode_binary([batch], types, "t")])
    monkeypatch.setattr(f"bulkseed.copy.encoders.{limit}", value)
    monkeypatch.setattr("bulkseed.copy.encoders.CHUNK_OCTETS", 1)
    chunks = [*encode_binary([batch, batch.slice(30)], types, "t")]
    assert len(chunks) > 5
    assert sum(chunk.rows for chunk in chunks) == 30
    assert whole(chunks) == expected


@pytest.mark.parametrize("type_name", INTEGERS)
def test_integers_are_narrowed_as_far_as_they_fit(type_name: str) -> None:
    half = 2 ** (INTEGERS[type_name][0] - 1)
    ends = [-half, None, half - 1]
    batch = pa.record_batch([pa.array(ends, pa.int64())], names=["x"])
    assert list(decoded(whole([*encode_binary([batch], {"x": type_name}, "t")]), [type_name])) == [
        (end,) for end in ends
    ]
    for value in (-half - 1, half):
        if -(2**63) <= value < 2**63:
            with raises("value-out-of-range", "s.t.x", type_name, value, kind=RunError):
                list(encode_binary([batch, one(value, pa.int64())], {"x": type_name}, "s.t"))


def test_unsigned_integers_that_are_too_large() -> None:
    assert list(decoded(whole([*encode_binary([one(2**63 - 1, pa.uint64())], {"x": "int8"}, "t")]), ["int8"])) == [
        (2**63 - 1,)
    ]
    with raises("value-out-of-range", "t.x", 2**63, kind=RunError):
        list(encode_binary([one(2**63, pa.uint64())], {"x": "int8"}, "t"))


@pytest.mark.parametrize("type_name", ["timestamp", "timestamptz"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_times_are_instants_within_the_years_of_datetime(type_name: str, zone: str | None) -> None:
    earliest, latest = datetime.min + timedelta(microseconds=1), datetime.max - timedelta(microseconds=1)
    first, last = (microseconds(moment.replace(tzinfo=UTC)) for moment in (earliest, latest))
    arrow = pa.timestamp("us", zone)
    batch = pa.record_batch([pa.array([first, 0, None, last]).cast(arrow)], names=["x"])
    found = list(decoded(whole([*encode_binary([batch], {"x": type_name}, "t")]), [type_name]))
    assert found == [(earliest,), (EPOCH.replace(tzinfo=None),), (None,), (latest,)]
    for value in (first - 1, last + 1, -(2**63), 2**63 - 1):
        with raises("value-out-of-range", "t.x", f"{value} µs", kind=RunError):
            list(encode_binary([one(value, arrow)], {"x": type_name}, "t"))


def test_columns_are_taken_by_name_and_slices_from_where_they_begin() -> None:
    whole_batch = pa.record_batch(
        [pa.array(["a", None, "c", "d"] * 5), pa.array([True, None, False, True] * 5), pa.array([0] * 20), range(20)],
        names=["text", "flag", "extra", "number"],
    )
    for start in range(10):
        batch = whole_batch.slice(start, 9)
        types = {"number": "int2", "flag": "bool", "text": "text"}
        found = list(decoded(whole([*encode_binary([batch], types, "t")]), [*types.values()]))
        assert found == encode_records(batch.select([*types]))


@pytest.mark.parametrize("type_name", [name for name in BINARY_TYPES if name not in RANGES | MULTIRANGES])
def test_only_arrow_types_of_the_same_kind_are_taken(type_name: str) -> None:
    kinds = {
        "integer": [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64()],
        "text": [pa.string(), pa.large_string()],
        "boolean": [pa.bool_()],
        "timestamp": [pa.timestamp("us"), pa.timestamp("us", "UTC")],
        "float": [pa.float32(), pa.float64()],
        "numeric": [pa.decimal128(9), pa.decimal128(38, 38)],
        "uuid": [pa.binary(16)],
        "date": [pa.date32()],
        "wire": [pa.binary()],
        "time": [pa.time64("us")],
        "range": [RANGE],
        "other": [pa.timestamp("ns"), pa.timestamp("s"), pa.date64(), pa.binary(15), pa.decimal256(50)],
        "odd": [pa.decimal128(9, -2), pa.list_(pa.int64()), pa.null(), pa.dictionary(pa.int8(), pa.string())],
    }
    ours = {"int": "integer", "bool": "boolean", "time": "timestamp", "float": "float"}
    ours |= {name: name for name in ("numeric", "uuid", "date")}
    exact = {"time": "time", "bytea": "wire", **dict.fromkeys(WIRE_TYPES, "wire")}
    mine = exact.get(type_name) or next((kind for begin, kind in ours.items() if type_name.startswith(begin)), "text")
    for kind, arrows in kinds.items():
        for arrow in arrows:
            batch = one(None, arrow)
            if kind == mine:
                assert list(decoded(whole([*encode_binary([batch], {"x": type_name}, "t")]), [type_name])) == [(None,)]
                array = {"x": ArrayOf(type_name, 1)}
                lists = one([None], pa.list_(arrow))
                assert list(decoded(whole([*encode_binary([lists], array, "t")]), ["[]"])) == [([None],)]
                with raises("column-type", "t.x", f"{type_name}[]", arrow, kind=RunError):
                    list(encode_binary([batch], array, "t"))
            else:
                with raises("column-type", "t.x", type_name, arrow, kind=RunError):
                    list(encode_binary([batch], {"x": type_name}, "t"))


def numbers_of(column: pa.Array) -> list[Decimal | None]:
    """The values of numeric's octets, as PostgreSQL's source describes them."""
    found: list[Decimal | None] = []
    for octets in encode_numeric(column).to_pylist():
        if octets is None:
            found.append(None)
            continue
        groups, weight, sign, scale, *digits = struct.unpack(f">{len(octets) // 2}h", octets)
        assert groups == len(digits)
        assert not digits or (digits[0] and digits[-1])
        assert all(0 <= digit < 10_000 for digit in digits)
        value = sum((Decimal(digit).scaleb(4 * (weight - place)) for place, digit in enumerate(digits)), Decimal(0))
        found.append((-value if sign == 0x4000 else value).quantize(Decimal(1).scaleb(-scale)))
    return found


@given(st.integers(1, 38).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, p))), st.data(), st.integers(0, 3))
def test_numbers_of_any_precision_and_scale(form: tuple[int, int], data: st.DataObject, start: int) -> None:
    precision, scale = form
    edge = 10**precision - 1
    unscaled = data.draw(st.lists(st.none() | st.integers(-edge, edge) | st.sampled_from([-edge, edge, 0]), max_size=9))
    with localcontext(prec=100):
        numbers = [None if each is None else Decimal(each).scaleb(-scale) for each in unscaled]
        column = pa.array(numbers, pa.decimal128(precision, scale))
        assert numbers_of(column) == numbers
        assert numbers_of(column.slice(start)) == numbers[start:]


LISTS = pa.list_(pa.timestamp("us"))


def test_records_are_as_python_has_the_values() -> None:
    batch = pa.record_batch(
        {
            "uuid": pa.array([bytes(16), None], pa.binary(16)),
            "date": pa.array([date(2024, 2, 29), None]),
            "number": pa.array([Decimal("1.50"), None]),
            "lists": pa.array([[0, None], None], pa.list_(pa.int64())).cast(LISTS),
            "zoned": pa.array([[], [0]], pa.list_(pa.int64())).cast(LISTS),
            "ids": pa.array([None, [bytes(16)]], pa.list_(pa.binary(16))),
        }
    )
    naive = datetime(1970, 1, 1)
    first: Record = (UUID(int=0), date(2024, 2, 29), Decimal("1.50"), [naive, None], [], None)
    second: Record = (None, None, None, None, [EPOCH], [UUID(int=0)])
    assert encode_records(batch, ["zoned"]) == [first, second]
    assert encode_records(batch.slice(1), ["zoned"]) == [second]


def test_lists_of_a_slice_and_below_nulls() -> None:
    """What is below a null list, or before a slice, is not the column's."""
    values = pa.array([1, 2, 3, 4, 5], pa.int64())
    offsets = pa.array([0, 2, 3, 5], pa.int32())
    column = pa.ListArray.from_arrays(offsets, values, mask=pa.array([False, True, False]))
    for given_lists in (column, column.cast(pa.large_list(pa.int64()))):
        for start, expected in ((0, [[1, 2], None, [4, 5]]), (1, [None, [4, 5]]), (2, [[4, 5]]), (3, [])):
            batch = pa.record_batch([given_lists.slice(start)], names=["x"])
            assert [row[0] for row in encode_records(batch)] == expected
            (_, *chunks) = encode_binary([batch], {"x": ArrayOf("int2", 21)}, "t")
            fields = b"".join(
                b"\0\1"
                + (b"\xff" * 4 if each is None else struct.pack(">6i", 20 + 6 * len(each), 1, 0, 21, len(each), 1))
                + b"".join(struct.pack(">ih", 2, number) for number in each or [])
                for each in expected
            )
            assert whole(chunks) == fields + TRAILER


@pytest.mark.parametrize(
    ("type_name", "arrow", "value", "facts"),
    [
        ("float4", pa.float64(), 1e39, ["float4", "1e+39"]),
        ("date", pa.date32(), date.max, ["2932896 days"]),
        ("date", pa.date32(), date.min, ["-719162 days"]),
        ("int2", pa.int64(), 40_000, ["int2", "40000"]),
        ("timestamp", pa.timestamp("us"), datetime.max, ["253402300799999999 µs"]),
    ],
)
def test_values_that_a_type_cannot_hold_also_in_arrays(
    type_name: str, arrow: pa.DataType, value: Any, facts: list[str]
) -> None:
    with raises("value-out-of-range", "column t.x ", *facts, kind=RunError):
        list(encode_binary([one(value, arrow)], {"x": type_name}, "t"))
    with raises("value-out-of-range", "column t.x ", *facts, kind=RunError):
        list(encode_binary([one([None, value], pa.list_(arrow))], {"x": ArrayOf(type_name, 1)}, "t"))
    if type_name.startswith(("date", "time")):
        with raises("value-out-of-range", "column t.x ", *facts, kind=RunError):
            encode_records(one([None, value], pa.list_(arrow)), table="t")


def test_infinities_and_not_a_number_are_floats_of_either_size() -> None:
    ends = [float("inf"), float("-inf"), float("nan"), 3.4028234663852886e38, 1e-300]
    batch = pa.record_batch([pa.array(ends)], names=["x"])
    for type_name, form in (("float4", ">f"), ("float8", ">d")):
        data = whole([*encode_binary([batch], {"x": type_name}, "t")])
        assert (
            data
            == HEADER
            + b"".join(struct.pack(">hi", 1, struct.calcsize(form)) + struct.pack(form, value) for value in ends)
            + TRAILER
        )
