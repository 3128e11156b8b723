"""Cleaning up: the rows of a run out of the target again, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import pyarrow as pa

from bulkseed import ledger
from bulkseed.address import Address
from bulkseed.connection import Connection, connected, translated
from bulkseed.copy import CopyInto
from bulkseed.errors import InputError, RunError
from bulkseed.generators import Context, shard_tables
from bulkseed.ledger import Run
from bulkseed.pipeline import copy_batches
from bulkseed.references import Reference, children_first, references
from bulkseed.shards import cut
from bulkseed.streams import GENERATOR_VERSION
from bulkseed.tables import TABLE_NAMES, TABLES, Table
from bulkseed.target import qualified
from bulkseed.transaction import take_turn, transaction
from bulkseed.watch import Silent, Watcher

__all__ = ["CleanupReport", "cleanup", "recorded_runs"]

LINKS: Final = tuple(table for table in TABLES if table.serial is None)
"""Tables whose rows have no id of their own: which of them are ours is known by making their keys again."""


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """The runs that were removed, how many of their rows by table, and how many others with them (``--cascade``)."""

    runs: tuple[int, ...]
    removed: Mapping[str, int]
    others: Mapping[str, int]


@dataclass(slots=True)
class Doomed:
    """Which rows go: of our tables by ``seeded`` (SQL, with ``{row}`` for an alias), of any by ``extra`` (ctids)."""

    seeded: dict[str, str]
    extra: dict[str, str] = field(default_factory=dict)

    def condition(self, table: str, alias: str) -> str:
        """The SQL condition under which the row ``alias`` of ``table`` goes."""
        ways = []
        if table in self.seeded:
            ways.append(self.seeded[table].format(row=alias))
        if table in self.extra:
            ways.append(f"({alias}.tableoid, {alias}.ctid) IN (SELECT place, row FROM {self.extra[table]})")
        return f"({' OR '.join(ways)})" if ways else "false"


async def recorded_runs(address: Address, number: int | None = None) -> list[Run]:
    """The runs that the ledger of the target has: all, or the one with ``number``.

    Raises InputError where there is none, or not that one.
    """
    async with connected(address) as connection:
        with translated(connection, "reading the ledger"):
            return await ledger.chosen_runs(connection, number)


async def cleanup(
    address: Address, run: int | None = None, *, cascade: bool = False, watcher: Watcher | None = None
) -> CleanupReport:
    """Remove the rows of ``run``, or of every run, in one transaction.

    Raises RunError, with nothing removed, where other rows point at them, unless ``cascade`` lets those go too;
    InputError where there is no such run.
    """
    watcher = watcher or Silent()
    async with connected(address) as connection, transaction(connection):
        with translated(connection, "reading the ledger"):
            await ledger.chosen_runs(connection, run)
            await take_turn(connection, watcher)
            runs = await ledger.chosen_runs(connection, run)
        watcher.phase("find")
        with translated(connection, "finding the rows to remove"):
            doomed = await seeded_rows(connection, runs, cascade, watcher)
            known = await references(connection, sorted({each.schema for each in runs}))
            pointing = await others_pointing(connection, known, doomed)
            if pointing and not cascade:
                told = "; ".join(f"{count:,} of {reference}" for reference, count in pointing.items())
                raise RunError(
                    f"rows that bulkseed did not make point at seeded rows: {told}; nothing was removed: "
                    "remove them yourself, or give --cascade to let them go too"
                )
            if pointing:
                await find_extra(connection, known, doomed)
        watcher.phase("remove")
        with translated(connection, "removing rows"):
            removed, others = await remove(connection, runs, known, doomed, watcher)
            for each in runs:
                await ledger.forget_run(connection, each.number)
    return CleanupReport(tuple(each.number for each in runs), removed, others)


async def seeded_rows(connection: Connection, runs: Sequence[Run], cascade: bool, watcher: Watcher) -> Doomed:
    ways: dict[str, list[str]] = {}
    for table in LINKS:
        columns = ", ".join(f"{name} bigint NOT NULL" for name in table.key)
        await connection.execute(f"CREATE TEMP TABLE bulkseed_{table.name} ({columns}) ON COMMIT DROP")
    for run in runs:
        for table in TABLES:
            if table.serial is not None:
                first, last = id_range(run, table.name)
                way = f"{{row}}.{table.serial} BETWEEN {first} AND {last}"
            else:
                equal = " AND ".join(f"k.{name} = {{row}}.{name}" for name in table.key)
                way = f"EXISTS (SELECT FROM bulkseed_{table.name} AS k WHERE {equal})"
            places = ways.setdefault(qualified(run.schema, table.name), [])
            if way not in places:
                places.append(way)
        await find_keys(connection, run, cascade, watcher)
    for table in LINKS:
        await connection.execute(f"ANALYZE bulkseed_{table.name}")
    return Doomed({table: f"({' OR '.join(each)})" for table, each in ways.items()})


async def find_keys(connection: Connection, run: Run, cascade: bool, watcher: Watcher) -> None:
    """Put the keys of the run's rows in the link tables into the temporary tables that hold them."""
    made = run.made_by["generator"]
    if made == str(GENERATOR_VERSION):
        await make_keys(connection, run, watcher)
    elif cascade:
        await read_keys(connection, run)
    else:
        raise InputError(
            f"run {run.number} was made by bulkseed {run.made_by['bulkseed']}, whose generator ({made}) is not "
            f"this one's ({GENERATOR_VERSION}): use that version to remove it, or give --cascade to also remove "
            "what an app added between seeded rows"
        )


def id_range(run: Run, table: str) -> tuple[int, int]:
    first = getattr(run.placement, f"first_{table.removesuffix('s')}")
    return first, first + run.rows[table] - 1


async def make_keys(connection: Connection, run: Run, watcher: Watcher) -> None:
    context = Context(run.plan, run.placement)
    for shard in cut(run.plan):
        for name, batches in shard_tables(context, shard):
            for table in LINKS:
                if table.name == name:
                    into = CopyInto(f"bulkseed_{name}", table.key)
                    await copy_batches(connection, into, only(table, batches), partial(watcher.rows, name))


def only(table: Table, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return (batch.select(list(table.key)) for batch in batches)


async def read_keys(connection: Connection, run: Run) -> None:
    for table, column, parent in (
        ("user_channels", "channel_id", "channels"),
        ("message_reactions", "message_id", "messages"),
    ):
        first, last = id_range(run, parent)
        await connection.execute(
            f"INSERT INTO bulkseed_{table} SELECT {', '.join(key_of(table))} FROM {qualified(run.schema, table)} "
            f"WHERE {column} BETWEEN {first} AND {last}"
        )


def key_of(name: str) -> tuple[str, ...]:
    return next(table.key for table in TABLES if table.name == name)


def points_at_doomed(reference: Reference, doomed: Doomed) -> str:
    return (
        f"FROM {reference.child} AS c WHERE EXISTS (SELECT FROM {reference.parent} AS p "
        f"WHERE {reference.joins('c', 'p')} AND {doomed.condition(reference.parent, 'p')}) "
        f"AND NOT {doomed.condition(reference.child, 'c')}"
    )


async def others_pointing(connection: Connection, known: Sequence[Reference], doomed: Doomed) -> dict[Reference, int]:
    """How many rows that stay point at rows that go, by the reference through which they do."""
    found = {}
    for reference in known:
        if reference.parent in doomed.seeded:
            count = await connection.fetchval(f"SELECT count(*) {points_at_doomed(reference, doomed)}")
            if count:
                found[reference] = count
    return found


async def find_extra(connection: Connection, known: Sequence[Reference], doomed: Doomed) -> None:
    """Add to ``doomed`` the rows that point at rows that go, those that point at them, and so on."""
    growing = True
    while growing:
        growing = False
        for reference in known:
            going = reference.parent in doomed.seeded or reference.parent in doomed.extra
            if reference.lets_go or not going:
                continue
            if reference.child not in doomed.extra:
                name = f"bulkseed_extra_{len(doomed.extra)}"
                await connection.execute(
                    f"CREATE TEMP TABLE {name} (place oid, row tid, PRIMARY KEY (place, row)) ON COMMIT DROP"
                )
                doomed.extra[reference.child] = name
            tag = await connection.execute(
                f"INSERT INTO {doomed.extra[reference.child]} SELECT c.tableoid, c.ctid "
                f"{points_at_doomed(reference, doomed)}"
            )
            growing = growing or tag != "INSERT 0 0"


async def remove(
    connection: Connection, runs: Sequence[Run], known: Sequence[Reference], doomed: Doomed, watcher: Watcher
) -> tuple[dict[str, int], dict[str, int]]:
    names = {qualified(run.schema, table.name): table.name for run in runs for table in reversed(TABLES)}
    removed = dict.fromkeys(reversed(TABLE_NAMES), 0)
    others: dict[str, int] = {}
    for table in children_first(dict.fromkeys([*doomed.extra, *names]), known):
        extra = 0
        if table in doomed.extra:
            extra = await connection.fetchval(f"SELECT count(*) FROM {doomed.extra[table]}")
        tag = await connection.execute(f"DELETE FROM {table} AS t WHERE {doomed.condition(table, 't')}")
        if extra:
            others[table] = extra
        if table in names:
            removed[names[table]] += int(tag.split()[-1]) - extra
            watcher.rows(names[table], removed[names[table]])
    return removed, others
