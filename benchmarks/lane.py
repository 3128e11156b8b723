"""Run one lane in its own process: connect, prepare the input of the lane, then load ``messages``.

A lane is a library or method that loads rows. Lanes that take ready rows get them in the form that is fastest for them,
made before the clock starts and excluded from garbage collection, whose work on a million tuples is not part of the
lane. Each lane is one process with one connection, and commits once; the clock ends after the commit.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import asyncpg
import pyarrow as pa
from sqlalchemy import BigInteger, DateTime, Text, column, insert, table
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.measure import Clock, clocked, peak_rss
from benchmarks.message_rows import COLUMNS, message_rows
from benchmarks.plans import AS_OF, plan_of
from bulkseed.copy.encoders import encode_records
from bulkseed.copy.writer import copy_batches
from bulkseed.plan.plan import Plan
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.postgres.driver import LOOP
from bulkseed.target.copy_plan import plan_copy

__all__ = ["HANDED", "LANES", "MAKING", "run_lane"]

Lane = Callable[[Plan, str, Clock], Any]

TYPES: Final = ("int8", "text", "timestamp", "timestamp", "int8", "int8", "int8")
COPY: Final = f"COPY messages ({', '.join(COLUMNS)}) FROM STDIN"
SQL_TYPES: Final = (BigInteger, Text, DateTime, DateTime, BigInteger, BigInteger, BigInteger)
MESSAGES: Final = table("messages", *(column(name, type_) for name, type_ in zip(COLUMNS, SQL_TYPES, strict=True)))
PAGE: Final = 10_000
"""Rows per ``execute`` of SQLAlchemy; more were not faster."""


def tuples(plan: Plan) -> list[tuple[Any, ...]]:
    rows = [row for batch in message_rows(plan) for row in encode_records(batch.select(COLUMNS))]
    gc.freeze()
    return rows


def on_loop(command: Callable[[], Awaitable[None]]) -> None:
    anyio.run(command, backend_options=LOOP)


def bulkseed(format: Any) -> Lane:
    def lane(plan: Plan, dsn: str, clock: Clock) -> None:
        async def load() -> None:
            async with open_connection(Address.parse(dsn)) as connection:
                into = await plan_copy(connection, "messages", COLUMNS, None, format)
                with clocked(clock):
                    await copy_batches(connection, into, message_rows(plan), lambda rows: None)

        on_loop(load)

    return lane


def asyncpg_records(plan: Plan, dsn: str, clock: Clock) -> None:
    rows = tuples(plan)

    async def load() -> None:
        connection = await asyncpg.connect(dsn)
        with clocked(clock):
            await connection.copy_records_to_table("messages", records=rows, columns=COLUMNS)
        await connection.close()

    on_loop(load)


def psycopg_copy(*, binary: bool) -> Lane:
    def lane(plan: Plan, dsn: str, clock: Clock) -> None:
        psycopg, rows = importlib.import_module("psycopg"), tuples(plan)
        with psycopg.connect(dsn) as connection, connection.cursor() as cursor, clocked(clock):
            with cursor.copy(COPY + " (FORMAT binary)" * binary) as copy:
                if binary:
                    copy.set_types(TYPES)
                for row in rows:
                    copy.write_row(row)
            connection.commit()

    return lane


def psycopg_executemany(plan: Plan, dsn: str, clock: Clock) -> None:
    psycopg, rows = importlib.import_module("psycopg"), tuples(plan)
    placeholders = ", ".join(["%s"] * len(COLUMNS))
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor, clocked(clock):
        cursor.executemany(f"INSERT INTO messages ({', '.join(COLUMNS)}) VALUES ({placeholders})", rows)
        connection.commit()


def adbc(plan: Plan, dsn: str, clock: Clock) -> None:
    dbapi = importlib.import_module("adbc_driver_postgresql.dbapi")
    table = pa.Table.from_batches(message_rows(plan)).select(COLUMNS)
    with dbapi.connect(dsn) as connection, connection.cursor() as cursor, clocked(clock):
        cursor.adbc_ingest("messages", table, mode="append")
        connection.commit()


def sqlalchemy_insert(plan: Plan, dsn: str, clock: Clock) -> None:
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in tuples(plan)]
    gc.freeze()

    async def load() -> None:
        engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn))
        async with engine.connect() as connection:
            with clocked(clock):
                for start in range(0, len(rows), PAGE):
                    await connection.execute(insert(MESSAGES), rows[start : start + PAGE])
                await connection.commit()
        await engine.dispose()

    on_loop(load)


INSERT_SELECT: Final = """
INSERT INTO messages (id, content, created_at, updated_at, user_id, channel_id, parent_id)
SELECT id, left($1, 10 - round(44.5 * ln(1 - random()))::int), moment, moment,
       1 + floor(random() * $2::int)::bigint, 1 + id * $3::bigint / ($4 + 1),
       CASE WHEN id > 1 AND random() < 1.0 / 6 THEN id - 1 END
FROM (SELECT id, $5::timestamp - random() * interval '150 days' AS moment FROM generate_series(1, $4::bigint) AS id)
"""
"""Similar rows: texts with the same mean length, one sixth replies. All texts begin alike, which is cheap."""


def insert_select(plan: Plan, dsn: str, clock: Clock) -> None:
    batches = list(message_rows(plan))
    rows = sum(batch.num_rows for batch in batches)
    pool = " ".join(batches[0].column("content")[:40].to_pylist())
    values = (pool, plan.users, plan.channels, rows, AS_OF.replace(tzinfo=None))

    async def load() -> None:
        connection = await asyncpg.connect(dsn)
        with clocked(clock):
            await connection.execute(INSERT_SELECT, *values)
        await connection.close()

    asyncio.run(load())


MAKING: Final = {"bulkseed, binary": bulkseed("binary"), "bulkseed, records": bulkseed("records")}
HANDED: Final[dict[str, Lane]] = {
    "asyncpg copy_records": asyncpg_records,
    "psycopg 3 COPY, binary": psycopg_copy(binary=True),
    "psycopg 3 COPY, text": psycopg_copy(binary=False),
    "ADBC ingest": adbc,
    "SQLAlchemy Core insert()": sqlalchemy_insert,
    "psycopg 3 executemany": psycopg_executemany,
}
IN_SERVER: Final[dict[str, Lane]] = {"INSERT … SELECT": insert_select}
LANES: Final[dict[str, Lane]] = {**MAKING, **HANDED, **IN_SERVER}


def run_lane(name: str, scale: str, dsn: str) -> dict[str, Any]:
    """Load the messages of a scale with a lane; return the seconds and the peak memory of the process."""
    clock = Clock()
    LANES[name](plan_of(scale), dsn, clock)
    return {"seconds": clock.seconds, "cpu_seconds": clock.cpu_seconds, "peak_rss": peak_rss()}
