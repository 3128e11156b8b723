"""Cleanup: removing the rows of runs, also on a full disk, and rebuilding the indexes and keys that loads dropped."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import anyio
import asyncpg

from bulkseed.cleaner.compare_rows import Changed
from bulkseed.cleaner.delete_rows import Removed, check_owner, check_privileges, remove_rows
from bulkseed.cleaner.return_ids import return_ids
from bulkseed.cleaner.triggers import describe_insert_triggers
from bulkseed.deferral import Deferred, count_steps, drop, find_missing, mark_rebuilt, read_unfinished, rebuild
from bulkseed.errors import (
    BulkseedError,
    ConnectError,
    ConnectionLostError,
    DiskFullError,
    InputError,
    RunError,
    TargetError,
    TransientError,
)
from bulkseed.ledger import (
    SCHEMA,
    Claim,
    Ledger,
    Run,
    check_ledger_privileges,
    describe_lock_holder,
    drop_empty_ledger,
    find_run_or_all,
    find_runs,
    forget_run,
    forget_shards,
    limit_wait,
    lock_incomplete,
    mark_emptied,
    mark_undoing,
)
from bulkseed.ledger.control import open_control
from bulkseed.listeners import NullListener, Phase, ProgressListener
from bulkseed.load_options import available_cores
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection, preflight_errors, translate_errors
from bulkseed.postgres.transaction import RetryPolicy, transaction
from bulkseed.sql import SQL, compose

__all__ = [
    "NOTHING_REMOVED",
    "CleanupReport",
    "cleanup",
    "find_removable_runs",
    "free_disk_space",
    "remove_in_batches",
    "remove_runs",
    "vacuum",
]

logger = logging.getLogger(__name__)

LOCK_SECONDS: Final = 10
ROWS_AT_ONCE: Final = 1_000_000
"""The rows of a batch: each takes some 40 bytes of the session's memory."""


async def free_disk_space(
    connection: Connection, runs: Sequence[Run], dropped: Mapping[int, Sequence[Deferred]], listener: ProgressListener
) -> None:
    """Drop the indexes that are already rebuilt, and return the space of rolled-back rows to the operating system.

    ``dropped`` are the definitions that are still in the ledger, by run. Raises ConnectionLostError.
    """
    logger.info("the server's disk is full: dropping rebuilt indexes, and VACUUM")
    listener.note("the server's disk is full: the rows are removed in batches, which takes longer")
    for definitions in dropped.values():
        try:
            await drop(connection, definitions)
        except ConnectionLostError:
            raise
        except BulkseedError:
            continue  # an app has a lock on a table, for example
    await vacuum(connection, (name for run in runs for name in reversed(run.names.sql_tables())))


async def vacuum(connection: Connection, tables: Iterable[SQL]) -> None:
    """Truncate the empty pages at the ends of tables, where possible. Raises ConnectionLostError."""
    for table in dict.fromkeys(tables):
        try:
            with translate_errors(connection, f"VACUUM {table}"):
                # while it waits it blocks only another VACUUM or DDL, and autovacuum gives way
                await connection.execute(compose("SET lock_timeout = '{seconds}s'", seconds=LOCK_SECONDS))
                await connection.execute(compose("VACUUM (PARALLEL 0) {table}", table=table))
        except ConnectionLostError:
            raise
        except BulkseedError:
            continue
        finally:
            await reset_lock_timeout(connection)


async def reset_lock_timeout(connection: Connection) -> None:
    """Set lock_timeout back, even if cancelled; a connection that does not answer at once is closed."""
    with anyio.move_on_after(RESET_SECONDS, shield=True):
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            if not connection.is_closed():
                await connection.execute("SET lock_timeout = 0")
        return
    connection.terminate()


async def remove_in_batches(
    connection: Connection,
    ledger: Ledger,
    run: Run,
    absent: Sequence[Deferred],
    listener: ProgressListener,
    removed: Counter[str],
) -> None:
    """Remove the rows of an incomplete run a few shards at a time, without disk space, and add them to ``removed``.

    Each batch is committed. Raises RunError if rows of others reference rows of a batch, which then stays, with the
    shards loaded before it.
    """
    assert run.rows_per_shard is not None
    remaining = sorted(run.shards or ())
    batch_size = max(1, ROWS_AT_ONCE // run.rows_per_shard)
    while remaining:
        # in reverse order of loading: users, which all other rows reference, last
        remaining, batch = remaining[:-batch_size], remaining[-batch_size:]
        async with transaction(connection):
            part = replace(run, shards=frozenset(batch))
            counts = await remove_rows(connection, [part], absent, cascade=False, listener=listener, diskless=True)
            with translate_errors(connection, "forgetting shards"):
                async with limit_wait(connection, ledger):
                    await forget_shards(connection, ledger, run.number, batch)
        removed.update(counts.removed)


MOST_CONNECTIONS: Final = 4
DISK_TRIES: Final = 3
"""The number of tries on a full disk, each after freeing space."""
DISK_PAUSE: Final = 1.0
"""Seconds between those tries."""
RESET_SECONDS: Final = 5
TRIES: Final = 3
"""The number of tries if an app's rows come or change while rows are removed."""
PAUSE: Final = 0.2
"""Seconds between those tries."""


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """The result of a cleanup. All fields are empty where there was no run to remove."""

    runs: tuple[int, ...]
    """The numbers of the removed runs."""
    removed: Mapping[str, int]
    """The number of removed rows of these runs, by table."""
    others: Mapping[str, int]
    """The number of other rows that were removed, by table: those that referenced these rows, with ``cascade``."""
    rebuilt: int = 0
    """The number of indexes and keys that interrupted loads had dropped, and that were rebuilt."""
    changed: Mapping[str, int] = field(default_factory=dict)
    """The number of removed rows that were changed since they were loaded, such as their ``created_at``, by table."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """The number of rows that were recorded as loaded, and were gone before, by table."""
    returned_ids: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """The first and the last of the ids that were given back to the sequences, by table."""
    other_rows: str = ""
    """Why the load of the removed runs, given again, would get other ids; empty if it would get the same."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values of JSON."""
        return {
            "runs": list(self.runs),
            "removed": dict(self.removed),
            "others": dict(self.others),
            "rebuilt": self.rebuilt,
            "changed": dict(self.changed),
            "missing": dict(self.missing),
            "returned_ids": {
                table: {"first": first, "last": last} for table, (first, last) in self.returned_ids.items()
            },
            "other_rows": self.other_rows or None,
        }


NOTHING_REMOVED: Final = CleanupReport((), {}, {})
"""The report of a cleanup without a run to remove."""


async def find_removable_runs(address: Address, number: int | None = None, *, ledger_schema: str = SCHEMA) -> list[Run]:
    """Return the runs that a cleanup may remove: the one with ``number``, or all that no other command is loading now.

    None where the database has no run. Raises InputError if ``number`` does not exist, or another command is loading
    the only runs.
    """
    ledger = Ledger(ledger_schema)
    async with open_connection(address) as connection:
        with preflight_errors(connection, "reading the ledger"):
            runs = await find_run_or_all(connection, ledger, number)
            lock_holder = await describe_lock_holder(connection)
    loading = [run for run in runs if run.state == "loading"] if lock_holder is not None else []
    if loading and len(loading) == len(runs):
        raise InputError(
            f"run {loading[0].number} is being loaded by another bulkseed ({lock_holder}): wait for it, or stop it "
            "first",
            code="run-is-loading",
        )
    return [run for run in runs if run not in loading]


async def cleanup(
    address: Address,
    chosen: Sequence[int | Claim],
    *,
    cascade: bool = False,
    changed: Changed = "refuse",
    listener: ProgressListener | None = None,
    ledger_schema: str = SCHEMA,
) -> CleanupReport:
    """Remove the rows of the ``chosen`` runs in one transaction; rebuild the indexes and keys that their loads dropped.

    A run is chosen by its number, or by its claim (:attr:`bulkseed.ledger.Run.claim`), which no other run of the same
    number has. Raises RunError, with nothing removed, if other rows reference the runs' rows, unless ``cascade``
    removes those too (indexes and keys are rebuilt in any case); the same if rows have ids of the runs and are not
    recognised as theirs, unless ``changed`` removes or keeps them; InputError if there is no such run, or the user may
    not remove rows; RunError if an index or key cannot be rebuilt. In that case, and if the rebuilding is cancelled,
    the run stays in the ledger until another cleanup rebuilds the rest; ``listener`` gets a note of a cancellation.
    """
    listener = listener or NullListener()
    if not chosen:
        return NOTHING_REMOVED
    async with open_control(address, RetryPolicy(), listener) as control:
        return await remove_runs(
            control.connection,
            address,
            Ledger(ledger_schema),
            chosen,
            cascade=cascade,
            changed=changed,
            listener=listener,
        )


async def remove_runs(
    connection: Connection,
    address: Address,
    ledger: Ledger,
    chosen: Sequence[int | Claim],
    *,
    cascade: bool,
    listener: ProgressListener,
    changed: Changed = "refuse",
) -> CleanupReport:
    """Do the work of :func:`cleanup`, on a connection that holds the load lock."""
    with translate_errors(connection, "reading the ledger"):
        runs = await find_runs(connection, ledger, chosen)
        await check_ledger_privileges(connection, ledger)
        numbers = {run.number for run in runs}
        async with limit_wait(connection, ledger):
            dropped = await read_unfinished(connection, ledger.deferred, numbers)
        existing_tables = await check_privileges(connection, runs)
        definitions = list(itertools.chain.from_iterable(dropped.values()))
        await check_owner(connection, definitions)
    if cascade:
        # ON DELETE SET NULL takes effect only if the foreign key exists
        await rebuild_dropped(connection, address, ledger, dropped, listener)
        dropped = {}
    absent = definitions if dropped else []
    if await is_index_missing(connection, absent):
        # an existing foreign key without its table's index would scan that table for each deleted row
        # if a table is locked, or the catalogue has no room on a full disk, the removal takes longer
        with suppress(TargetError, DiskFullError):
            await drop(connection, [definition for definition in absent if definition.kind == "foreign key"])
    removal = Removal(connection, ledger, runs, dropped, absent, cascade, changed, listener)
    try:
        removed = await removal.remove()
    except RunError as error:
        if not dropped or isinstance(error, ConnectionLostError):
            raise
        await rebuild_dropped(connection, address, ledger, dropped, listener)
        raise RunError(f"{error}\nthe indexes and keys of the run are rebuilt", code=error.code) from error
    logger.info("runs %s: %s rows are removed", ", ".join(map(str, sorted(numbers))), sum(removed.removed.values()))
    for note in removed.notes:
        listener.note(note)
    if sum(removed.removed.values()):
        with translate_errors(connection, "reading triggers"):
            if note := await describe_insert_triggers(connection, existing_tables):
                listener.note(note)
    try:
        await rebuild_dropped(connection, address, ledger, dropped, listener)
    except anyio.get_cancelled_exc_class():
        listener.note(
            "the rows are removed, but not all indexes and keys are rebuilt: "
            f"rebuild them with {ledger.command(f'cleanup {min(dropped)}')}"
        )
        raise
    async with transaction(connection):
        with translate_errors(connection, "forgetting the run"):
            async with limit_wait(connection, ledger):
                for number in dropped:
                    await forget_run(connection, ledger, number)
    # before the sequences, which are waited for: that can be interrupted
    await drop_empty_ledger(connection, ledger, listener)
    try:
        returned = await return_ids(connection, ledger, runs)
    except anyio.get_cancelled_exc_class():
        listener.note("the rows are removed, but not all ids are given back to the sequences")
        raise
    return CleanupReport(
        tuple(run.number for run in runs),
        removed.removed,
        removed.others,
        len(definitions),
        removed.changed,
        removed.missing,
        returned.ids,
        returned.other_rows,
    )


async def is_index_missing(connection: Connection, deferred: Sequence[Deferred]) -> bool:
    """Return whether an index of ``deferred`` does not exist."""
    indexes = [definition.index for definition in deferred if definition.kind != "foreign key"]
    with translate_errors(connection, "looking for indexes"):
        return bool(
            await connection.fetchval(
                "SELECT bool_or(to_regclass(name) IS NULL) FROM unnest($1::text[]) AS name", indexes
            )
        )


@dataclass(frozen=True, slots=True)
class Removal:
    """The removal of the rows of ``runs``, and of the runs from the ledger.

    Runs in ``dropped`` stay in the ledger, without rows, until their indexes and keys are rebuilt.
    """

    connection: Connection
    ledger: Ledger
    runs: Sequence[Run]
    dropped: Mapping[int, Sequence[Deferred]]
    absent: Sequence[Deferred]
    cascade: bool
    changed: Changed
    listener: ProgressListener
    in_batches: Counter[str] = field(default_factory=Counter)
    """The rows that committed batches have removed, by table."""

    async def remove(self) -> Removed:
        """Remove all rows at once; on a full disk free space and try again, in batches if possible."""
        try:
            return await self.remove_at_once()
        except DiskFullError:
            pass
        for tries_left in reversed(range(DISK_TRIES)):
            await free_disk_space(self.connection, self.runs, self.dropped, self.listener)
            try:
                return await self.remove_with_little_space()
            except DiskFullError:
                if not tries_left:
                    raise
                # a worker whose COPY was rolled back may still lock its table, which VACUUM then cannot truncate
                await anyio.sleep(DISK_PAUSE)
        raise AssertionError("the last try returns or raises")

    async def remove_with_little_space(self) -> Removed:
        """Remove run after run in batches; all at once if one of the runs is complete, or with ``cascade``."""
        if self.cascade or any(run.is_complete for run in self.runs):
            return await self.remove_at_once()
        async with transaction(self.connection):
            runs = await self.lock_incomplete()
            with translate_errors(self.connection, "marking the run"):
                for run in runs:
                    await mark_undoing(self.connection, self.ledger, run.number)
        for run in runs:
            await remove_in_batches(self.connection, self.ledger, run, self.absent, self.listener, self.in_batches)
        async with transaction(self.connection):
            await self.forget()
        names = dict.fromkeys(name for run in self.runs for name in reversed(run.plan.model.names))
        return Removed({name: self.in_batches[name] for name in names}, {}, {}, {})

    async def remove_at_once(self) -> Removed:
        """Remove all rows in one transaction, and again if an app's rows came or changed meanwhile."""
        for tries_left in reversed(range(TRIES)):
            try:
                return await self.try_at_once()
            except ConnectionLostError:
                raise
            except TransientError as error:
                # a lock on the ledger has been waited for already
                if not tries_left or error.code == "ledger-locked":
                    raise
                logger.info("the rows are removed again: %s", error)
            await anyio.sleep(PAUSE)
        raise AssertionError("the last try returns or raises")

    async def try_at_once(self) -> Removed:
        async with transaction(self.connection):
            runs = await self.lock_incomplete()
            removed = await remove_rows(
                self.connection,
                runs,
                self.absent,
                cascade=self.cascade,
                changed=self.changed,
                listener=self.listener,
            )
            await self.forget()
        totals = {name: count + self.in_batches[name] for name, count in removed.removed.items()}
        return replace(removed, removed=totals)

    async def lock_incomplete(self) -> list[Run]:
        """Keep other commands from loading shards of the incomplete runs meanwhile, and read all runs again."""
        with translate_errors(self.connection, "reading the ledger"):
            claims = [run.claim for run in self.runs]
            incomplete = [run.claim for run in self.runs if not run.is_complete]
            await lock_incomplete(self.connection, self.ledger, incomplete, self.listener)
            # a shard may have been loaded in the meantime
            return await find_runs(self.connection, self.ledger, claims)

    async def forget(self) -> None:
        with translate_errors(self.connection, "forgetting the run"):
            async with limit_wait(self.connection, self.ledger):
                for run in self.runs:
                    forget = mark_emptied if run.number in self.dropped else forget_run
                    await forget(self.connection, self.ledger, run.number)


async def rebuild_dropped(
    connection: Connection,
    address: Address,
    ledger: Ledger,
    dropped: Mapping[int, Sequence[Deferred]],
    listener: ProgressListener,
) -> None:
    """Rebuild the indexes and keys that loads have dropped, and record that."""
    done, steps = 0, sum(map(count_steps, dropped.values()))

    def on_step(_name: str, _seconds: float) -> None:
        nonlocal done
        done += 1
        listener.phase(Phase.REBUILD, done, steps)

    for number, definitions in dropped.items():
        earlier = done
        listener.phase(Phase.REBUILD, done, steps)
        try:
            try:
                await rebuild_all(connection, address, definitions, on_step, listener.note)
            except DiskFullError:
                await vacuum(connection, sorted({definition.table for definition in definitions}))
                done = earlier
                await rebuild_all(connection, address, definitions, on_step, listener.note)
        except ConnectionLostError:
            raise
        except RunError as error:
            again = f"correct this, and rebuild the others with {ledger.command(f'cleanup {number}')}"
            with translate_errors(connection, "looking for what is missing"):
                missing = await find_missing(connection, definitions)
            statements = [f"    {statement};" for definition in missing for statement in definition.statements]
            by_hand = "\n".join(["these statements make what is missing:", *statements] if statements else [])
            raise type(error)("\n".join(filter(None, [str(error), by_hand, again])), code=error.code) from error
        async with transaction(connection):
            with translate_errors(connection, "recording the rebuilt indexes"):
                async with limit_wait(connection, ledger):
                    await mark_rebuilt(connection, ledger.deferred, number, definitions)


async def rebuild_all(
    connection: Connection,
    address: Address,
    definitions: Sequence[Deferred],
    on_step: Callable[[str, float], None],
    on_note: Callable[[str], None],
) -> None:
    try:
        count = min(MOST_CONNECTIONS, available_cores())
        connect = partial(open_connection, address)
        await rebuild(connect, definitions, connections=count, on_step=on_step, on_note=on_note)
    except ConnectError:
        # the server accepts no more connections than this one
        await rebuild(lambda: nullcontext(connection), definitions, on_step=on_step, on_note=on_note)
