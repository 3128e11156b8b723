"""The two lanes of COPY, on a real server: which one a table takes, that both load the same, and how both fail."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, get_args
from uuid import UUID

import anyio
import asyncpg
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.copy.writer import CopyFormat, CopyInto, copy_batches, copy_shard
from bulkseed.errors import ConnectionLost, RunError, TargetError
from bulkseed.generators import Context
from bulkseed.listeners import NullListener, Stopwatch
from bulkseed.loader.load import load
from bulkseed.plan.plan import Placement, microseconds
from bulkseed.plan.shards import split_into_shards
from bulkseed.plan.tables import TABLES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, connected
from bulkseed.target.copy_plan import copy_into
from bulkseed.text.faker_source import corpus_of
from support.databases import MakeDatabase
from support.plans import plan_of
from support.queries import digest, run_sql

LANES: tuple[CopyFormat, ...] = get_args(CopyFormat)
each_lane = pytest.mark.parametrize("lane", LANES)

TYPES = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "bool": "boolean",
    "text": "text",
    "varchar": "varchar(20)",
    "bpchar": "char(5)",
    "name": "name",
    "citext": "citext",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
    "float4": "real",
    "float8": "double precision",
    "numeric": "numeric",
    "date": "date",
    "uuid": "uuid",
    "json": "json",
    "jsonb": "jsonb",
    "enum": "mood",
}
"""A type of each kind that the binary lane knows, as a table declares it."""

DECIMALS = pa.decimal128(38, 9)
ARROW = {
    "int": pa.int64(),
    "bool": pa.bool_(),
    "time": pa.timestamp("us"),
    "float": pa.float64(),
    "numeric": DECIMALS,
    "date": pa.date32(),
    "uuid": pa.binary(16),
}


def arrow_type(base: str) -> pa.DataType:
    """What generators make for a column of this type."""
    return next((arrow for begin, arrow in ARROW.items() if base.startswith(begin)), pa.string())


LABELS = ("glad", "sad", "it's", 'a "b"', "back\\slash", "{a,b}", "NULL", " ", "", "\u05d0\U0001f469", "x" * 63)


FORMS = {"c": "{}", "d": "dd_{}", "a": "{}[]", "ad": "dd_{}[]", "da": "da_{}"}
"""A column of each type by its prefix: plain, of domains two deep, arrays of both, and of a domain over arrays."""


async def make_types(connection: Connection, *tables: str) -> None:
    """Tables of a column of each form for each type."""
    labels = ", ".join("'" + label.replace("'", "''") + "'" for label in LABELS)
    await connection.execute("CREATE EXTENSION citext; CREATE SCHEMA elsewhere; SET search_path = public, elsewhere")
    await connection.execute("ALTER EXTENSION citext SET SCHEMA elsewhere")
    await connection.execute(f"CREATE TYPE elsewhere.mood AS ENUM ({labels})")
    for name, sql in TYPES.items():
        await connection.execute(f"CREATE DOMAIN d_{name} AS {sql}; CREATE DOMAIN elsewhere.dd_{name} AS d_{name}")
        await connection.execute(f"CREATE DOMAIN da_{name} AS d_{name}[]")
    await connection.set_builtin_type_codec("citext", schema="elsewhere", codec_name="text")
    columns = [
        f'"{prefix}_{name}" {form.format(sql if prefix in "ca" else name)}'
        for prefix, form in FORMS.items()
        for name, sql in TYPES.items()
    ]
    for table in tables:
        await connection.execute(f"CREATE TABLE {table} ({', '.join(columns)}, ordinal integer)")


SCALARS = {f"{prefix}_{name}": name for prefix in ("c", "d") for name in TYPES}
ARRAYS = {f"{prefix}_{name}": name for prefix in ("a", "ad", "da") for name in TYPES}
"""The columns of those tables, with their base types, or those of their elements."""

COLUMNS = [*SCALARS, *ARRAYS, "ordinal"]
NAMES = [*SCALARS.values(), *(f"{base}[]" for base in ARRAYS.values()), "int4"]
"""The columns, and the types of all of them."""

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from(
    "\"'\\\t\n\r\v\b\x01\x1f\x7f\x85 ,.{}()N\u0301\u200d\u202e\u05d0\u0627\ufeff\uffff\U0001f469\U0010ffff"
)
texts = st.text(characters, max_size=20)
MOMENT = timedelta(microseconds=1)
FIRST, LAST = datetime.min + MOMENT, datetime.max - MOMENT
FIRST_DAY, LAST_DAY = date.min + timedelta(days=1), date.max - timedelta(days=1)
times = st.datetimes(FIRST, LAST) | st.sampled_from([FIRST, LAST, datetime(2000, 1, 1)])


def json_of(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def integers(bits: int) -> st.SearchStrategy[int]:
    half = 2 ** (bits - 1)
    return st.integers(-half, half - 1) | st.sampled_from([-half, half - 1, 0, -1])


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int2": integers(16),
    "int4": integers(32),
    "int8": integers(64),
    "bool": st.booleans(),
    "text": texts | st.just("x" * 100_000),
    "varchar": texts,
    "bpchar": st.text(characters, max_size=5),
    "name": texts.filter(lambda text: len(text.encode()) < 64),
    "citext": texts,
    "timestamp": times,
    "timestamptz": times,
    "float4": st.floats(width=32),
    "float8": st.floats(),
    "numeric": st.decimals(-(10**29) + 1, 10**29 - 1, allow_nan=False, places=9)
    | st.sampled_from(["99999999999999999999999999999.999999999", "-0.000000001", "10000", "1000.1", "0"]).map(Decimal),
    "date": st.dates(FIRST_DAY, LAST_DAY) | st.sampled_from([FIRST_DAY, LAST_DAY, date(2000, 1, 1)]),
    "uuid": st.uuids() | st.just(UUID(int=0)),
    "json": st.recursive(st.none() | st.booleans() | st.integers() | texts, st.lists, max_leaves=5).map(json.dumps),
    "jsonb": st.dictionaries(texts, st.none() | texts | st.integers(), max_size=3).map(json_of),
    "enum": st.sampled_from(LABELS),
}

rows_of_all = st.lists(st.tuples(*(st.none() | VALUES[base] for base in TYPES)), max_size=4)
lists_of_all = st.tuples(
    *(st.lists(st.none() | st.lists(st.none() | VALUES[base], max_size=3), min_size=4, max_size=4) for base in TYPES)
)


def filled(rows: list[tuple[Any, ...]], lists: tuple[list[Any], ...]) -> list[tuple[Any, ...]]:
    """Values for all columns: the domains' have the same."""
    columns = zip(*lists, strict=True)
    return [(*row * 2, *(next(columns) * 3), at) for at, row in enumerate(rows)]


def octets_of(value: Any) -> Any:
    """What Arrow is given for a value."""
    if isinstance(value, list):
        return [octets_of(each) for each in value]
    return value.bytes if isinstance(value, UUID) else value


def batches_of(rows: list[tuple[Any, ...]], cuts: set[int]) -> Iterator[pa.RecordBatch]:
    """The rows as generators would make them, cut before each place in ``cuts``."""
    edges = sorted({0, len(rows), *(place for place in cuts if place < len(rows))})
    types = [arrow_type(base) for base in SCALARS.values()]
    types += [pa.list_(arrow_type(base)) for base in ARRAYS.values()]
    for start, stop in pairwise(edges):
        columns = zip(*rows[start:stop], strict=True)
        arrays = [
            pa.array([octets_of(value) for value in values], arrow)
            for values, arrow in zip(columns, [*types, pa.int64()], strict=True)
        ]
        yield pa.record_batch(arrays, names=COLUMNS)


def read_back(value: Any, base: str) -> Any:
    """What a column gives for a value that was loaded."""
    if value is None:
        return None
    if isinstance(value, list):
        return [read_back(each, base) for each in value]
    if base == "bpchar":
        return value.ljust(5)
    return value.replace(tzinfo=UTC) if base == "timestamptz" else value


def comparable(value: Any, base: str) -> Any:
    """Equal for what is equal: NaN too, and JSON of any layout."""
    if isinstance(value, list):
        return [comparable(each, base) for each in value]
    if base == "jsonb" and value is not None:
        return json.loads(value)
    return str(value) if isinstance(value, float) else value


@pytest.mark.core
def test_both_lanes_load_the_same(database: Address) -> None:
    bases = [*SCALARS.values(), *ARRAYS.values(), "int4"]
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        connection = runner.run(stack.enter_async_context(connected(database)))
        runner.run(make_types(connection, *(f"t_{lane}" for lane in LANES)))

        async def check(rows: list[tuple[Any, ...]], cuts: set[int]) -> None:
            written = {}
            begun = connection.transaction()
            await begun.start()
            try:
                for lane in LANES:
                    into = await copy_into(connection, f"t_{lane}", COLUMNS, "public", lane)
                    assert into.lane == lane
                    assert [str(type_) for type_ in into.types.values()] == NAMES
                    assert await copy_batches(connection, into, batches_of(rows, cuts), lambda _: None) == len(rows)
                    written[lane] = await connection.fetch(f"SELECT t::text FROM t_{lane} AS t ORDER BY ordinal")
                found = await connection.fetch("SELECT * FROM t_binary ORDER BY ordinal")
            finally:
                await begun.rollback()
            assert written["records"] == written["binary"]
            for row, back in zip(rows, found, strict=True):
                for name, base, value, there in zip(COLUMNS, bases, row, back, strict=True):
                    assert comparable(there, base) == comparable(read_back(value, base), base), name

        @settings(max_examples=25, deadline=None)
        @given(rows_of_all, lists_of_all, st.sets(st.integers(1, 5)))
        @example([(None,) * len(TYPES)], ([None] * 4,) * len(TYPES), set())
        def both(rows: list[tuple[Any, ...]], lists: tuple[list[Any], ...], cuts: set[int]) -> None:
            runner.run(check(filled(rows, lists), cuts))

        both()
        runner.run(stack.aclose())


@pytest.mark.core
@each_lane
async def test_a_workspace_is_the_same_by_either_lane(
    make_database: MakeDatabase, seeded: Address, lane: CopyFormat
) -> None:
    database = await make_database()
    plan = plan_of("3x")  # as what is in ``seeded``
    async with connected(database) as connection:
        reactions = await connection.fetch("SELECT id FROM reactions WHERE is_system ORDER BY id")
        placement = Placement(
            first_user=1, first_channel=1, first_message=1, reactions=tuple(row["id"] for row in reactions)
        )
        lanes = {
            table.name: await copy_into(connection, table.name, table.column_names, "public", lane) for table in TABLES
        }
        assert pickle.loads(pickle.dumps(lanes)) == lanes
        for shard in split_into_shards(plan, 700):
            await copy_shard(
                connection, lanes, Context(plan, placement, corpus_of(plan.locale)), shard, Stopwatch(), NullListener()
            )
    names = [table.name for table in TABLES]
    assert await digest(database, *names) == await digest(seeded, *names)


OTHERS = (
    *("money", "time with time zone", "xid8", "bytea", '"char"', "int4range", "bytea[]", "int2vector", "point"),
    *("moods", "lists[]", 'public."int4"', 'public."text"', 'public."text"[]'),
)
"""Types that the binary lane does not know: the server's, and its own that look familiar."""


class TestChoice:
    @pytest.fixture
    async def others(self, connection: Connection) -> Connection:
        await connection.execute(
            """
            CREATE TYPE public.int4 AS RANGE (subtype = bigint);
            CREATE TYPE public.text AS (a int, b int);
            CREATE DOMAIN moods AS money;
            CREATE DOMAIN lists AS bigint[];
            """
        )
        return connection

    async def test_other_types_go_as_records_or_are_named(self, others: Connection) -> None:
        for sql in OTHERS:
            await others.execute(f"DROP TABLE IF EXISTS odd; CREATE TABLE odd (id bigint, x {sql})")
            chosen = await copy_into(others, "odd", ["id", "x"], "public")
            assert (chosen.lane, chosen.types) == ("records", {"id": "int8"}), sql
            with pytest.raises(
                TargetError, match=r"odd\.x is of type .*, which the binary lane.*--format auto"
            ) as told:
                await copy_into(others, "odd", ["id", "x"], "public", "binary")
            assert "\n" not in str(told.value)

    async def test_columns_that_are_not_loaded_do_not_matter(self, others: Connection) -> None:
        await others.execute("CREATE TABLE odd (x money, id bigint, gone text, y numeric)")
        await others.execute("ALTER TABLE odd DROP gone")
        assert (await copy_into(others, "odd", ["id"], "public")).lane == "binary"

    async def test_records_are_taken_where_they_are_asked_for(self, connection: Connection) -> None:
        chosen = await copy_into(connection, "user_channels", ["user_id", "channel_id"], "public", "records")
        assert (chosen.lane, chosen.types) == ("records", {"user_id": "int8", "channel_id": "int8"})

    async def test_names_that_need_quotes(self, connection: Connection) -> None:
        await connection.execute('CREATE SCHEMA "a.b"; CREATE TABLE "a.b"."T ""x""" ("select" integer, "ID" bigint)')
        into = await copy_into(connection, 'T "x"', ["ID", "select"], "a.b")
        assert into == CopyInto('T "x"', ("ID", "select"), "a.b", "binary", {"ID": "int8", "select": "int4"})
        batch = pa.record_batch([[1, 2], [3, 4]], names=["select", "ID"])
        await copy_batches(connection, into, iter([batch]), lambda _: None)
        assert [tuple(row) for row in await connection.fetch('SELECT "select", "ID" FROM "a.b"."T ""x"""')] == [
            (1, 3),
            (2, 4),
        ]

    async def test_a_temporary_table_without_a_schema(self, connection: Connection) -> None:
        await connection.execute("CREATE TEMP TABLE messages AS SELECT id, created_at FROM messages WITH NO DATA")
        into = await copy_into(connection, "messages", ["id", "created_at"])
        assert into.lane == "binary"
        batch = pa.record_batch([pa.array([1]), pa.array([0], pa.timestamp("us"))], names=["id", "created_at"])
        assert await copy_batches(connection, into, iter([batch]), lambda _: None) == 1
        assert await connection.fetchval("SELECT count(*) FROM pg_temp.messages") == 1


async def loaded(
    connection: Connection,
    lane: CopyFormat,
    columns: dict[str, pa.Array],
    size: int = 100,
    told: list[int] | None = None,
) -> int:
    """Load columns into the table ``t``, in batches of ``size`` rows."""
    into = await copy_into(connection, "t", [*columns], "public", lane)
    whole = pa.record_batch([*columns.values()], names=[*columns])
    batches = (whole.slice(start, size) for start in range(0, whole.num_rows, size))
    return await copy_batches(connection, into, batches, (told if told is not None else []).append)


@each_lane
async def test_progress_adds_up_to_the_rows(connection: Connection, lane: CopyFormat) -> None:
    for rows in (0, 1, 3, 1000):
        await connection.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (x text)")
        told: list[int] = []
        found = await loaded(connection, lane, {"x": pa.array(["x" * 5000] * rows, pa.string())}, told=told)
        assert found == sum(told) == await connection.fetchval("SELECT count(*) FROM t") == rows


@each_lane
async def test_an_empty_batch_among_others(connection: Connection, lane: CopyFormat) -> None:
    await connection.execute("CREATE TABLE t (x int)")
    into = await copy_into(connection, "t", ["x"], "public", lane)
    batch = pa.record_batch([[1, 2]], names=["x"])
    empty = batch.slice(2)
    assert await copy_batches(connection, into, iter([empty, batch, empty, batch, empty]), lambda _: None) == 4
    assert await copy_batches(connection, into, iter([empty, empty]), lambda _: None) == 0


REFUSED: tuple[tuple[str, list[str | None], type[asyncpg.PostgresError]], ...] = (
    ("x text", ["a", "b", "c\0d"], asyncpg.CharacterNotInRepertoireError),
    ("x varchar(3)", ["abc", "abcd"], asyncpg.StringDataRightTruncationError),
    ("x short", ["abc", "abcd"], asyncpg.CheckViolationError),
    ("x text NOT NULL", ["a", None], asyncpg.NotNullViolationError),
    ("x text UNIQUE", ["a", "b", "a"], asyncpg.UniqueViolationError),
    ("x text, CHECK (x <> 'b')", ["a", "b"], asyncpg.CheckViolationError),
)
"""A table's columns, the values of x that it is sent, of which the last is wrong, and the server's error."""


@each_lane
async def test_what_the_server_refuses_is_told_in_one_sentence(connection: Connection, lane: CopyFormat) -> None:
    await connection.execute("CREATE DOMAIN short AS text CHECK (length(VALUE) < 4)")
    for columns, values, kind in REFUSED:
        await connection.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t ({columns})")
        with pytest.raises(RunError, match=r"^loading public\.t: the server refuses: ") as told:
            await loaded(connection, lane, {"x": pa.array(values, pa.string())}, size=2)
        assert "\n" not in str(told.value)
        # with the row and the column, in the server's words
        with pytest.raises(kind) as refused:
            await connection.copy_records_to_table(
                "t", records=[(value,) for value in values], columns=["x"], schema_name=None
            )
        theirs: Any = refused.value
        assert all(part in str(told.value) for part in (theirs.args[0], theirs.detail or "", theirs.context))
        assert not isinstance(told.value, ConnectionLost)
        # the connection goes on
        assert await connection.fetchval("SELECT count(*) FROM t") == 0


@each_lane
async def test_integers_that_their_columns_cannot_hold(connection: Connection, lane: CopyFormat) -> None:
    await connection.execute("CREATE DOMAIN tiny AS smallint")
    for sql, bits in (("smallint", 16), ("integer", 32), ("tiny", 16)):
        await connection.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t (id bigint, x {sql})")
        for value in (2 ** (bits - 1), -(2 ** (bits - 1)) - 1):
            with pytest.raises(RunError, match=rf"public\.t.*x .*{value}.*type") as told:
                await loaded(connection, lane, {"id": pa.array([1, 2]), "x": pa.array([0, value])})
            assert "\n" not in str(told.value)
        assert await connection.fetchval("SELECT count(*) FROM t") == 0


@each_lane
async def test_times_that_only_one_lane_could_load_are_refused_by_both(
    connection: Connection, lane: CopyFormat
) -> None:
    for sql in ("timestamp", "timestamptz"):
        await connection.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t (x {sql})")
        for beyond in (0, 1, 2**40):
            for moment, step in ((datetime.min, -beyond), (datetime.max, beyond)):
                value = microseconds(moment.replace(tzinfo=UTC)) + step
                said = rf"public\.t\.x cannot take the time {value} µs from 1970: make .* 1 to 9999"
                with pytest.raises(RunError, match=said):
                    await loaded(connection, lane, {"x": pa.array([0, None, value], pa.timestamp("us"))})


@each_lane
async def test_rows_that_a_trigger_drops_are_missed(connection: Connection, lane: CopyFormat) -> None:
    await connection.execute(
        """
        CREATE TABLE t (x int);
        CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RETURN CASE WHEN NEW.x % 2 = 1 THEN NEW END; END $$;
        CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION odd();
        """
    )
    with pytest.raises(RunError, match=r"public\.t took 5 of 10 rows: a trigger or rule"):
        await loaded(connection, lane, {"x": pa.array(range(10))})


@each_lane
async def test_a_generator_that_fails_in_the_middle_ends_the_copy(connection: Connection, lane: CopyFormat) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([[1, 2]], names=["x"])
        raise TimeoutError("broken on purpose")

    await connection.execute("CREATE TABLE t (x int)")
    into = await copy_into(connection, "t", ["x"], "public", lane)
    with pytest.raises(TimeoutError, match="broken on purpose"):
        await copy_batches(connection, into, broken(), lambda _: None)
    assert await connection.fetchval("SELECT count(*) FROM t") == 0


@each_lane
def test_a_backend_killed_while_writes_are_paused_is_not_a_hang(
    database: Address, lane: CopyFormat, any_loop: dict[str, Any]
) -> None:
    batch = pa.record_batch([range(16_384)], names=["x"])

    def endless() -> Iterator[pa.RecordBatch]:
        while True:
            yield batch

    async def main() -> None:
        async with connected(database) as connection, connected(database) as other:
            told: list[int] = []

            async def kill() -> None:
                before = 0
                while not told or len(told) != before:  # until the server reads no more
                    before = len(told)
                    await anyio.sleep(0.15)
                await other.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())

            into = await copy_into(connection, "t", ["x"], "public", lane)
            with anyio.fail_after(20):
                killing = asyncio.ensure_future(kill())
                with pytest.raises(ConnectionLost, match="the server ended the connection"):
                    await copy_batches(connection, into, endless(), told.append)
                await killing

    asyncio.run(
        run_sql(
            database,
            "CREATE TABLE t (x bigint)",
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); END $$",
            "CREATE TRIGGER wait BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION wait()",
        )
    )
    anyio.run(main, backend_options=any_loop)


@pytest.mark.parametrize("zone", ["timestamp", "timestamptz"])
async def test_cleanup_knows_times_again_through_domains(database: Address, zone: str) -> None:
    before = await digest(database)
    await run_sql(database, f"CREATE DOMAIN moment AS {zone}", "ALTER TABLE users ALTER created_at TYPE moment")
    report = await load(plan_of(), database)
    assert (await cleanup(database, [report.run])).removed == report.rows
    assert await digest(database) == before
