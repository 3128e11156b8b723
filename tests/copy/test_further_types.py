"""Types whose values are texts in the server's input syntax, compared with what the server makes of these texts."""

from __future__ import annotations

import asyncio
import io
import ipaddress
import json
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, time, timedelta, timezone
from itertools import pairwise
from typing import Any, get_args

import asyncpg
import pyarrow as pa
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from bulkseed.arrays import array_of
from bulkseed.copy.column_mapping import convert_batch
from bulkseed.copy.encoders import encode_binary
from bulkseed.copy.writer import CopyFormat, copy_batches
from bulkseed.errors import RunError
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from bulkseed.target.copy_plan import plan_copy
from support.errors import raises

FORMATS: tuple[CopyFormat, ...] = get_args(CopyFormat)
TEXT = pa.string()
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
words = st.text(characters, min_size=1, max_size=8)
whole = st.integers(-(2**31), 2**31 - 2)
times_of_day = st.times().map(time.isoformat)
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda moment: moment.isoformat(" "))
days = st.dates(date(1, 1, 2), date(9999, 12, 30))
bits = st.text("01", max_size=20)
addresses = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)


def with_length(address: str, share: float, *, strictly: bool) -> str:
    bits = round(share * (128 if ":" in address else 32))
    network = ipaddress.ip_network(f"{address}/{bits}", strict=False)
    return str(network) if strictly else f"{address}/{bits}"


def networks(*, strictly: bool) -> st.SearchStrategy[str]:
    return st.builds(lambda *given: with_length(*given, strictly=strictly), addresses, st.floats(0, 1))


def ranges(values: st.SearchStrategy[Any], *, discrete: bool) -> st.SearchStrategy[str]:
    """Ranges in the server's own form: those of a discrete type include the lower bound alone."""
    ends = st.lists(values, min_size=2, max_size=2, unique=True).map(sorted)
    brackets = st.just("[)") if discrete else st.sampled_from(["[)", "[]", "()", "(]"])
    both = st.builds(lambda ends, kind: f'{kind[0]}"{ends[0]}",{ends[1]}{kind[1]}', ends, brackets)
    above = st.builds(lambda value, kind: f"{kind[0]}{value},)", values, brackets)
    below = st.builds(lambda value, kind: f'(, "{value}"{kind[1]}'.replace(", ", ","), values, brackets)
    return st.sampled_from(["empty", "(,)"]) | both | above | below


def multiranges(values: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    ends = st.lists(values, max_size=6, unique=True).map(sorted)
    return ends.map(lambda ends: "{" + ", ".join(f"[{low},{high})" for low, high in [*pairwise(ends)][::2]) + "}")


def quoted(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"


places = st.lists(st.builds("{}{}".format, st.integers(1, 20_000), st.sampled_from(["", *"ABCDabcd"])), max_size=4)
# each word once: the server's sort of more than six places is not stable, and that of the last one decides a weight
lexemes = st.dictionaries(words, places, max_size=4).map(
    lambda found: " ".join(quoted(word) + ":" * bool(at) + ",".join(at) for word, at in found.items())
)

NUMBERS = st.decimals(-(10**12), 10**12, places=2)
UNITS = ("microseconds", "milliseconds", "sec", "minutes", "hour", "days", "weeks", "mons", "year")
AMOUNTS = st.dictionaries(st.sampled_from(UNITS), st.integers(-500, 500), min_size=1, max_size=4)

TYPES: dict[str, tuple[str, st.SearchStrategy[str]]] = {
    "time": ("time", times_of_day | st.sampled_from(["09:30", "23:59:59.999999"])),
    "timetz": ("timetz", times_of_day.map(lambda text: text + "+00") | st.sampled_from(["09:30-07:30", "23:59+05"])),
    "interval": (
        "interval",
        AMOUNTS.map(lambda amounts: " ".join(f"{number} {unit}" for unit, number in amounts.items()))
        | st.sampled_from(["1.5 days", "1.5 weeks 2.25 hours", "-1 day 02:03:04.5", "1 mon -00:00:01", "@ 1 day ago"])
        | st.sampled_from(["P1Y2M3W4DT5H6M7.5S", "PT36H", "04:05", "-4:05:06"]),
    ),
    "inet": ("inet", addresses | networks(strictly=False)),
    "cidr": ("cidr", addresses | networks(strictly=True)),
    "macaddr": ("macaddr", st.sampled_from(["08:00:2b:01:02:03", "0800.2B01.0203", "08002b:010203", "ffffffffffff"])),
    "macaddr8": ("macaddr8", st.sampled_from(["08:00:2b:01:02:03", "08-00-2b-01-02-03-04-05", "0800.2b01.0203.0405"])),
    "bytea": (
        "bytea",
        st.binary(max_size=40).map(lambda data: "\\x" + data.hex()) | words.filter(lambda t: "\\" not in t),
    ),
    "bit": ("bit(9)", st.text("01", min_size=9, max_size=9)),
    "varbit": ("varbit", bits | st.just("x1F") | bits.map("b{}".format)),
    "tsvector": (
        "tsvector",
        lexemes | st.sampled_from(["a:1A fat:2,3 'the cat' b:2D,2A a:4", "a:1,20000D,17000C b:20000D,17000C"]),
    ),
    "int4range": ("int4range", ranges(whole, discrete=True)),
    "int8range": ("int8range", ranges(st.integers(-(2**63), 2**63 - 1), discrete=True)),
    "numrange": ("numrange", ranges(NUMBERS, discrete=False)),
    "tsrange": ("tsrange", ranges(moments, discrete=False)),
    "tstzrange": ("tstzrange", ranges(moments.map(lambda text: text + "+00:00"), discrete=False)),
    "daterange": ("daterange", ranges(days, discrete=True)),
    "int4multirange": ("int4multirange", multiranges(whole)),
    "int8multirange": ("int8multirange", multiranges(st.integers(-(2**63), 2**63 - 1))),
    "nummultirange": ("nummultirange", multiranges(NUMBERS)),
    "tsmultirange": ("tsmultirange", multiranges(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)))),
    "tstzmultirange": (
        "tstzmultirange",
        multiranges(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))),
    ),
    "datemultirange": ("datemultirange", multiranges(days)),
}
"""The types, as a table declares them, with texts."""

TABLES = ("made", *(f"t_{format}" for format in FORMATS))
COLUMNS = {f"{prefix}_{name}": name for prefix in "cda" for name in TYPES} | {f"n_{name}": name for name in TYPES}
"""A column of each type, of a domain over it, of arrays, and of a domain over arrays of the domain."""

rows_of_all = st.lists(st.tuples(*(st.none() | texts for _, texts in TYPES.values())), max_size=3)


async def make_tables(connection: Connection) -> None:
    columns = []
    for name, (sql, _) in TYPES.items():
        await connection.execute(f"CREATE DOMAIN d_{name} AS {sql}; CREATE DOMAIN n_{name} AS d_{name}[]")
        columns += [f"c_{name} {sql}", f"d_{name} d_{name}", f"a_{name} {sql}[]", f"n_{name} n_{name}"]
    for table in TABLES:
        await connection.execute(f"CREATE TABLE {table} (ordinal serial, {', '.join(columns)})")


async def octets_of(connection: Connection, query: str) -> bytes:
    output = io.BytesIO()
    raw: Any = connection
    await raw.copy_from_query(query, output=output, format="binary")
    return output.getvalue()


@pytest.mark.core
def test_the_octets_of_a_text_are_those_that_the_server_makes_of_it(database: Address) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        connection = runner.run(stack.enter_async_context(open_connection(database)))
        runner.run(make_tables(connection))
        names = ", ".join(COLUMNS)

        async def check(rows: list[tuple[str | None, ...]]) -> None:
            texts = {name: [row[place] for row in rows] for place, name in enumerate(TYPES)}
            values: dict[str, list[Any]] = {}
            for column, name in COLUMNS.items():
                lists = column[0] in "an"
                values[column] = (
                    [None if text is None else [text, None] for text in texts[name]] if lists else texts[name]
                )
            batch = pa.record_batch(
                [pa.array(each, pa.list_(TEXT) if name[0] in "an" else TEXT) for name, each in values.items()],
                names=[*values],
            )
            begun = connection.transaction()
            await begun.start()
            try:
                for row in range(len(rows)):
                    given = [each[row] for each in values.values()]
                    of_type = (
                        f"CAST(${place}::{'text[]' if name[0] in 'an' else 'text'} AS "
                        f"{name if name[0] in 'dn' else TYPES[base][0] + '[]' * (name[0] == 'a')})"
                        for place, (name, base) in enumerate(COLUMNS.items(), 1)
                    )
                    await connection.execute(f"INSERT INTO made ({names}) SELECT {', '.join(of_type)}", *given)
                expected = await octets_of(connection, f"SELECT {names} FROM made ORDER BY ordinal")
                shown = await connection.fetch("SELECT m::text FROM made AS m ORDER BY ordinal")
                for format in FORMATS:
                    plan = await plan_copy(
                        connection, f"t_{format}", {name: name for name in COLUMNS}, "public", format
                    )
                    assert [str(type_) for type_ in plan.types.values()] == [
                        base + "[]" * (name[0] in "an") for name, base in COLUMNS.items()
                    ]
                    converted = convert_batch(batch, plan.mappings, "t")
                    made = b"".join(chunk.data for chunk in encode_binary(iter([converted]), plan.types, "t"))
                    assert made == expected
                    halves = iter([batch.slice(0, 1), batch.slice(1)])
                    assert await copy_batches(connection, plan, halves, lambda _: None) == len(rows)
                    assert await octets_of(connection, f"SELECT {names} FROM t_{format} ORDER BY ordinal") == expected
                    assert await connection.fetch(f"SELECT m::text FROM t_{format} AS m ORDER BY ordinal") == shown
            finally:
                await begun.rollback()
                await connection.execute(
                    "SELECT " + ", ".join(f"setval('{table}_ordinal_seq', 1, false)" for table in TABLES)
                )

        @settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.generate])
        @given(rows_of_all)
        @example([])
        @example([(None,) * len(TYPES)] * 2)
        def same(rows: list[tuple[str | None, ...]]) -> None:
            runner.run(check(rows))

        same()
        runner.run(stack.aclose())


ADDRESS = """
CREATE TYPE place AS (x int, net inet, during int4range, day date, price numeric(6,2));
CREATE DOMAIN short AS varchar(5);
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TYPE address AS (street text, zip short, at timestamptz, tags text[], inner_place place, places place[],
                        extra jsonb, key uuid, is_new boolean, share float8, mood mood, "a b" interval);
CREATE DOMAIN home AS address;
CREATE TABLE made (ordinal serial, c address, d home, a address[]);
CREATE TABLE t_records (LIKE made INCLUDING DEFAULTS);
CREATE TABLE t_binary (LIKE made INCLUDING DEFAULTS);
"""

A_PLACE = {"x": 1, "net": "192.0.2.1", "during": "[1,5)", "day": "2026-01-02", "price": "3.25"}
ADDRESSES: list[dict[str, Any] | None] = [
    {"street": "Long Street", "zip": "12345", "at": "2026-01-02 03:04:05+02:00", "tags": ["a", None, "b"]},
    None,
    {},
    {"inner_place": A_PLACE, "places": [A_PLACE, None, {}], "extra": {"b": [1]}, "is_new": True, "share": 0.5},
    {"key": "00000000-0000-0000-0000-00000000000f", "mood": "sad", "a b": "3 days", "tags": [], "zip": "1"},
]


@pytest.mark.core
@pytest.mark.parametrize("form", ["tables", "rows", "structures"])
async def test_composites_have_the_octets_that_the_server_makes(connection: Connection, form: str) -> None:
    await connection.execute(ADDRESS)
    given, kept = ADDRESSES, ["c", "d", "a"]
    batch = array_of(given)
    if form == "rows":
        names = [
            row["attname"]
            for row in await connection.fetch(
                "SELECT attname FROM pg_attribute WHERE attrelid = 'address'::regclass ORDER BY attnum"
            )
        ]
        batch = array_of([None if each is None else tuple(each.get(name) for name in names) for each in given])
    elif form == "structures":
        given = [
            None if each is None else {key: each.get(key) for key in ("street", "tags", "share")} for each in given
        ]
        batch = pa.array(given)
        assert pa.types.is_struct(batch.type)
    for each in given:
        source = "jsonb_populate_record(NULL::address, $1)" if each is not None else "(SELECT NULL::address, $1::jsonb)"
        await connection.execute(
            f"INSERT INTO made (c, d, a) SELECT x, x, ARRAY[x, NULL]::address[] FROM {source} AS t (x)"
            if each is None
            else f"INSERT INTO made (c, d, a) SELECT x, x, ARRAY[x, NULL]::address[] FROM {source} AS x",
            None if each is None else json.dumps(each),
        )
    expected = await octets_of(connection, "SELECT c, d, a FROM made ORDER BY ordinal")
    items = batch.take(pa.array([number for row in range(len(batch)) for number in (row, None)]))
    lists = pa.ListArray.from_arrays(pa.array(range(0, 2 * len(batch) + 1, 2), pa.int32()), items)
    rows = pa.record_batch([batch, batch, lists], names=kept)
    for format in FORMATS:
        plan = await plan_copy(connection, f"t_{format}", {name: name for name in kept}, "public", format)
        assert [str(type_) for type_ in plan.types.values()] == ["address", "address", "address[]"]
        assert await copy_batches(connection, plan, iter([rows.slice(0, 2), rows.slice(2)]), lambda _: None) == len(
            given
        )
        assert await octets_of(connection, f"SELECT c, d, a FROM t_{format} ORDER BY ordinal") == expected


VALUES: list[tuple[str, Any, str]] = [
    ("time", [time(20, 30), None], "20:30:00"),
    ("time", pa.array([73_800], pa.time32("s")), "20:30:00"),
    ("time", [datetime(1969, 12, 31, 20, 30, 0, 5)], "20:30:00.000005"),
    ("timetz", [time(20, 30)], "20:30:00+00"),
    ("timetz", [time(20, 30, tzinfo=timezone(timedelta(hours=-7)))], "20:30:00-07"),
    ("interval", [timedelta(days=2, hours=-1)], "1 day 23:00:00"),
    ("interval", [timedelta(hours=-1)], "-1 days +23:00:00"),
    ("interval", pa.array([90], pa.duration("s")), "00:01:30"),
    (
        "interval",
        pa.array([(14, -3, 1_500_000_000)], pa.month_day_nano_interval()),
        "1 year 2 mons -3 days +00:00:01.5",
    ),
    ("inet", [ipaddress.ip_address("192.0.2.7"), None], "192.0.2.7/32"),
    ("inet", [ipaddress.ip_interface("2001:db8::7/64")], "2001:db8::7/64"),
    ("cidr", [ipaddress.ip_network("192.0.2.0/24")], "192.0.2.0/24"),
    ("bytea", [b"\x00\xff", None], "\\x00ff"),
    ("bytea", pa.array([b"\x01" * 16], pa.binary(16)), "\\x" + "01" * 16),
    ("bytea", ["text"], "\\x74657874"),
    ("bit(1)", [True, None], "1"),
    ("int4range", [asyncpg.Range(1, None), None], "[1,)"),
    ("daterange", [asyncpg.Range(date(2026, 1, 1), date(2026, 2, 1))], "[2026-01-01,2026-02-01)"),
    ("tstzrange", [asyncpg.Range(datetime(2026, 1, 1, tzinfo=UTC), None)], '["2026-01-01 00:00:00+00",)'),
    ("numrange", [asyncpg.Range(None, None, empty=True)], "empty"),
    ("int8range", pa.array([{"lower": 1, "upper": 5}]), "[1,5)"),
    ("tsrange", pa.array([{"lower": datetime(2026, 1, 1), "upper": None}]), '["2026-01-01 00:00:00",)'),
    ("int4multirange", [[asyncpg.Range(5, 7), asyncpg.Range(1, 2)]], "{[1,2),[5,7)}"),
    ("datemultirange", [["[2026-01-01,2026-01-03)"]], "{[2026-01-01,2026-01-03)}"),
    ("int4range[]", [["[1,2]", None]], '{"[1,3)",NULL}'),
]
"""Types, values of Python or Arrow, and the text of the first."""


@pytest.mark.parametrize("format", FORMATS)
async def test_values_of_python_and_arrow_are_converted(connection: Connection, format: CopyFormat) -> None:
    await connection.execute("SET TimeZone = 'UTC'")
    for number, (sql, values, expected) in enumerate(VALUES):
        await connection.execute(f"CREATE TABLE v{number} (ordinal serial, x {sql})")
        plan = await plan_copy(connection, f"v{number}", {"given": "x"}, "public", format)
        array = values if isinstance(values, pa.Array) else array_of(values)
        whole = pa.record_batch([pa.concat_arrays([array] * 3)], names=["given"])
        await copy_batches(connection, plan, iter([whole.slice(len(array))]), lambda _: None)
        found = [row["x"] for row in await connection.fetch(f"SELECT x::text FROM v{number} ORDER BY ordinal")]
        assert found == [expected, *[None] * (len(array) - 1)] * 2, sql


WRONG: list[tuple[str, str]] = [
    ("time", "25:00"),
    ("time", "10:00+02:00"),
    ("timetz", "noon"),
    ("interval", "3"),
    ("interval", "3 fortnights"),
    ("interval", "0.5 months"),
    ("interval", "9999999999 days"),
    ("inet", "192.0.2.256"),
    ("inet", "192.0.2.1/33"),
    ("inet", "192.0.2.1/"),
    ("inet", "192.0.2.1/x"),
    ("cidr", "192.0.2.1/24"),
    ("macaddr", "08:00:2b:01:02"),
    ("macaddr8", "08:00:2b"),
    ("bytea", "\\x0"),
    ("bytea", "a\\b"),
    ("bit(3)", "10"),
    ("varbit(3)", "1010"),
    ("varbit", "102"),
    ("tsvector", "'a"),
    ("tsvector", "a:0"),
    ("int4range", "[5,1)"),
    ("int4range", "[1,99999999999)"),
    ("int4range", "1,2"),
    ("numrange", "[a,b)"),
    ("daterange", "[2026-02-30,)"),
    ("int4multirange", "[1,2)"),
    ("int4multirange", "{[1,2) [3,4)}"),
]


LENIENT = {"10:00+02:00", "3", "0.5 months"}
"""Texts that the server takes, in a sense of its own."""


async def test_texts_that_a_type_does_not_have_are_named_with_a_fix(connection: Connection) -> None:
    for number, (sql, text) in enumerate(WRONG):
        await connection.execute(f"CREATE TABLE w{number} (x {sql})")
        plan = await plan_copy(connection, f"w{number}", {"given": "x"}, "public")
        assert plan.format == "binary"
        batch = pa.record_batch([pa.array([None, text])], names=["given"])
        with raises("invalid-value", f"w{number}.x", text, "give ", kind=RunError):
            await copy_batches(connection, plan, iter([batch]), lambda _: None)
        if text not in LENIENT:
            insert = f"INSERT INTO w{number} VALUES (CAST($1::text AS {sql.partition('(')[0]}))"
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute(insert, text)
