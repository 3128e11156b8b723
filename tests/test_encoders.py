"""The encoders without a database: the bytes that a server would be sent, and what is refused before that."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import batches_of

from bulkseed.encoders import BINARY_TYPES, Chunk, binary, records
from bulkseed.errors import RunError
from bulkseed.plan import EPOCH, Plan, microseconds
from bulkseed.tables import TABLES

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
EPOCH_OF_POSTGRES = datetime(2000, 1, 1, tzinfo=UTC)
AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
TYPE_OF = {"integer": "int8", "text": "text", "boolean": "bool", "timestamp": "timestamp"}
INTEGERS = {"int2": (16, ">h"), "int4": (32, ">i"), "int8": (64, ">q")}


def value_of(data: bytes, type_name: str) -> Any:
    if type_name in INTEGERS:
        return struct.unpack(INTEGERS[type_name][1], data)[0]
    if type_name == "bool":
        return {b"\0": False, b"\1": True}[data]
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
        chunks = [*binary(batches, types, table.name)]
        expected = [row for batch in batches for row in records(batch)]
        assert sum(chunk.rows for chunk in chunks) == len(expected) > 0
        assert list(decoded(whole(chunks), [*types.values()])) == expected


@pytest.mark.parametrize("batches", [[], [one(1, pa.int64()).slice(1)]], ids=["no batch", "an empty batch"])
def test_no_rows_are_a_header_and_a_trailer(batches: list[pa.RecordBatch]) -> None:
    chunks = [*binary(batches, {"x": "int8"}, "t")]
    assert whole(chunks) == HEADER + TRAILER
    assert sum(chunk.rows for chunk in chunks) == 0


@given(st.lists(st.integers(0, 300), max_size=12), st.sampled_from([0, 10, 9000]))
def test_each_row_is_in_a_chunk_that_says_so(sizes: list[int], width: int) -> None:
    batches = [pa.record_batch([pa.array(["x" * width] * size, pa.string())], names=["x"]) for size in sizes]
    rows = 0
    for chunk in binary(batches, {"x": "text"}, "t"):
        rows += chunk.rows
        if chunk.rows:
            assert chunk.data
    assert rows == sum(sizes)


def test_a_batch_over_a_mebibyte_goes_at_once() -> None:
    texts = [chr(0x1F600 + number % 50) * 500 for number in range(2000)]
    batch = pa.record_batch([pa.array(texts)], names=["x"])
    header, first, second, last = binary([batch, batch], {"x": "text"}, "t")
    assert [header.rows, first.rows, second.rows, last.rows] == [0, 2000, 2000, 0]
    assert len(first.data) > 2**20
    assert [row[0] for row in decoded(whole([header, first, second, last]), ["text"])] == texts * 2


@pytest.mark.parametrize("type_name", INTEGERS)
def test_integers_are_narrowed_as_far_as_they_fit(type_name: str) -> None:
    half = 2 ** (INTEGERS[type_name][0] - 1)
    ends = [-half, None, half - 1]
    batch = pa.record_batch([pa.array(ends, pa.int64())], names=["x"])
    assert list(decoded(whole([*binary([batch], {"x": type_name}, "t")]), [type_name])) == [(end,) for end in ends]
    for value in (-half - 1, half):
        if -(2**63) <= value < 2**63:
            with pytest.raises(
                RunError, match=rf"column s\.t\.x is of type {type_name}, and cannot take {value}: give"
            ):
                list(binary([batch, one(value, pa.int64())], {"x": type_name}, "s.t"))


def test_unsigned_integers_that_are_too_large() -> None:
    assert list(decoded(whole([*binary([one(2**63 - 1, pa.uint64())], {"x": "int8"}, "t")]), ["int8"])) == [
        (2**63 - 1,)
    ]
    with pytest.raises(RunError, match=f"cannot take {2**63}"):
        list(binary([one(2**63, pa.uint64())], {"x": "int8"}, "t"))


@pytest.mark.parametrize("type_name", ["timestamp", "timestamptz"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_times_are_instants_within_the_years_of_datetime(type_name: str, zone: str | None) -> None:
    earliest, latest = datetime.min + timedelta(microseconds=1), datetime.max - timedelta(microseconds=1)
    first, last = (microseconds(moment.replace(tzinfo=UTC)) for moment in (earliest, latest))
    arrow = pa.timestamp("us", zone)
    batch = pa.record_batch([pa.array([first, 0, None, last]).cast(arrow)], names=["x"])
    found = list(decoded(whole([*binary([batch], {"x": type_name}, "t")]), [type_name]))
    assert found == [(earliest,), (EPOCH.replace(tzinfo=None),), (None,), (latest,)]
    for value in (first - 1, last + 1, -(2**63), 2**63 - 1):
        with pytest.raises(RunError, match=f"cannot take the time {value} µs from 1970: make times within"):
            list(binary([one(value, arrow)], {"x": type_name}, "t"))


def test_columns_are_taken_by_name_and_slices_from_where_they_begin() -> None:
    whole_batch = pa.record_batch(
        [pa.array(["a", None, "c", "d"] * 5), pa.array([True, None, False, True] * 5), pa.array([0] * 20), range(20)],
        names=["text", "flag", "extra", "number"],
    )
    for start in range(10):
        batch = whole_batch.slice(start, 9)
        types = {"number": "int2", "flag": "bool", "text": "text"}
        found = list(decoded(whole([*binary([batch], types, "t")]), [*types.values()]))
        assert found == records(batch.select([*types]))


@pytest.mark.parametrize("type_name", BINARY_TYPES)
def test_only_arrow_types_of_the_same_kind_are_taken(type_name: str) -> None:
    kinds = {
        "integer": [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64()],
        "text": [pa.string(), pa.large_string()],
        "boolean": [pa.bool_()],
        "timestamp": [pa.timestamp("us"), pa.timestamp("us", "UTC")],
        "other": [pa.float64(), pa.timestamp("ns"), pa.timestamp("s"), pa.date32(), pa.binary(), pa.decimal128(9)],
    }
    ours = {"int": "integer", "bool": "boolean", "time": "timestamp"}
    mine = next((kind for begin, kind in ours.items() if type_name.startswith(begin)), "text")
    for kind, arrows in kinds.items():
        for arrow in arrows:
            batch = one(None, arrow)
            if kind == mine:
                assert list(decoded(whole([*binary([batch], {"x": type_name}, "t")]), [type_name])) == [(None,)]
            else:
                with pytest.raises(
                    RunError, match=rf"t\.x is of type {type_name}, and cannot take Arrow's .*: convert"
                ):
                    list(binary([batch], {"x": type_name}, "t"))
