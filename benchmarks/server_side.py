"""Fill the tables from files on the server while indexes and keys are built: a lower limit for any client.

All connections take jobs from one queue, by priority. The priorities were found by experiment, on two cores.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from typing import Final

import anyio

from bulkseed.deferral import Captured, Deferred, capture, drop, rebuild
from bulkseed.deferral.definitions import KEYS
from bulkseed.load_options import available_cores
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from bulkseed.sql import SQL, identifier

__all__ = ["PARTED", "bare", "copy_sql", "fill", "fill_and_rebuild", "write_files"]

SCHEMA: Final = "public"
PARTED: Final = ("messages", "message_reactions", "user_channels")
"""The tables that are large enough to be filled by several connections."""

COPIES: Final = {"users": 0, "channels": 1, "messages": 2, "message_reactions": 11, "user_channels": 12}
FINISH: Final = 10
INDEXES: Final = {"messages": 20, "message_reactions": 30, "user_channels": 40, "channels": 50, "users": 50}
BEFORE_INDEXES: Final = -5
"""Priorities, the smallest first. Foreign keys of a table are validated before indexes of the next table are built."""

Job = Callable[[Connection], Awaitable[None]]


class Queue:
    """Jobs for several connections, the smallest priority first; jobs may add jobs."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, int, Job]] = []
        self.order = itertools.count()
        self.left = 0
        self.changed = anyio.Event()

    def add(self, priority: int, job: Job) -> None:
        """Add a job for the next free connection."""
        self.left += 1
        heapq.heappush(self.waiting, (priority, next(self.order), job))
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    async def work(self, connection: Connection) -> None:
        """Run jobs on a connection until none is left or running."""
        while self.left:
            if not self.waiting:
                await self.changed.wait()
                continue
            _, _, job = heapq.heappop(self.waiting)
            await job(connection)
            self.left -= 1
            if not self.left:
                self.wake()


class TableFiller:
    """The jobs that fill all tables and build their indexes and keys."""

    def __init__(self, deferred: Sequence[Deferred], files: Mapping[str, Sequence[Path]], *, freeze: bool) -> None:
        self.queue = Queue()
        self.freeze = freeze
        self.indexes = {name: [index for index in deferred if is_index_of(index, name)] for name in TABLE_NAMES}
        self.foreign = [key for key in deferred if key.kind == "foreign key"]
        self.copying = {name: len(files[name]) for name in TABLE_NAMES}
        self.building = {name: len(indexes) for name, indexes in self.indexes.items()}
        self.finished = {identifier(SCHEMA, "reactions")}
        self.unvalidated: dict[str, list[Deferred]] = {name: [] for name in TABLE_NAMES}
        self.validating: set[str] = set()
        for name in TABLE_NAMES:
            for file in files[name]:
                self.queue.add(COPIES[name], self.copy(name, file))

    def copy(self, table: str, file: Path) -> Job:
        async def job(connection: Connection) -> None:
            await connection.execute(copy_sql(table, file, freeze=self.freeze))
            self.copying[table] -= 1
            if not self.copying[table]:
                for index in self.indexes[table]:
                    self.queue.add(INDEXES[table], self.build(index))

        return job

    def build(self, index: Deferred) -> Job:
        async def job(connection: Connection) -> None:
            await connection.execute(index.create)
            self.building[index.relation] -= 1
            if not self.building[index.relation]:
                self.queue.add(FINISH, self.finish(index.relation))

        return job

    def finish(self, table: str) -> Job:
        async def job(connection: Connection) -> None:
            for index in self.indexes[table]:
                if index.kind in KEYS:
                    await connection.execute(index.attach)
            await connection.execute(f"ANALYZE {identifier(SCHEMA, table)}")
            self.finished.add(identifier(SCHEMA, table))
            ready = [key for key in self.foreign if {key.table, key.parent} <= self.finished]
            for key in ready:
                self.foreign.remove(key)
                self.queue.add(FINISH, self.add_foreign_key(key))

        return job

    def add_foreign_key(self, key: Deferred) -> Job:
        async def job(connection: Connection) -> None:
            await connection.execute(key.create)
            self.unvalidated[key.relation].append(key)
            if key.relation not in self.validating:
                self.validating.add(key.relation)
                self.queue.add(INDEXES[key.relation] + BEFORE_INDEXES, self.validate(key.relation))

        return job

    def validate(self, table: str) -> Job:
        async def job(connection: Connection) -> None:
            # one at a time: a second on the same table would wait for the first
            await connection.execute(self.unvalidated[table].pop(0).validate)
            if self.unvalidated[table]:
                self.queue.add(INDEXES[table] + BEFORE_INDEXES, self.validate(table))
            else:
                self.validating.remove(table)

        return job


def is_index_of(deferred: Deferred, table: str) -> bool:
    return deferred.kind != "foreign key" and deferred.relation == table


def copy_sql(table: str, file: Path, *, freeze: bool) -> str:
    name = identifier(SCHEMA, table)
    copy = f"COPY {name} FROM '{file}' (FORMAT binary{', FREEZE' * freeze})"
    return f"BEGIN; TRUNCATE {name}; {copy}; COMMIT" if freeze else copy


async def write_files(address: Address, table: str, folder: Path, parts: int) -> list[Path]:
    """Write a table to ``parts`` files in COPY's binary format, in the physical order of its rows; return their paths.

    The server writes them, so it must have access to ``folder``.
    """
    name = identifier(SCHEMA, table)
    files = [folder / f"{table}-{part}-of-{parts}" for part in range(parts)]
    async with open_connection(address) as connection:
        pages = await connection.fetchval(f"SELECT pg_relation_size('{name}') / current_setting('block_size')::int")
        for part, file in enumerate(files):
            rows = f"SELECT * FROM {name} WHERE ctid >= '({pages * part // parts},0)'"
            if part + 1 < parts:
                rows += f" AND ctid < '({pages * (part + 1) // parts},0)'"
            await connection.execute(f"COPY ({rows}) TO '{file}' (FORMAT binary)")
    return files


async def bare(address: Address) -> Captured:
    """Drop all indexes, keys and foreign keys, and return their definitions."""
    async with open_connection(address) as connection:
        captured = await capture(connection, SCHEMA, TABLE_NAMES)
        assert not captured.kept, captured.kept
        await drop(connection, captured.deferred)
    return captured


async def fill(
    address: Address,
    deferred: Sequence[Deferred],
    files: Mapping[str, Sequence[Path]],
    connection_count: int,
    *,
    freeze: bool,
) -> float:
    """Fill tables without indexes from files and build ``deferred``; return the seconds."""
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(open_connection(address)) for _ in range(connection_count)]
        for connection in connections:
            # parallel workers of one build would only take cores from the other connections
            workers = max(0, available_cores() // connection_count - 1)
            await connection.execute(f"SET max_parallel_maintenance_workers = {workers}")
        begun = perf_counter()
        filling = TableFiller(deferred, files, freeze=freeze)
        async with anyio.create_task_group() as tasks:
            for connection in connections:
                tasks.start_soon(filling.queue.work, connection)
        return perf_counter() - begun


async def fill_and_rebuild(
    address: Address, deferred: Sequence[Deferred], files: Mapping[str, Sequence[Path]], connection_count: int
) -> float:
    """Fill tables without indexes from files, with bulkseed's own rebuild instead of the queue; return the seconds."""
    rows_complete: dict[SQL, anyio.Event] = {identifier(SCHEMA, name): anyio.Event() for name in TABLE_NAMES}
    waiting = sorted(TABLE_NAMES, key=COPIES.__getitem__, reverse=True)

    async def copy(connection: Connection) -> None:
        while waiting:
            name = waiting.pop()
            [file] = files[name]
            await connection.execute(copy_sql(name, file, freeze=True))
            rows_complete[identifier(SCHEMA, name)].set()

    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(open_connection(address)) for _ in range(connection_count)]
        begun = perf_counter()
        async with anyio.create_task_group() as tasks:
            for connection in connections:
                tasks.start_soon(copy, connection)
            await rebuild(
                lambda: open_connection(address),
                deferred,
                rows_complete=rows_complete,
                connections=connection_count,
                cores=available_cores(),
            )
        return perf_counter() - begun
