"""Filling the tables from files on the server, its indexes and keys made meanwhile: no client could be quicker.

One queue of work for all connections, what matters most first. The order was found by trying, on two cores.
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

from bulkseed.choices import available_cores
from bulkseed.deferral import Captured, Deferred, capture, drop, rebuild
from bulkseed.deferral.definitions import KEYS
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, connected
from bulkseed.sql import SQL, identifier

__all__ = ["PARTED", "bare", "copy_sql", "fill", "fill_and_rebuild", "write_files"]

SCHEMA: Final = "public"
PARTED: Final = ("messages", "message_reactions", "user_channels")
"""The tables that are large enough to be filled by several connections at once."""

COPIES: Final = {"users": 0, "channels": 1, "messages": 2, "message_reactions": 11, "user_channels": 12}
FINISH: Final = 10
INDEXES: Final = {"messages": 20, "message_reactions": 30, "user_channels": 40, "channels": 50, "users": 50}
BEFORE_INDEXES: Final = -5
"""Work is done in the order of these; a table's foreign keys are validated before its neighbours' indexes are made."""

Job = Callable[[Connection], Awaitable[None]]


class Queue:
    """Work for several connections, the least number first; work may add work."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, int, Job]] = []
        self.order = itertools.count()
        self.left = 0
        self.changed = anyio.Event()

    def add(self, place: int, job: Job) -> None:
        """Work for the next free connection."""
        self.left += 1
        heapq.heappush(self.waiting, (place, next(self.order), job))
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    async def lane(self, connection: Connection) -> None:
        """Do what there is until nothing is left or running."""
        while self.left:
            if not self.waiting:
                await self.changed.wait()
                continue
            _, _, job = heapq.heappop(self.waiting)
            await job(connection)
            self.left -= 1
            if not self.left:
                self.wake()


class Filling:
    """One filling of all tables."""

    def __init__(self, deferred: Sequence[Deferred], files: Mapping[str, Sequence[Path]], *, freeze: bool) -> None:
        self.queue = Queue()
        self.freeze = freeze
        self.indexes = {name: [each for each in deferred if is_index_of(each, name)] for name in TABLE_NAMES}
        self.foreign = [each for each in deferred if each.kind == "foreign key"]
        self.copying = {name: len(files[name]) for name in TABLE_NAMES}
        self.making = {name: len(its) for name, its in self.indexes.items()}
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
                for each in self.indexes[table]:
                    self.queue.add(INDEXES[table], self.index(each))

        return job

    def index(self, each: Deferred) -> Job:
        async def job(connection: Connection) -> None:
            await connection.execute(each.create)
            self.making[each.relation] -= 1
            if not self.making[each.relation]:
                self.queue.add(FINISH, self.finish(each.relation))

        return job

    def finish(self, table: str) -> Job:
        async def job(connection: Connection) -> None:
            for each in self.indexes[table]:
                if each.kind in KEYS:
                    await connection.execute(each.attach)
            await connection.execute(f"ANALYZE {identifier(SCHEMA, table)}")
            self.finished.add(identifier(SCHEMA, table))
            ready = [each for each in self.foreign if {each.table, each.parent} <= self.finished]
            for each in ready:
                self.foreign.remove(each)
                self.queue.add(FINISH, self.point(each))

        return job

    def point(self, each: Deferred) -> Job:
        async def job(connection: Connection) -> None:
            await connection.execute(each.create)
            self.unvalidated[each.relation].append(each)
            if each.relation not in self.validating:
                self.validating.add(each.relation)
                self.queue.add(INDEXES[each.relation] + BEFORE_INDEXES, self.validate(each.relation))

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


def is_index_of(each: Deferred, table: str) -> bool:
    return each.kind != "foreign key" and each.relation == table


def copy_sql(table: str, file: Path, *, freeze: bool) -> str:
    name = identifier(SCHEMA, table)
    copy = f"COPY {name} FROM '{file}' (FORMAT binary{', FREEZE' * freeze})"
    return f"BEGIN; TRUNCATE {name}; {copy}; COMMIT" if freeze else copy


async def write_files(address: Address, table: str, folder: Path, parts: int) -> list[Path]:
    """Have the server write a table to as many files in COPY's binary format, its rows in the order in which they lie.

    ``folder`` is one in which it can.
    """
    name = identifier(SCHEMA, table)
    files = [folder / f"{table}-{part}-of-{parts}" for part in range(parts)]
    async with connected(address) as connection:
        pages = await connection.fetchval(f"SELECT pg_relation_size('{name}') / current_setting('block_size')::int")
        for part, file in enumerate(files):
            rows = f"SELECT * FROM {name} WHERE ctid >= '({pages * part // parts},0)'"
            if part + 1 < parts:
                rows += f" AND ctid < '({pages * (part + 1) // parts},0)'"
            await connection.execute(f"COPY ({rows}) TO '{file}' (FORMAT binary)")
    return files


async def bare(address: Address) -> Captured:
    """Drop all indexes, keys and foreign keys; returns their definitions."""
    async with connected(address) as connection:
        captured = await capture(connection, SCHEMA, TABLE_NAMES)
        assert not captured.kept, captured.kept
        await drop(connection, captured.deferred)
    return captured


async def fill(
    address: Address, deferred: Sequence[Deferred], files: Mapping[str, Sequence[Path]], lanes: int, *, freeze: bool
) -> float:
    """Fill bare tables from files and make ``deferred``, over ``lanes`` connections; returns the seconds."""
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connected(address)) for _ in range(lanes)]
        for connection in connections:
            # a build's own workers would only take the cores of other connections
            workers = max(0, available_cores() // lanes - 1)
            await connection.execute(f"SET max_parallel_maintenance_workers = {workers}")
        begun = perf_counter()
        filling = Filling(deferred, files, freeze=freeze)
        async with anyio.create_task_group() as tasks:
            for connection in connections:
                tasks.start_soon(filling.queue.lane, connection)
        return perf_counter() - begun


async def fill_and_rebuild(
    address: Address, deferred: Sequence[Deferred], files: Mapping[str, Sequence[Path]], lanes: int
) -> float:
    """The same with bulkseed's own rebuild in place of the queue's."""
    full: dict[SQL, anyio.Event] = {identifier(SCHEMA, name): anyio.Event() for name in TABLE_NAMES}
    waiting = sorted(TABLE_NAMES, key=COPIES.__getitem__, reverse=True)

    async def copy(connection: Connection) -> None:
        while waiting:
            name = waiting.pop()
            [file] = files[name]
            await connection.execute(copy_sql(name, file, freeze=True))
            full[identifier(SCHEMA, name)].set()

    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connected(address)) for _ in range(lanes)]
        begun = perf_counter()
        async with anyio.create_task_group() as tasks:
            for connection in connections:
                tasks.start_soon(copy, connection)
            await rebuild(
                lambda: connected(address), deferred, rows_complete=full, connections=lanes, cores=available_cores()
            )
        return perf_counter() - begun
