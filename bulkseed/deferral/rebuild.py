"""Rebuilding the dropped indexes and keys: each table's as soon as its rows are complete, over several connections."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Final

import anyio
import asyncpg

from bulkseed.deferral.capture import constraint_state, index_state, is_order_kept, is_valid, qualified_names
from bulkseed.deferral.definitions import KEYS, Deferred, has_same_columns
from bulkseed.deferral.steps import (
    LOCK_SECONDS,
    Limits,
    Lock,
    NoLockError,
    Task,
    TaskQueue,
    run_with_retries,
    step_transaction,
)
from bulkseed.errors import DiskFullError, RunError, TransientError, ViolatingRowsError, common_code, reraise_first
from bulkseed.postgres.connection import Connection, backend_pid, server_message, translate_errors
from bulkseed.postgres.optional import execute_optional
from bulkseed.sql import SQL, compose, identifier

__all__ = ["Rebuilder", "count_steps", "rebuild"]

logger = logging.getLogger(__name__)

OTHER_VALUES: Final = "let the load make other values for its columns"
MOST_SHOWN: Final = 3
"""The number of failures whose messages are shown."""

ORDER_TRIES: Final = 3
"""The number of times that foreign keys are added again: while one does so, OIDs may get another digit."""

ASSUME_ORDERED_PAGES: Final = "SELECT set_config('random_page_cost', current_setting('seq_page_cost'), true)"
"""The pages of a newly built index are in order. The planner does not know that, and would choose a hash join of the
tables over a merge join of two indexes, which takes a third of the time once VACUUM has marked all rows visible."""


@dataclass(slots=True)
class Rebuilder:
    """The steps of one rebuild, their limits and listener, and the failures so far."""

    limits: Limits
    on_step: Callable[[str, float], None]
    on_note: Callable[[str], None]
    failures: list[RunError] = field(default_factory=list)
    broken: set[Deferred] = field(default_factory=set)
    unlockable_tables: set[str] = field(default_factory=set)
    disk_full: DiskFullError | None = None
    """The first error of a full disk; later ones are not reported."""
    reported: set[str] = field(default_factory=set)
    """The steps that ``on_step`` has received: one that is repeated counts once."""

    def error(self, wanted: int) -> RunError:
        """Return one error for all failures: a line each, and the number of ``wanted`` definitions not rebuilt."""
        lines = [str(failure) for failure in self.failures[:MOST_SHOWN]]
        if len(self.failures) > MOST_SHOWN:
            lines.append(f"{len(self.failures) - MOST_SHOWN} more errors")
        missing = ", ".join(sorted(map(str, self.broken)))
        outcome = (
            f"{len(self.broken)} of {wanted} indexes, keys and foreign keys are not rebuilt, and their definitions are "
            f"kept: {missing}"
        )
        message = "\n".join([*lines, outcome])
        if self.disk_full:
            return DiskFullError(message, code=self.disk_full.code)
        code = common_code((failure.code for failure in self.failures), "not-rebuilt")
        violated = [failure.after_undo for failure in self.failures if isinstance(failure, ViolatingRowsError)]
        if len(violated) == len(self.failures):
            return ViolatingRowsError(message, code=code, after_undo="\n".join(violated[:MOST_SHOWN]))
        return RunError(message, code=code)

    async def measure_table(self, connection: Connection, table: SQL, definitions: Sequence[Deferred]) -> int | None:
        """Return the bytes of a table; None if it no longer exists, so that ``definitions`` cannot be rebuilt."""
        with translate_errors(connection, f"measuring {table}"):
            size: int | None = await connection.fetchval("SELECT pg_table_size(to_regclass($1))", table)
        if size is None:
            self.broken.update(definitions)
            missing = RunError(f"the table {table} no longer exists: create it again", code="missing-table")
            if str(missing) not in map(str, self.failures):
                self.failures.append(missing)
        return size

    async def build_index(self, connection: Connection, index: Deferred) -> None:
        """Build an index, or the index of a key."""

        async def build_once() -> None:
            async with step_transaction(connection, self.limits):
                async with qualified_names(connection):
                    if is_same(await index_state(connection, index), index):
                        return
                    await connection.fetchval("SELECT set_config('default_tablespace', $1, true)", index.tablespace)
                with explain_duplicates(index):
                    await execute(connection, index.create)

        await self.run_step(connection, f"index {index.name}", [index], build_once)

    async def attach_keys(self, connection: Connection, table: SQL, indexes: Sequence[Deferred]) -> None:
        """Create a table's keys from their indexes, and set the attributes of all its indexes."""
        built = [index for index in indexes if index not in self.broken]
        if not any(index.attach or index.attributes for index in built):
            return

        async def attach_once() -> None:
            async with step_transaction(connection, self.limits):
                async with qualified_names(connection):
                    missing = {
                        key
                        for key in built
                        if key.kind in KEYS and not is_same(await constraint_state(connection, key), key)
                    }
                for index in built:
                    if index in missing:
                        await execute(connection, index.attach)
                    await self.set_attributes(connection, index)

        await self.run_step(connection, f"keys {table}", built, attach_once)

    async def set_attributes(self, connection: Connection, definition: Deferred) -> None:
        """Set what is not part of CREATE and ADD CONSTRAINT. Only the failure of a required attribute is an error."""
        for attribute in definition.attributes:
            if definition.is_required(attribute):
                await execute(connection, attribute)
            else:
                await execute_optional(connection, attribute, f"{definition}: {attribute}", self.on_note)

    async def vacuum_table(self, connection: Connection, table: SQL) -> None:
        """Mark the rows that are visible to all, so that VALIDATE and the app can use index-only scans.

        Skipped where the table is locked or the user may not VACUUM it. It runs after the indexes, when fewer old
        transactions remain to which the last rows are not yet visible.
        """
        statement = compose("VACUUM (SKIP_LOCKED, TRUNCATE FALSE, PARALLEL 0) {table}", table=table)
        await self.run_optional_step(connection, "VACUUM", table, statement)

    async def analyze_table(self, connection: Connection, table: SQL) -> None:
        """Gather a table's statistics, with those of its expression indexes.

        It waits for its lock, which blocks no rows of an app, for as long as all tries of another step do.
        """
        # one message is one transaction, to which the setting is limited
        statement = compose(
            "SET LOCAL lock_timeout = '{ms}ms'; ANALYZE {table}",
            ms=round(self.limits.lock_timeout * self.limits.tries * 1000),
            table=table,
        )
        await self.run_optional_step(connection, "ANALYZE", table, statement)

    async def add_foreign_key(self, connection: Connection, foreign_key: Deferred) -> None:
        """Add a foreign key, NOT VALID."""
        if any(broken.table == foreign_key.parent and broken.is_unique for broken in self.broken):
            self.broken.add(foreign_key)  # counted, but the failure to report is that of the referenced key
            return

        async def add_once() -> None:
            async with step_transaction(connection, self.limits):
                async with qualified_names(connection):
                    exists = is_same(await constraint_state(connection, foreign_key), foreign_key)
                if not exists:
                    await execute(connection, foreign_key.create)
                await self.set_attributes(connection, foreign_key)

        await self.run_step(connection, f"foreign key {foreign_key.table}.{foreign_key.name}", [foreign_key], add_once)

    async def validate_foreign_key(self, connection: Connection, foreign_key: Deferred) -> None:
        """Validate a foreign key that was valid."""

        async def validate_once() -> None:
            async with step_transaction(connection, self.limits):
                if await is_valid(connection, foreign_key):
                    return
                await connection.fetchval(ASSUME_ORDERED_PAGES)
                with explain_orphans(foreign_key):
                    await execute(connection, foreign_key.validate)

        await self.run_step(
            connection, f"validate {foreign_key.table}.{foreign_key.name}", [foreign_key], validate_once
        )

    async def restore_order(self, connection: Connection, parent: SQL, foreign_keys: Sequence[Deferred]) -> bool:
        """Have the triggers of ``foreign_keys``, which reference ``parent``, fire in the order of the keys.

        They fire in the order of their names, which end in OIDs and are compared as text: of two keys that are added
        one after the other, the second acts first if its trigger has the OID 100000 and the other's is 99999. All are
        then dropped and added again. Return whether that was done, so that they have to be validated again.
        """
        wrong = False

        async def restore_once() -> None:
            nonlocal wrong
            for _ in range(ORDER_TRIES):
                async with step_transaction(connection, self.limits):
                    if await is_order_kept(connection, parent, foreign_keys):
                        return
                    logger.info("the foreign keys that reference %s are added again, in their order", parent)
                    wrong = True
                    await add_again(connection, foreign_keys, self.set_attributes)
            if not await is_order_kept(connection, parent, foreign_keys):
                raise RunError(
                    f"the foreign keys that reference {parent} act in another order than before: run this again",
                    code="not-rebuilt",
                )

        existing = [key for key in foreign_keys if key not in self.broken]
        if len(existing) > 1:
            await self.run_step(connection, f"order of the keys to {parent}", existing, restore_once, counts=False)
        return wrong

    async def run_optional_step(self, connection: Connection, command: str, table: SQL, statement: SQL) -> None:
        """Run and time a statement without which the table is complete; a failure is a note."""
        begun = perf_counter()
        await execute_optional(connection, statement, f"{command} {table}", self.on_note)
        seconds = perf_counter() - begun
        name = f"{command.lower()} {table}"
        logger.info("rebuild: %s in %.3f s", name, seconds)
        self.on_step(name, seconds)

    async def run_step(
        self,
        connection: Connection,
        name: str,
        definitions: Sequence[Deferred],
        once: Callable[[], Awaitable[None]],
        *,
        counts: bool = True,
    ) -> None:
        """Run and time a step; record its failure for the final error, unless no further step could succeed.

        ``counts``: whether it is one of the steps of :func:`count_steps`.
        """
        tables = list(dict.fromkeys(name for key in definitions for name in (key.table, key.parent) if name))
        if not self.unlockable_tables.isdisjoint(tables):
            self.broken.update(definitions)  # an earlier step could not get a lock on the table
            return
        begun = perf_counter()
        failures = len(self.failures)
        doing = f"rebuilding {name} of {tables[0]}"
        try:
            await run_with_retries(connection, doing, tables, self.limits, once)
        except TransientError:
            raise  # the caller retries the rebuild, which then runs the remaining steps
        except NoLockError as error:
            self.unlockable_tables.add(tables[0])
            self.failures.append(error)
            self.broken.update(definitions)
        except DiskFullError as error:
            self.failures += [] if self.disk_full else [error]
            self.broken.update(definitions)
            self.disk_full = self.disk_full or error
        except RunError as error:
            # the other steps go on: one duplicate must not leave all tables without indexes
            self.failures.append(error)
            self.broken.update(definitions)
        else:
            seconds = perf_counter() - begun
            logger.info("rebuild: %s in %.3f s", name, seconds)
            if counts and doing not in self.reported:
                self.reported.add(doing)
                self.on_step(name, seconds)
        for failure in self.failures[failures:]:
            logger.info("rebuild: %s failed: %s", name, failure)


async def execute(connection: Connection, statement: SQL) -> None:
    logger.debug("%s", statement)
    await connection.execute(statement)


async def add_again(
    connection: Connection,
    foreign_keys: Sequence[Deferred],
    set_attributes: Callable[[Connection, Deferred], Awaitable[None]],
) -> None:
    async with qualified_names(connection):
        for key in foreign_keys:
            is_same(await constraint_state(connection, key), key)
    for key in foreign_keys:
        drop = "ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}"
        await execute(connection, compose(drop, table=key.table, name=identifier(key.name)))
    for key in foreign_keys:
        await execute(connection, key.create)
        await set_attributes(connection, key)


def is_same(state: str, deferred: Deferred) -> bool:
    if state == "other":
        raise RunError(
            f"{deferred} cannot be rebuilt: another object has its name: rename or drop that object",
            code="name-taken",
        )
    return state == "same"


@contextmanager
def explain_duplicates(deferred: Deferred) -> Iterator[None]:
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.schema_name == "pg_catalog":  # another session has just created an object of that name
            raise
        problem = f"{deferred} cannot be rebuilt, since rows have duplicate values ({server_message(error)})"
        raise ViolatingRowsError(
            f"{problem}: remove or change all but one of them",
            code="duplicate-rows",
            after_undo=f"{problem}: {OTHER_VALUES}",
        ) from error


@contextmanager
def explain_orphans(deferred: Deferred) -> Iterator[None]:
    try:
        yield
    except asyncpg.ForeignKeyViolationError as error:
        problem = (
            f"{deferred} is rebuilt as NOT VALID and cannot be validated, since a row of {deferred.table} references "
            f"no row of {deferred.parent} ({server_message(error)})"
        )
        raise ViolatingRowsError(
            f"{problem}: remove or change that row", code="orphan-rows", after_undo=f"{problem}: {OTHER_VALUES}"
        ) from error


MEMORY: Final = 256 * 1024
"""KiB: the least maintenance_work_mem of a connection, for the sort of an index build and the hash of a VALIDATE."""

BUILD_COST: Final = 5
"""The duration of an index build, as a multiple of the VALIDATE of a foreign key over the same rows, roughly."""

TRIES: Final = 20
"""The number of tries for a lock: with the pauses, one minute."""


async def rebuild(
    connect: Callable[[], AbstractAsyncContextManager[Connection]],
    deferred: Sequence[Deferred],
    *,
    rows_complete: Mapping[SQL, anyio.Event] | None = None,
    connections: int = 1,
    on_step: Callable[[str, float], None] = lambda name, seconds: None,
    on_note: Callable[[str], None] = lambda message: None,
    cores: int | None = None,
    memory: int = MEMORY,
    lock_timeout: float = LOCK_SECONDS,
    tries: int = TRIES,
) -> None:
    """Rebuild all missing definitions of ``deferred``, over ``connections`` connections from ``connect``.

    The builds of a table's indexes begin when its event in ``rows_complete`` (by :attr:`Deferred.table`) is set, or at
    once if it has no event. Set it after the commit: a build waits for transactions that write to the table, and rows
    that are not yet visible to all are slower to validate. ``on_step`` is called from the event loop with the name and
    the seconds of each step, and ``on_note`` with a sentence on each optional statement that failed: VACUUM, ANALYZE,
    and attributes that are not required (:attr:`Deferred.required_attributes`). ``cores`` limits connections x
    (1 + parallel workers of a build); None for as many workers as the server allows. ``memory``: the least
    maintenance_work_mem of a connection, in KiB. Each step waits ``lock_timeout`` seconds for a lock, ``tries`` times
    at most; after that no other step on its table is tried.

    Each step first checks what exists, and is one transaction (except VACUUM, which can be repeated): after a crash or
    an error, the same call with the same definitions runs the remaining steps. Raises RunError where rows violate a
    constraint or a lock is not available, and DiskFullError, both after all other steps; ConnectionLostError and
    ConnectError at once.
    https://www.postgresql.org/docs/current/populate.html, https://www.postgresql.org/docs/current/sql-altertable.html
    """
    if not deferred:
        return
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(connect()) for _ in range(max(1, connections))]
        pids = []
        for connection in opened:
            with translate_errors(connection, "beginning to rebuild"):
                pids.append(await backend_pid(connection))
        limits = Limits(
            lock_timeout,
            tries,
            memory,
            None if cores is None else max(0, cores // len(opened) - 1),
            tuple(pids),
        )
        rebuilder = Rebuilder(limits, on_step, on_note)
        try:
            await Schedule(rebuilder, deferred, rows_complete or {}).run(opened)
        except BaseExceptionGroup as group:
            reraise_first(group)
    if rebuilder.failures or rebuilder.broken:
        raise rebuilder.error(len(deferred))


def count_steps(deferred: Sequence[Deferred], tables: Iterable[SQL] = ()) -> int:
    """Return the number of steps of a :func:`rebuild` of which none fails; ``tables`` are its ``rows_complete``."""
    indexes: dict[SQL, list[Deferred]] = {table: [] for table in tables}
    steps = 0
    for definition in dict.fromkeys(deferred):
        if definition.kind == "foreign key":
            steps += 2 if definition.validate else 1
        else:
            indexes.setdefault(definition.table, []).append(definition)
    for of_table in indexes.values():
        steps += len(of_table)
        steps += any(index.attach or index.attributes for index in of_table)
        steps += 2  # VACUUM, ANALYZE
    return steps


class Schedule:
    """The order of a rebuild's steps, and their urgency.

    The indexes of a table are built when its rows are complete; after the last of them come its keys and statistics;
    a foreign key is added when both its tables are finished, and then validated. The step with the most work after it
    goes first.
    """

    def __init__(
        self, rebuilder: Rebuilder, deferred: Sequence[Deferred], rows_complete: Mapping[SQL, anyio.Event]
    ) -> None:
        self.rebuilder = rebuilder
        self.rows_complete = rows_complete
        self.queue = TaskQueue()
        self.sizes: dict[SQL, int] = {}
        """Bytes of the tables measured so far."""
        self.indexes: dict[SQL, list[Deferred]] = {table: [] for table in rows_complete}
        self.waiting_foreign_keys: list[Deferred] = []
        """Those whose tables are not both finished."""
        self.unvalidated: dict[SQL, set[Deferred]] = defaultdict(set)
        """By child: the foreign keys to validate, with those that are not yet added."""
        self.children: dict[SQL, set[SQL]] = defaultdict(set)
        """By parent: the tables that reference it."""
        self.siblings: dict[SQL, list[Deferred]] = defaultdict(list)
        """By parent: the foreign keys that reference it, in the order in which they act."""
        for definition in dict.fromkeys(deferred):
            if definition.kind != "foreign key":
                self.indexes.setdefault(definition.table, []).append(definition)
                continue
            self.waiting_foreign_keys.append(definition)
            self.children[definition.parent].add(definition.table)
            self.siblings[definition.parent].append(definition)
            if definition.validate:
                self.unvalidated[definition.table].add(definition)
        self.ordered = {
            parent for parent, keys in self.siblings.items() if len(keys) > 1 and any(key.acts for key in keys)
        }
        """The parents whose foreign keys have to act in their order."""
        self.unadded = {parent: list(keys) for parent, keys in self.siblings.items()}
        """By parent: those of ``siblings`` that are not yet added."""
        self.unbuilt_indexes = {table: set(indexes) for table, indexes in self.indexes.items()}
        """By unfinished table: the indexes that are not yet built."""

    async def run(self, connections: Sequence[Connection]) -> None:
        """Run all steps."""
        later = []
        for table in self.indexes:
            task = Task(partial(self.start_table, table))
            if table in self.rows_complete:
                later.append((self.rows_complete[table], task))
            else:
                self.queue.add(task)
        self.queue_foreign_keys()
        await self.queue.run(connections, later)

    async def start_table(self, table: SQL, connection: Connection) -> None:
        indexes = self.indexes[table]
        if not await self.measure_table(connection, table, indexes):
            del self.unbuilt_indexes[table]
            self.queue_foreign_keys()
            return
        for number, index in enumerate(indexes):
            if not any(has_same_columns(earlier, index) for earlier in indexes[:number]):
                self.queue_build(index)
        if not indexes:
            self.queue_finish(table)

    def queue_build(self, index: Deferred) -> None:
        locks = {index.table: Lock.SHARE}
        self.queue.add(Task(partial(self.build_index, index), locks, partial(self.remaining_cost, index.table)))

    def queue_finish(self, table: SQL) -> None:
        self.queue.add(Task(partial(self.finish_table, table), {table: Lock.ACCESS_EXCLUSIVE}))

    async def measure_table(self, connection: Connection, table: SQL, definitions: Sequence[Deferred]) -> bool:
        """Read a table's size unless it is known; return False if the table no longer exists."""
        if table not in self.sizes:
            size = await self.rebuilder.measure_table(connection, table, definitions)
            if size is None:
                return False
            self.sizes[table] = size
        return True

    def remaining_cost(self, table: SQL) -> float:
        """Return the duration of an index build and of all that waits for it, in bytes that VALIDATE reads."""
        return BUILD_COST * self.sizes[table] + max(map(self.validation_cost, {table} | self.children[table]))

    def validation_cost(self, child: SQL) -> float:
        """Return the duration of the remaining validations of a table, which run one after the other, in bytes."""
        return sum(
            self.sizes.get(child, 0) + self.sizes.get(foreign_key.parent, 0) for foreign_key in self.unvalidated[child]
        )

    async def build_index(self, index: Deferred, connection: Connection) -> None:
        await self.rebuilder.build_index(connection, index)
        unbuilt = self.unbuilt_indexes[index.table]
        unbuilt.remove(index)
        twins = (other for other in self.indexes[index.table] if other in unbuilt and has_same_columns(index, other))
        if twin := next(twins, None):
            self.queue_build(twin)
        if not unbuilt:
            self.queue_finish(index.table)

    async def finish_table(self, table: SQL, connection: Connection) -> None:
        await self.rebuilder.attach_keys(connection, table, self.indexes[table])
        await self.rebuilder.vacuum_table(connection, table)
        await self.rebuilder.analyze_table(connection, table)
        del self.unbuilt_indexes[table]
        self.queue_foreign_keys()

    def queue_foreign_keys(self) -> None:
        """Queue the foreign keys whose tables are finished.

        Where those of a parent change rows, they are added one after the other, in the order in which they acted: their
        triggers fire in that order, and a row that the first deletes (ON DELETE CASCADE) does not violate the second.
        """
        for foreign_key in self.waiting_foreign_keys[:]:
            parent = foreign_key.parent
            is_next = parent not in self.ordered or self.unadded[parent][0] == foreign_key
            if is_next and self.unbuilt_indexes.keys().isdisjoint((foreign_key.table, parent)):
                self.waiting_foreign_keys.remove(foreign_key)
                locks = dict.fromkeys((foreign_key.table, foreign_key.parent), Lock.SHARE_ROW_EXCLUSIVE)
                self.queue.add(Task(partial(self.add_foreign_key, foreign_key), locks))

    async def add_foreign_key(self, foreign_key: Deferred, connection: Connection) -> None:
        child, parent = foreign_key.table, foreign_key.parent
        exist = [await self.measure_table(connection, table, [foreign_key]) for table in (child, parent)]
        if all(exist):
            await self.rebuilder.add_foreign_key(connection, foreign_key)
        self.unadded[parent].remove(foreign_key)
        if self.unadded[parent]:
            self.queue_foreign_keys()
        elif parent in self.ordered:
            locks = dict.fromkeys((parent, *self.children[parent]), Lock.ACCESS_EXCLUSIVE)
            self.queue.add(Task(partial(self.restore_order, parent), locks))
        if foreign_key not in self.unvalidated[child]:
            return
        if foreign_key in self.rebuilder.broken:
            self.unvalidated[child].remove(foreign_key)
            return
        self.queue_validation(foreign_key)

    async def restore_order(self, parent: SQL, connection: Connection) -> None:
        if not await self.rebuilder.restore_order(connection, parent, self.siblings[parent]):
            return
        for foreign_key in self.siblings[parent]:
            if foreign_key.validate and foreign_key not in self.rebuilder.broken:
                self.unvalidated[foreign_key.table].add(foreign_key)
                self.queue_validation(foreign_key)

    def queue_validation(self, foreign_key: Deferred) -> None:
        locks = {foreign_key.parent: Lock.ROW_SHARE} | {foreign_key.table: Lock.SHARE_UPDATE_EXCLUSIVE}
        urgency = partial(self.validation_cost, foreign_key.table)
        self.queue.add(Task(partial(self.validate_foreign_key, foreign_key), locks, urgency))

    async def validate_foreign_key(self, foreign_key: Deferred, connection: Connection) -> None:
        await self.rebuilder.validate_foreign_key(connection, foreign_key)
        self.unvalidated[foreign_key.table].discard(foreign_key)
