"""Values converted to the types of the target's columns: loaded in both formats, or refused beforehand."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any, get_args
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bulkseed.copy.column_mapping import ColumnMapping, Incompatibility, convert_batch, find_incompatibility
from bulkseed.copy.encoders import BINARY_TYPES, ArrayOf, encode_binary, encode_records
from bulkseed.copy.writer import CopyFormat, copy_batches
from bulkseed.errors import RunError
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from bulkseed.randomness.draws import Streams
from bulkseed.randomness.uuids import HIGHEST_ID, Moments, Uuids
from bulkseed.target.copy_plan import plan_copy
from support.errors import raises

FORMATS: tuple[CopyFormat, ...] = get_args(CopyFormat)
FOUR = Uuids(Streams(1, 1), "users")
SEVEN = Uuids(Streams(1, 1), "users", Moments(1, 1000, 0, 10**15))
LABELS = ("glad", "it's", 'a "b"', "{a,b}", "NULL", "")
US, TEXT, INT, FLOAT = pa.timestamp("us"), pa.string(), pa.int64(), pa.float64()
DECIMAL = pa.decimal128(9, 3)

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from(
    "\"'\\/\t\n\r\v\b\x01\x1f\x7f\x85\u2028 ,{}\u0301\u200d\u202e\u05d0\U0001f469\U0010ffff"
)
texts = st.text(characters, max_size=12)
STEP = timedelta(microseconds=1)
times = st.datetimes(datetime.min + timedelta(days=1), datetime.max - timedelta(days=1, microseconds=1))
days = st.dates(date.min + timedelta(days=1), date.max - timedelta(days=1))
ids = st.integers(0, HIGHEST_ID)
large = st.integers(-(10**9) + 1, 10**9 - 1)
objects = st.dictionaries(texts, texts | st.integers(), max_size=2)


def whole(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def key(keys: Uuids) -> Callable[[int], UUID]:
    return lambda number: UUID(bytes=keys.octets(pa.array([number])).to_pylist()[0])


def rounded(scale: int) -> Callable[[Decimal], Decimal]:
    def round_(value: Decimal) -> Decimal:
        with localcontext(prec=80):
            return value.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)

    return round_


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def itself(value: Any) -> Any:
    return value


uuid_forms = st.builds(
    lambda value, form: form(str(value)), st.uuids(), st.sampled_from([str, str.upper, "{{{}}}".format])
)


@dataclass(frozen=True)
class Case:
    """A column of the target, what it is filled with, and what is then in it."""

    sql: str
    type: str
    arrow: pa.DataType
    values: st.SearchStrategy[Any]
    expected: Callable[[Any], Any] = itself
    more: dict[str, Any] | None = None


CASES = {
    "small": Case("smallint", "int2", INT, whole(16)),
    "int": Case("integer", "int4", INT, whole(32)),
    "big": Case("bigint", "int8", pa.int32(), whole(32)),
    "key4": Case("uuid", "uuid", INT, ids, key(FOUR), {"keys": FOUR}),
    "key7": Case("uuid", "uuid", INT, ids, key(SEVEN), {"keys": SEVEN}),
    "octets": Case(
        "uuid", "uuid", pa.binary(16), st.binary(min_size=16, max_size=16), lambda octets: UUID(bytes=octets)
    ),
    "uuid": Case("uuid", "uuid", TEXT, st.uuids().map(str), UUID),
    "otherwise": Case("uuid", "uuid", TEXT, uuid_forms, UUID),
    "text": Case("text", "text", pa.large_string(), texts),
    "varchar": Case("varchar(3)", "varchar", TEXT, texts, lambda text: text[:3], {"length": 3}),
    "char": Case("char(3)", "bpchar", TEXT, texts, lambda text: text[:3].ljust(3), {"length": 3}),
    "citext": Case("citext", "citext", pa.dictionary(pa.int8(), TEXT), texts),
    "enum": Case("mood", "mood", TEXT, st.sampled_from(LABELS), more={"labels": LABELS}),
    "bool": Case("boolean", "bool", pa.bool_(), st.booleans()),
    "timestamp": Case("timestamp", "timestamp", US, times),
    "instant": Case("timestamptz", "timestamptz", US, times, lambda time: time.replace(tzinfo=UTC)),
    "zoned": Case(
        "timestamp",
        "timestamp",
        pa.timestamp("us", "Asia/Kolkata"),
        times.map(lambda time: time.replace(tzinfo=timezone(timedelta(hours=1)))),
        lambda time: time.astimezone(UTC).replace(tzinfo=None),
    ),
    "midnight": Case("timestamptz", "timestamptz", pa.date32(), days, midnight),
    "day": Case("date", "date", US, times, datetime.date),
    "date": Case("date", "date", pa.date32(), days),
    "number": Case("numeric", "numeric", INT, whole(64), Decimal),
    "price": Case(
        "numeric(12,2)",
        "numeric",
        pa.decimal128(13, 4),
        st.decimals("-999999999.9949", "999999999.9949", places=4),
        rounded(2),
        {"precision": 12, "scale": 2},
    ),
    "share": Case("numeric(9,0)", "numeric", FLOAT, large.map(float), Decimal, {"precision": 9, "scale": 0}),
    "measure": Case("numeric", "numeric", FLOAT, st.integers(-(2**30), 2**30).map(lambda n: n / 8), Decimal),
    "real": Case("real", "float4", FLOAT, st.floats(width=32)),
    "double": Case("double precision", "float8", FLOAT, st.floats()),
    "ratio": Case("double precision", "float8", pa.decimal128(20, 4), st.decimals(-999, 999, places=4), float),
    "json": Case("json", "json", TEXT, texts),
    "jsonb": Case("jsonb", "jsonb", TEXT, texts),
    "object": Case("jsonb", "jsonb", TEXT, objects.map(json.dumps), json.loads, {"json": "text"}),
    "flag": Case("jsonb", "jsonb", pa.bool_(), st.booleans()),
    "nothing": Case("date", "date", pa.null(), st.none()),
}
"""Columns by name; in the target each is also there as an array, and below a domain of either."""

MAPPINGS = [
    ColumnMapping(source=name + "s" * array, name=f"{prefix}_{name}", type=case.type, array=array, **(case.more or {}))
    for name, case in CASES.items()
    for prefix, array in (("c", False), ("d", False), ("a", True), ("da", True))
]
rows_of_all = st.lists(
    st.tuples(
        *(st.none() | case.values for case in CASES.values()),
        *(st.none() | st.lists(st.none() | case.values, max_size=2) for case in CASES.values()),
    ),
    max_size=3,
)


async def make_table(connection: Connection, *tables: str) -> None:
    labels = ", ".join("'" + label.replace("'", "''") + "'" for label in LABELS)
    await connection.execute(f"CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ({labels})")
    await connection.set_builtin_type_codec("citext", schema="public", codec_name="text")
    columns = []
    for name, case in CASES.items():
        await connection.execute(f"CREATE DOMAIN d_{name} AS {case.sql}; CREATE DOMAIN da_{name} AS {case.sql}[]")
        columns += [f"c_{name} {case.sql}", f"d_{name} d_{name}", f"a_{name} {case.sql}[]", f"da_{name} da_{name}"]
    for table in tables:
        await connection.execute(f"CREATE TABLE {table} (ordinal serial, {', '.join(columns)})")


def batch_of(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    names = [*CASES, *(f"{name}s" for name in CASES)]
    types = [case.arrow for case in CASES.values()]
    types += [pa.list_(arrow) for arrow in types]
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    arrays = [pa.array([*values], arrow) for values, arrow in zip(columns, types, strict=True)]
    return pa.record_batch(arrays, names=names)


def expected_of(case: Case, value: Any) -> Any:
    if isinstance(value, list):
        return [expected_of(case, each) for each in value]
    return None if value is None else comparable(case.expected(value))


def found_of(case: Case, value: Any) -> Any:
    if isinstance(value, list):
        return [found_of(case, each) for each in value]
    return json.loads(value) if case.type.startswith("json") and value is not None else comparable(value)


def comparable(value: Any) -> Any:
    return str(value) if isinstance(value, float) else value


def test_every_type_is_loaded_in_both_formats(database: Address) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        connection = runner.run(stack.enter_async_context(open_connection(database)))
        runner.run(make_table(connection, *(f"t_{format}" for format in FORMATS)))

        async def check(rows: list[tuple[Any, ...]]) -> None:
            batch = convert_batch(batch_of(rows), MAPPINGS, "t")
            assert batch.schema.names == [mapping.name for mapping in MAPPINGS]
            written = {}
            begun = connection.transaction()
            await begun.start()
            try:
                for format in FORMATS:
                    into = await plan_copy(connection, f"t_{format}", batch.schema.names, "public", format)
                    assert [str(type_) for type_ in into.types.values()] == [
                        mapping.kind + "[]" * mapping.array for mapping in MAPPINGS
                    ]
                    batches = iter([batch.slice(0, 1), batch.slice(1)])
                    assert await copy_batches(connection, into, batches, lambda _: None) == len(rows)
                    names = ", ".join(batch.schema.names)
                    written[format] = await connection.fetch(f"SELECT ({names})::text FROM t_{format} ORDER BY ordinal")
                found = await connection.fetch("SELECT * FROM t_binary ORDER BY ordinal")
            finally:
                await begun.rollback()
            assert written["records"] == written["binary"]
            for row, there in zip(rows, found, strict=True):
                values = dict(zip([*CASES, *(f"{name}s" for name in CASES)], row, strict=True))
                for mapping in MAPPINGS:
                    case = CASES[mapping.name.split("_")[1]]
                    assert found_of(case, there[mapping.name]) == expected_of(case, values[mapping.source]), mapping

        @settings(max_examples=15, deadline=None)
        @given(rows_of_all)
        @example([])
        @example([(None,) * 2 * len(CASES)] * 2)
        def both(rows: list[tuple[Any, ...]]) -> None:
            runner.run(check(rows))

        both()
        runner.run(stack.aclose())


def test_all_of_it_can_be_sent_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(MAPPINGS)) == MAPPINGS


ARROWS = [
    *(pa.int8(), pa.int64(), pa.uint64(), pa.float32(), FLOAT, pa.decimal128(9, 2), pa.decimal256(60, 3)),
    *(TEXT, pa.large_string(), pa.string_view(), pa.bool_(), US, pa.timestamp("ns"), pa.timestamp("s", "UTC")),
    *(pa.date32(), pa.date64(), pa.binary(), pa.binary(16), pa.uuid(), pa.null(), pa.struct([("x", INT)])),
    *(pa.dictionary(pa.int8(), TEXT), pa.list_(INT), pa.large_list(TEXT), pa.list_(US, 2), pa.list_(pa.null())),
    *(pa.list_(pa.list_(INT)), pa.time64("us"), pa.duration("us"), pa.map_(TEXT, TEXT)),
]


@pytest.mark.parametrize("arrow", ARROWS, ids=str)
def test_what_fits_beforehand_is_what_the_encoders_take(arrow: pa.DataType) -> None:
    """Each type, with and without values, is refused before anything is written, or loaded in both formats."""
    for kind in (*BINARY_TYPES, "money"):
        for array in (False, True):
            mapping = ColumnMapping(
                source="x", name="y", type=kind, array=array, keys=FOUR, labels=("a",) if kind == "enum" else None
            )
            batch = pa.record_batch([pa.nulls(2, arrow)], names=["x"])
            found = find_incompatibility(arrow, None, mapping)
            if found is None:
                made = convert_batch(batch, [mapping], "t")
                wire_type = ArrayOf(kind, 1) if array else kind
                assert [*encode_binary([made], {"y": wire_type}, "t")]
                assert encode_records(made) == [(None,), (None,)]
            else:
                assert found.code == "column-type"
                assert str(mapping) in found.clause
                assert "\n" not in found.clause
                with raises("column-type", "t.y", mapping, kind=RunError):
                    convert_batch(batch, [mapping], "t")


BEFOREHAND: tuple[tuple[pa.DataType, int | None, str, dict[str, Any], str | None, list[str]], ...] = (
    (TEXT, None, "int4", {}, "column-type", ["int4", "make it text"]),
    (pa.bool_(), None, "int4", {}, "column-type", ["int4", "make it boolean"]),
    (INT, None, "uuid", {}, "column-type", ["uuid", "make it bigint"]),
    (INT, None, "text", {}, "column-type", ["text", "make it bigint"]),
    (US, None, "inet", {}, "column-type", ["inet", "192.0.2.7", "make it timestamp or timestamptz"]),
    (pa.duration("s"), None, "text", {}, "column-type", ["text", "make it interval"]),
    (
        TEXT,
        None,
        "x",
        {"attributes": (ColumnMapping(source="a", name="a", type="int4"),)},
        "column-type",
        ["a table", "a"],
    ),
    (TEXT, None, "text", {"array": True}, "column-type", ["text[]", "make it text"]),
    (pa.list_(TEXT), None, "text", {}, "column-type", ["text", "make it an array"]),
    (TEXT, 80, "varchar", {"length": 79}, "column-too-short", ["79", "varchar(80)"]),
    (TEXT, 80, "varchar", {"length": 80}, None, []),
    (TEXT, None, "varchar", {"length": 79}, None, []),
    (TEXT, 80, "varchar", {}, None, []),
)


def test_values_that_cannot_go_into_a_column_are_named_with_the_fix() -> None:
    for arrow, longest, type_name, more, code, facts in BEFOREHAND:
        found = find_incompatibility(arrow, longest, ColumnMapping(source="x", name="x", type=type_name, **more))
        assert (found and found.code) == code
        assert [fact for fact in facts if fact not in (found or Incompatibility("", "")).clause] == []


IN_FLIGHT: tuple[tuple[str, pa.DataType, list[Any], dict[str, Any], str, list[str]], ...] = (
    ("int2", INT, [1, None, 40_000], {}, "value-out-of-range", ["40000"]),
    ("int4", pa.uint64(), [1, 2**63], {}, "value-out-of-range", [f"{2**63}"]),
    ("float4", FLOAT, [1.5, 1e39], {}, "value-out-of-range", ["1e+39"]),
    ("numeric", FLOAT, [1.5, float("nan")], {}, "value-out-of-range", ["nan"]),
    ("numeric", FLOAT, [1.5, 1e60], {}, "value-out-of-range", ["1e+60"]),
    ("numeric", INT, [99, 1000], {"precision": 4, "scale": 2}, "value-out-of-range", ["1000"]),
    ("numeric", DECIMAL, [Decimal("99.995")], {"precision": 4, "scale": 2}, "value-out-of-range", ["99.995"]),
    ("mood", TEXT, ["glad", "sad"], {"labels": ("glad", "bad")}, "unknown-label", ["sad", "glad, bad"]),
    ("uuid", TEXT, [str(UUID(int=0)), "zero"], {}, "invalid-uuid", ["zero"]),
)


def test_values_that_cannot_go_are_named_in_flight() -> None:
    for type_name, arrow, values, more, code, facts in IN_FLIGHT:
        mapping = ColumnMapping(source="x", name="y", type=type_name, **more)
        with raises(code, f"s.t.y is of type {type_name},", *(f" {fact}" for fact in facts), kind=RunError):
            convert_batch(pa.record_batch([pa.array(values, arrow)], names=["x"]), [mapping], "s.t")
        lists = pa.array([[], None, values], pa.list_(arrow))
        with raises(code, f"s.t.y is of type {type_name}[],", " [", kind=RunError):
            convert_batch(pa.record_batch([lists], names=["x"]), [replace(mapping, array=True)], "s.t")


def test_ids_and_times_beyond_what_a_column_can_say() -> None:
    with raises("id-out-of-range", -5, "users", kind=RunError):
        convert_batch(
            pa.record_batch([[1, -5]], names=["x"]), [ColumnMapping(source="x", name="y", type="uuid", keys=FOUR)]
        )
    far = pa.array([0, 2**62]).cast(pa.timestamp("s"))
    with raises("value-out-of-range", "t.y", "date", 4611686018427387904, kind=RunError):
        convert_batch(pa.record_batch([far], names=["x"]), [ColumnMapping(source="x", name="y", type="date")], "t")


@given(st.lists(texts | st.none(), max_size=6), st.integers(0, 15), st.integers(0, 3))
def test_text_is_cut_by_characters_and_nothing_else_changes(values: list[str | None], length: int, start: int) -> None:
    batch = pa.record_batch([pa.array(values, TEXT)], names=["x"]).slice(start)
    made = convert_batch(batch, [ColumnMapping(source="x", name="y", type="varchar", length=length)], "t")
    assert made.to_pydict() == {"y": [text and text[:length] for text in values[start:]]}


@given(st.lists(texts | st.just("\0") | st.none(), max_size=6))
def test_text_becomes_a_json_string(values: list[str | None]) -> None:
    batch = pa.record_batch([pa.array(values, TEXT)], names=["x"])
    made = convert_batch(batch, [ColumnMapping(source="x", name="x", type="json")])
    assert [each and json.loads(each) for each in made.to_pydict()["x"]] == values


def test_a_time_becomes_the_day_it_has_in_utc() -> None:
    moments = [datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime(1970, 1, 1), datetime(2024, 2, 29, 23), None]
    batch = pa.record_batch([pa.array(moments, pa.timestamp("us", "Pacific/Auckland"))], names=["x"])
    made = convert_batch(batch, [ColumnMapping(source="x", name="x", type="date")])
    assert made.to_pydict()["x"] == [date(1969, 12, 31), date(1970, 1, 1), date(2024, 2, 29), None]


def test_columns_are_taken_by_name_and_may_be_taken_twice() -> None:
    batch = pa.record_batch({"id": [1, 2], "name": ["a", "b"], "extra": [0, 0]})
    mappings = [
        ColumnMapping(source="name", name="title", type="text"),
        ColumnMapping(source="id", name="key", type="uuid", keys=FOUR),
        ColumnMapping(source="id", name="number", type="int8"),
    ]
    made = convert_batch(batch, mappings)
    assert made.schema.names == ["title", "key", "number"]
    assert made.to_pydict() == {"title": ["a", "b"], "key": [key(FOUR)(1).bytes, key(FOUR)(2).bytes], "number": [1, 2]}
