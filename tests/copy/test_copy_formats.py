"""The two formats of COPY, on a real server: the choice for a table, equal rows by both, and the errors of both."""

from __future__ import annotations

import asyncio
import io
import json
import pickle
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
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
from bulkseed.copy.encoders import BINARY_TYPES, MULTIRANGES, RANGES, WIRE_TYPES, encode_binary
from bulkseed.copy.writer import CopyFormat, CopyPlan, copy_batches, copy_shard
from bulkseed.errors import ConnectionLostError, RunError, TargetError
from bulkseed.generators import Context
from bulkseed.listeners import NullListener, Stopwatch
from bulkseed.loader.load import load
from bulkseed.plan.plan import Placement, microseconds
from bulkseed.plan.shards import split_into_shards
from bulkseed.plan.tables import TABLES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from bulkseed.target.copy_plan import plan_copy
from bulkseed.text.faker_source import make_corpus
from support.databases import MakeDatabase
from support.errors import raises
from support.plans import plan_of
from support.queries import digest, run_sql

FORMATS: tuple[CopyFormat, ...] = get_args(CopyFormat)
each_format = pytest.mark.parametrize("format", FORMATS)

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
"""A type of each kind that the binary format supports, as a table declares it."""

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
def test_both_formats_load_the_same(database: Address) -> None:
    bases = [*SCALARS.values(), *ARRAYS.values(), "int4"]
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        connection = runner.run(stack.enter_async_context(open_connection(database)))
        runner.run(make_types(connection, *(f"t_{format}" for format in FORMATS)))

        async def check(rows: list[tuple[Any, ...]], cuts: set[int]) -> None:
            written = {}
            begun = connection.transaction()
            await begun.start()
            try:
                for format in FORMATS:
                    into = await plan_copy(connection, f"t_{format}", COLUMNS, "public", format)
                    assert into.format == format
                    assert [str(type_) for type_ in into.types.values()] == NAMES
                    assert await copy_batches(connection, into, batches_of(rows, cuts), lambda _: None) == len(rows)
                    written[format] = await connection.fetch(f"SELECT t::text FROM t_{format} AS t ORDER BY ordinal")
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


def stored(value: Any, base: str) -> Any:
    """The value in the form that the server would give it: padded, with the order of jsonb, with Arrow's decimals."""
    if isinstance(value, list):
        return [stored(each, base) for each in value]
    if isinstance(value, Decimal):
        with localcontext(prec=DECIMALS.precision):
            return value.quantize(Decimal(1).scaleb(-DECIMALS.scale))
    if base == "bpchar" and value is not None:
        return value.ljust(5)
    if base == "jsonb" and value is not None:
        return json_of(dict(sorted(json.loads(value).items(), key=lambda item: (len(item[0].encode()), item[0]))))
    return value


@pytest.mark.core
def test_the_bytes_are_those_of_the_servers_own_copy(database: Address) -> None:
    # the further types are in test_further_types.py
    assert TYPES.keys() == BINARY_TYPES.keys() - {"time", "bytea", *WIRE_TYPES, *RANGES, *MULTIRANGES}
    bases = [*SCALARS.values(), *ARRAYS.values(), "int4"]
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        connection: Any = runner.run(stack.enter_async_context(open_connection(database)))
        runner.run(make_types(connection, "made", "loaded"))
        into = runner.run(plan_copy(connection, "loaded", COLUMNS, "public", "binary"))

        async def bytes_of(table: str, columns: list[str]) -> bytes:
            names = ", ".join(f'"{name}"' for name in columns)
            output = io.BytesIO()
            await connection.copy_from_query(
                f"SELECT {names} FROM {table} ORDER BY ordinal", output=output, format="binary"
            )
            return output.getvalue()

        async def check(rows: list[tuple[Any, ...]], cuts: set[int], columns: list[str]) -> None:
            begun = connection.transaction()
            await begun.start()
            try:
                records = [tuple(map(read_back, row, bases)) for row in rows]
                await connection.copy_records_to_table("made", records=records, columns=COLUMNS)
                expected = await bytes_of("made", columns)
                edges = sorted({0, len(rows), *(place for place in cuts if place < len(rows))})
                batches = [
                    whole.slice(start, stop - start)
                    for whole in batches_of(rows, set())
                    for start, stop in [*pairwise(edges), (0, 0)]
                ]
                types = {name: into.types[name] for name in columns}
                assert b"".join(chunk.data for chunk in encode_binary(batches, types, "t")) == expected
                await copy_batches(connection, into, iter(batches), lambda _: None)
                assert await bytes_of("loaded", columns) == expected
            finally:
                await begun.rollback()

        @settings(max_examples=50, deadline=None)
        @given(
            rows_of_all,
            lists_of_all,
            st.sets(st.integers(1, 5)),
            st.just(COLUMNS) | st.lists(st.sampled_from(COLUMNS), min_size=1, unique=True),
        )
        @example([], ([],) * len(TYPES), set(), COLUMNS)
        @example([(None,) * len(TYPES)] * 3, ([None] * 4,) * len(TYPES), {1}, COLUMNS)
        @example([(None,) * len(TYPES)] * 3, ([[], [None], [None] * 2, None],) * len(TYPES), {1}, COLUMNS)
        def same(rows: list[tuple[Any, ...]], lists: tuple[list[Any], ...], cuts: set[int], columns: list[str]) -> None:
            given_rows = [
                tuple(stored(value, base) for value, base in zip(row, bases, strict=True))
                for row in filled(rows, lists)
            ]
            runner.run(check(given_rows, cuts, columns))

        same()
        runner.run(stack.aclose())


@pytest.mark.core
@each_format
async def test_a_workspace_is_the_same_in_either_format(
    make_database: MakeDatabase, seeded: Address, format: CopyFormat
) -> None:
    database = await make_database()
    plan = plan_of("3x")  # as what is in ``seeded``
    async with open_connection(database) as connection:
        reactions = await connection.fetch("SELECT id FROM reactions WHERE is_system ORDER BY id")
        placement = Placement(
            first_user=1, first_channel=1, first_message=1, reactions=tuple(row["id"] for row in reactions)
        )
        copy_plans = {
            table.name: await plan_copy(connection, table.name, table.column_names, "public", format)
            for table in plan.model.tables
        }
        assert pickle.loads(pickle.dumps(copy_plans)) == copy_plans
        for shard in split_into_shards(plan, 700):
            await copy_shard(
                connection,
                copy_plans,
                Context(plan, placement, make_corpus(plan.locale)),
                shard,
                Stopwatch(),
                NullListener(),
            )
    names = [table.name for table in TABLES]
    assert await digest(database, *names) == await digest(seeded, *names)


OTHERS = (
    *("money", "xml", "xid8", "tsquery", '"char"', "odd_range", "money[]", "int2vector", "point", "odd_pair"),
    *("moods", "lists[]", 'public."int4"', 'public."text"', 'public."text"[]'),
)
"""Types that the binary format does not support: the server's, and types of the user with the same names."""


class TestChoice:
    @pytest.fixture
    async def others(self, connection: Connection) -> Connection:
        await connection.execute(
            """
            CREATE TYPE public.int4 AS RANGE (subtype = bigint);
            CREATE TYPE public.text AS RANGE (subtype = text);
            CREATE TYPE odd_range AS RANGE (subtype = float8);
            CREATE TYPE odd_pair AS (a int, b money);
            CREATE DOMAIN moods AS money;
            CREATE DOMAIN lists AS bigint[];
            """
        )
        return connection

    async def test_other_types_go_as_records_or_are_named(self, others: Connection) -> None:
        for sql in OTHERS:
            await others.execute(f"DROP TABLE IF EXISTS odd; CREATE TABLE odd (id bigint, x {sql})")
            chosen = await plan_copy(others, "odd", ["id", "x"], "public")
            assert (chosen.format, chosen.types) == ("records", {"id": "int8"}), sql
            with raises("no-binary-format", "odd.x", "--format auto", kind=TargetError):
                await plan_copy(others, "odd", ["id", "x"], "public", "binary")

    async def test_columns_that_are_not_loaded_do_not_matter(self, others: Connection) -> None:
        await others.execute("CREATE TABLE odd (x money, id bigint, gone text, y numeric)")
        await others.execute("ALTER TABLE odd DROP gone")
        assert (await plan_copy(others, "odd", ["id"], "public")).format == "binary"

    async def test_records_are_taken_where_they_are_asked_for(self, connection: Connection) -> None:
        chosen = await plan_copy(connection, "user_channels", ["user_id", "channel_id"], "public", "records")
        assert (chosen.format, chosen.types) == ("records", {"user_id": "int8", "channel_id": "int8"})

    async def test_names_that_need_quotes(self, connection: Connection) -> None:
        await connection.execute('CREATE SCHEMA "a.b"; CREATE TABLE "a.b"."T ""x""" ("select" integer, "ID" bigint)')
        into = await plan_copy(connection, 'T "x"', ["ID", "select"], "a.b")
        assert into == CopyPlan('T "x"', ("ID", "select"), "a.b", "binary", {"ID": "int8", "select": "int4"})
        batch = pa.record_batch([[1, 2], [3, 4]], names=["select", "ID"])
        await copy_batches(connection, into, iter([batch]), lambda _: None)
        assert [tuple(row) for row in await connection.fetch('SELECT "select", "ID" FROM "a.b"."T ""x"""')] == [
            (1, 3),
            (2, 4),
        ]

    async def test_a_temporary_table_without_a_schema(self, connection: Connection) -> None:
        await connection.execute("CREATE TEMP TABLE messages AS SELECT id, created_at FROM messages WITH NO DATA")
        into = await plan_copy(connection, "messages", ["id", "created_at"])
        assert into.format == "binary"
        batch = pa.record_batch([pa.array([1]), pa.array([0], pa.timestamp("us"))], names=["id", "created_at"])
        assert await copy_batches(connection, into, iter([batch]), lambda _: None) == 1
        assert await connection.fetchval("SELECT count(*) FROM pg_temp.messages") == 1


async def load_columns(
    connection: Connection,
    format: CopyFormat,
    columns: dict[str, pa.Array],
    size: int = 100,
    told: list[int] | None = None,
) -> int:
    """Load columns into the table ``t``, in batches of ``size`` rows."""
    into = await plan_copy(connection, "t", [*columns], "public", format)
    whole = pa.record_batch([*columns.values()], names=[*columns])
    batches = (whole.slice(start, size) for start in range(0, whole.num_rows, size))
    return await copy_batches(connection, into, batches, (told if told is not None else []).append)


@each_format
async def test_progress_adds_up_to_the_rows(connection: Connection, format: CopyFormat) -> None:
    for rows in (0, 1, 3, 1000):
        await connection.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (x text)")
        told: list[int] = []
        found = await load_columns(connection, format, {"x": pa.array(["x" * 5000] * rows, pa.string())}, told=told)
        assert found == sum(told) == await connection.fetchval("SELECT count(*) FROM t") == rows


@each_format
async def test_an_empty_batch_among_others(connection: Connection, format: CopyFormat) -> None:
    await connection.execute("CREATE TABLE t (x int)")
    into = await plan_copy(connection, "t", ["x"], "public", format)
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


@each_format
async def test_what_the_server_refuses_is_told_in_one_sentence(connection: Connection, format: CopyFormat) -> None:
    await connection.execute("CREATE DOMAIN short AS text CHECK (length(VALUE) < 4)")
    for columns, values, kind in REFUSED:
        await connection.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t ({columns})")
        with raises("server-error", kind=RunError) as told:
            await load_columns(connection, format, {"x": pa.array(values, pa.string())}, size=2)
        assert "\n" not in str(told.value)
        # with the row and the column, in the server's words
        with pytest.raises(kind) as refused:
            await connection.copy_records_to_table(
                "t", records=[(value,) for value in values], columns=["x"], schema_name=None
            )
        theirs: Any = refused.value
        facts = ("public.t", theirs.args[0], theirs.detail or "", theirs.context)
        assert all(fact in str(told.value) for fact in facts)
        assert not isinstance(told.value, ConnectionLostError)
        # the connection goes on
        assert await connection.fetchval("SELECT count(*) FROM t") == 0


@each_format
async def test_integers_that_their_columns_cannot_hold(connection: Connection, format: CopyFormat) -> None:
    await connection.execute("CREATE DOMAIN tiny AS smallint")
    for sql, bits in (("smallint", 16), ("integer", 32), ("tiny", 16)):
        await connection.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t (id bigint, x {sql})")
        for value in (2 ** (bits - 1), -(2 ** (bits - 1)) - 1):
            code = {"binary": "value-out-of-range", "records": "value-not-encodable"}[format]
            with raises(code, "public.t", "x", value, kind=RunError):
                await load_columns(connection, format, {"id": pa.array([1, 2]), "x": pa.array([0, value])})
        assert await connection.fetchval("SELECT count(*) FROM t") == 0


@each_format
async def test_times_that_only_one_format_could_load_are_refused_by_both(
    connection: Connection, format: CopyFormat
) -> None:
    for sql in ("timestamp", "timestamptz"):
        await connection.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t (x {sql})")
        for beyond in (0, 1, 2**40):
            for moment, step in ((datetime.min, -beyond), (datetime.max, beyond)):
                value = microseconds(moment.replace(tzinfo=UTC)) + step
                with raises("value-out-of-range", "public.t.x", f"{value} µs", "1 to 9999", kind=RunError):
                    await load_columns(connection, format, {"x": pa.array([0, None, value], pa.timestamp("us"))})


@each_format
async def test_rows_that_a_trigger_drops_are_missed(connection: Connection, format: CopyFormat) -> None:
    await connection.execute(
        """
        CREATE TABLE t (x int);
        CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RETURN CASE WHEN NEW.x % 2 = 1 THEN NEW END; END $$;
        CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION odd();
        """
    )
    with raises("rows-dropped", "public.t", "5 of 10 rows", kind=RunError):
        await load_columns(connection, format, {"x": pa.array(range(10))})


@each_format
async def test_a_generator_that_fails_in_the_middle_ends_the_copy(connection: Connection, format: CopyFormat) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([[1, 2]], names=["x"])
        raise TimeoutError("broken on purpose")

    await connection.execute("CREATE TABLE t (x int)")
    into = await plan_copy(connection, "t", ["x"], "public", format)
    with pytest.raises(TimeoutError, match="broken on purpose"):
        await copy_batches(connection, into, broken(), lambda _: None)
    assert await connection.fetchval("SELECT count(*) FROM t") == 0


@each_format
def test_a_backend_killed_while_writes_are_paused_is_not_a_hang(
    database: Address, format: CopyFormat, any_loop: dict[str, Any]
) -> None:
    batch = pa.record_batch([range(16_384)], names=["x"])

    def endless() -> Iterator[pa.RecordBatch]:
        while True:
            yield batch

    async def main() -> None:
        async with open_connection(database) as connection, open_connection(database) as other:
            told: list[int] = []

            async def kill() -> None:
                before = 0
                while not told or len(told) != before:  # until the server reads no more
                    before = len(told)
                    await anyio.sleep(0.15)
                await other.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())

            into = await plan_copy(connection, "t", ["x"], "public", format)
            with anyio.fail_after(20):
                killing = asyncio.ensure_future(kill())
                with raises("connection-lost", kind=ConnectionLostError):
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
