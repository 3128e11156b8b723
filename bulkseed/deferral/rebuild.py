"""Making again what was dropped, in parallel: indexes, keys, attributes; then foreign keys; then their validation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Final

import anyio
import asyncpg

from bulkseed.connection import Connection, told, translated
from bulkseed.deferral.catalogue import constraint_state, full_names, index_state, is_valid
from bulkseed.deferral.definition import KEYS, Deferred
from bulkseed.deferral.steps import Limits, NoLock, step, tried
from bulkseed.deferral.work import FIRST, Work
from bulkseed.errors import BulkseedError, ConnectionLost, RunError

__all__ = ["rebuild"]

MEMORY: Final = 256 * 1024
"""KiB: what an index build sorts in, where the server's own maintenance_work_mem is less."""

SHOWN: Final = 3
"""How many failures a message tells in full."""


async def rebuild(
    connect: Callable[[], AbstractAsyncContextManager[Connection]],
    deferred: Sequence[Deferred],
    *,
    full: Mapping[str, anyio.Event] | None = None,
    lanes: int = 1,
    on_step: Callable[[str, float], None] = lambda name, seconds: None,
    cores: int | None = None,
    memory: int = MEMORY,
    lock_timeout: float = 10.0,
    tries: int = 5,
) -> None:
    """Make everything in ``deferred`` again that is not there, over ``lanes`` connections from ``connect``.

    A table's indexes begin when its event in ``full`` (by qualified name, :attr:`Deferred.table`) is set; at once
    where it has none. Set it after the commit: a build waits for whoever still writes to the table. The largest
    tables go first. ``on_step`` is told each step and its seconds, from the event loop. ``cores``: lanes x (1 +
    parallel workers of a build) stay within it (None: as many workers as the server gives). ``memory``: KiB of
    maintenance_work_mem of each lane at least. Each step waits ``lock_timeout`` seconds for a lock, ``tries`` times
    at most; after that no other step on its table is tried.

    Every step looks before it does, and is a transaction: after a crash anywhere, or an error, the same call with
    the same definitions does what is left. Raises RunError where rows break a constraint or a lock cannot be had
    (all that can be made is made first; it names what is not), ConnectionLost or ConnectError at once.
    https://www.postgresql.org/docs/current/populate.html, https://www.postgresql.org/docs/current/sql-altertable.html
    """
    if not deferred:
        return
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connect()) for _ in range(max(1, lanes))]
        limits = Limits(
            lock_timeout,
            tries,
            memory,
            None if cores is None else max(0, cores // len(connections) - 1),
            tuple(each.get_server_pid() for each in connections),
        )
        making = Making(limits, on_step)
        try:
            await making.all(connections, deferred, full or {})
        except BaseExceptionGroup as group:
            raise first_cause(group) from group
    if making.failures:
        raise RunError(making.summary(len(deferred)))


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    leaves = [first_cause(each) if isinstance(each, BaseExceptionGroup) else each for each in group.exceptions]
    return next((each for each in leaves if isinstance(each, BulkseedError)), leaves[0])


@dataclass(slots=True)
class Making:
    """One rebuild: what limits it, who is told of it, and what has failed so far."""

    limits: Limits
    on_step: Callable[[str, float], None]
    failures: list[str] = field(default_factory=list)
    broken: set[Deferred] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)

    def summary(self, wanted: int) -> str:
        """What has failed, in one sentence."""
        shown = "; ".join(self.failures[:SHOWN])
        more = f"; and {len(self.failures) - SHOWN} more" if len(self.failures) > SHOWN else ""
        return (
            f"{shown}{more}: {len(self.broken)} of {wanted} indexes, keys and foreign keys are not made again; "
            "their definitions are kept: put right what is said, and rebuild again"
        )

    async def all(
        self, connections: Sequence[Connection], deferred: Sequence[Deferred], full: Mapping[str, anyio.Event]
    ) -> None:
        """Make everything."""
        indexes: dict[str, list[Deferred]] = {table: [] for table in full}
        children: dict[str, list[Deferred]] = defaultdict(list)
        for each in deferred:
            if each.kind == "foreign key":
                children[each.table].append(each)
            else:
                indexes.setdefault(each.table, []).append(each)

        work = Work()
        later = []
        for table, its in indexes.items():
            job = partial(self.open_table, work, table, its)
            if table in full:
                later.append((full[table], job))
            else:
                work.add(job, FIRST)
        await work.run(connections, later)

        for table, its in children.items():
            if not await self.measured(connections[0], table, its):
                continue
            for each in its:
                await self.add_foreign_key(connections[0], each)
        work = Work()
        for table, its in children.items():
            # a second VALIDATE on the same table would wait for the first: one lane for each table
            work.add(partial(self.validate, its), self.sizes.get(table, 0))
        await work.run(connections)

    async def measured(self, connection: Connection, table: str, its: Sequence[Deferred]) -> bool:
        """Find a table's size, which says how early it is served; false where it is gone."""
        if table not in self.sizes:
            with translated(connection, f"measuring {table}"):
                size = await connection.fetchval("SELECT pg_table_size(to_regclass($1))", table)
            if size is None:
                self.broken.update(its)
                gone = f"the table {table} is gone"
                self.failures += [] if gone in self.failures else [gone]
                return False
            self.sizes[table] = size
        return True

    async def open_table(self, work: Work, table: str, its: list[Deferred], connection: Connection) -> None:
        if not await self.measured(connection, table, its):
            return
        left = set(its)
        for each in its:
            work.add(partial(self.make_index, work, each, its, left), self.sizes[table])
        if not its:
            work.add(partial(self.finish_table, table, its), FIRST)

    async def make_index(
        self, work: Work, each: Deferred, its: list[Deferred], left: set[Deferred], connection: Connection
    ) -> None:
        async def once() -> None:
            async with step(connection, self.limits):
                async with full_names(connection):
                    if is_same(await index_state(connection, each), each):
                        return
                    await connection.fetchval("SELECT set_config('default_tablespace', $1, true)", each.tablespace)
                with duplicates_told(each):
                    await connection.execute(each.create)

        await self.make(connection, f"index {each.name}", [each], once)
        left.discard(each)
        if not left:
            work.add(partial(self.finish_table, each.table, its), FIRST)

    async def finish_table(self, table: str, its: list[Deferred], connection: Connection) -> None:
        made = [each for each in its if each not in self.broken]

        async def once() -> None:
            async with step(connection, self.limits):
                async with full_names(connection):
                    missing = {
                        each
                        for each in made
                        if each.kind in KEYS and not is_same(await constraint_state(connection, each), each)
                    }
                for each in made:
                    if each in missing:
                        await connection.execute(each.attach)
                    for attribute in each.attributes:
                        await connection.execute(attribute)

        async def analyze() -> None:
            async with step(connection, self.limits):
                await connection.execute(f"ANALYZE {table}")

        if any(each.attach or each.attributes for each in made):
            await self.make(connection, f"keys {table}", made, once)
        await self.make(connection, f"analyze {table}", [], analyze, table)

    async def add_foreign_key(self, connection: Connection, each: Deferred) -> None:
        if any(other.table == each.parent and other.kind != "foreign key" for other in self.broken):
            self.broken.add(each)  # told as what its parent's key waits for, and not as a failure of its own
            return

        async def once() -> None:
            async with step(connection, self.limits):
                async with full_names(connection):
                    there = is_same(await constraint_state(connection, each), each)
                if not there:
                    await connection.execute(each.create)
                for attribute in each.attributes:
                    await connection.execute(attribute)

        await self.make(connection, f"foreign key {each.table}.{each.name}", [each], once)

    async def validate(self, its: list[Deferred], connection: Connection) -> None:
        for each in its:
            if not each.validate or each in self.broken:
                continue

            async def once(each: Deferred = each) -> None:
                async with step(connection, self.limits):
                    if await is_valid(connection, each):
                        return
                    with orphans_told(each):
                        await connection.execute(each.validate)

            await self.make(connection, f"validate {each.table}.{each.name}", [each], once)

    async def make(
        self,
        connection: Connection,
        name: str,
        what: Sequence[Deferred],
        once: Callable[[], Awaitable[None]],
        table: str = "",
    ) -> None:
        """Do a step, time it, and keep its failure for the end unless nothing can go on after it."""
        tables = [table] if table else [what[0].table, *filter(None, [what[0].parent])]
        if not self.stuck.isdisjoint(tables):
            self.broken.update(what)  # the lock that it would wait for was not to be had for another step
            return
        begun = perf_counter()
        try:
            await tried(connection, f"making again: {name} of {tables[0]}" if what else name, tables, self.limits, once)
        except ConnectionLost:
            raise
        except NoLock as error:
            self.stuck.add(tables[0])
            if what:  # an ANALYZE can be left to autovacuum
                self.failures.append(str(error))
                self.broken.update(what)
        except RunError as error:
            # what else can be made is made: one duplicate must not leave every table without its indexes
            self.failures.append(str(error))
            self.broken.update(what)
        else:
            self.on_step(name, perf_counter() - begun)


def is_same(state: str, deferred: Deferred) -> bool:
    if state == "other":
        raise RunError(
            f"{deferred} cannot be made again: something else has its name; rename or drop that, and rebuild again"
        )
    return state == "same"


@contextmanager
def duplicates_told(deferred: Deferred) -> Iterator[None]:
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.schema_name == "pg_catalog":  # another has just made what has its name
            raise
        raise RunError(
            f"{deferred} cannot be made again, since rows have the same values ({told(error)}): "
            "remove or change all but one of them"
        ) from error


@contextmanager
def orphans_told(deferred: Deferred) -> Iterator[None]:
    try:
        yield
    except asyncpg.ForeignKeyViolationError as error:
        raise RunError(
            f"{deferred} holds for new rows, but cannot be validated, since a row of {deferred.table} points at "
            f"none of {deferred.parent} ({told(error)}): remove or change that row"
        ) from error
