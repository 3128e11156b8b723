"""Removing the rows of runs: which they are, what else points at them, and the deletion of all of it at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import pyarrow as pa

from bulkseed.cleaner.references import Reference, references
from bulkseed.copy.column_mapping import convert_batch
from bulkseed.copy.writer import CopyInto, copy_batches
from bulkseed.deferral import Deferred, not_owned
from bulkseed.errors import InputError, RunError, TargetError
from bulkseed.generators import Context, shard_tables
from bulkseed.generators.plugins import loaded
from bulkseed.ledger import Run
from bulkseed.listeners import ProgressListener
from bulkseed.plan.shards import ROWS_PER_SHARD, split_into_shards
from bulkseed.plan.tables import Model, Names
from bulkseed.postgres.connection import Connection, translate_errors
from bulkseed.randomness.draws import GENERATOR_VERSION
from bulkseed.sql import identifier
from bulkseed.target.copy_plan import copy_into, with_keys
from bulkseed.target.ids import check_writable
from bulkseed.text.faker_source import corpus_of
from bulkseed.verifier.rule_sql import Scope

__all__ = ["check_owner", "check_rights", "remove_rows"]

COLUMN_TYPE: Final = """
SELECT format_type(CASE WHEN typtype = 'd' THEN typbasetype ELSE t.oid END, NULL)
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid WHERE attrelid = $1::text::regclass AND attname = $2
"""

NULLABLE: Final = """
SELECT attname, atttypid = 'json'::regtype AS is_json FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND (NOT attnotnull OR atttypid = 'json'::regtype)
"""

SETTINGS: Final = "SET LOCAL enable_nestloop = off; SET LOCAL work_mem = '128MB'"
"""All joins are by equality, over many rows: a nested loop is never right, and is chosen where statistics are wrong,
as while indexes are dropped. With the usual 4 MB, a subquery over a million marks is not hashed."""


@dataclass(slots=True)
class DeletionSet:
    """Which rows go: of our tables by ``seeded`` (SQL, with ``{row}`` for an alias), of any by ``extra`` (ctids)."""

    seeded: dict[str, str]
    extra: dict[str, str] = field(default_factory=dict)

    def add(self, table: str, condition: str) -> None:
        """Rows of ``table`` go too under this condition."""
        self.seeded[table] = " OR ".join(filter(None, [self.seeded.get(table), condition]))

    def ours(self, table: str, alias: str) -> str:
        """The SQL condition under which the row ``alias`` of ``table`` is a seeded one that goes."""
        return self.seeded[table].format(row=alias) if table in self.seeded else "false"

    def condition(self, table: str, alias: str) -> str:
        """The SQL condition under which the row ``alias`` of ``table`` goes."""
        ways = [self.ours(table, alias)]
        if table in self.extra:
            ways.append(f"({alias}.tableoid, {alias}.ctid) IN (SELECT place, row FROM {self.extra[table]})")
        return f"({' OR '.join(ways)})"


async def remove_rows(
    connection: Connection,
    runs: Sequence[Run],
    absent: Iterable[Deferred],
    *,
    cascade: bool,
    listener: ProgressListener,
    diskless: bool = False,
) -> tuple[dict[str, int], dict[str, int]]:
    """Delete the rows of ``runs``, in the caller's transaction; returns how many by table, and of other tables.

    ``absent`` are the foreign keys that are dropped at the moment. Raises RunError where other rows point at them,
    unless ``cascade`` lets those go too, and InputError for rows that another generator made. ``diskless``: the list
    of what is to go is in the session's memory, not on the server's disk (without ``cascade``).
    """
    listener.phase("find")
    for run in runs:
        if not cascade and (gone := gone_tables(run)):
            raise InputError(
                f"{next(iter(gone.values()))}; the rows of {', '.join(gone)} of run {run.number} are known by it: put "
                "it back, or give --cascade to remove what points at the run's other rows"
            )
    with translate_errors(connection, "finding the rows to remove"):
        await connection.execute(SETTINGS)
        for run in runs:
            tables = [run.names.name(name) for name in await present(connection, run)]
            if tables and not run.is_complete and not diskless:
                # a load that was cut off left no statistics; who may not ANALYZE is only warned
                await connection.execute(f"ANALYZE {', '.join(tables)}")
    expected: Counter[str] = Counter()
    for run in runs:
        expected.update(run.rows)
    listener.expect(expected)
    with translate_errors(connection, "finding the rows to remove"):
        doomed = await (listed_rows if diskless else seeded_rows)(connection, runs, cascade, listener)
        known = [
            each
            for each in await references(connection, [run.names for run in runs], absent)
            if each.declared or {each.child, each.parent} <= doomed.seeded.keys()
        ]
        pointing = await others_pointing(connection, known, doomed)
        if pointing and not cascade:
            told = "; ".join(f"{count:,} of {reference}" for reference, count in pointing.items())
            raise RunError(
                f"rows that bulkseed did not make point at seeded rows: {told}; nothing was removed: "
                "remove them yourself, or give --cascade to let them go too"
            )
        if pointing:
            await find_extra(connection, known, doomed)
    listener.phase("remove")
    with translate_errors(connection, "removing rows"):
        return await remove(connection, runs, doomed)


async def check_owner(connection: Connection, deferred: Sequence[Deferred]) -> None:
    """Raises TargetError where this login may not make again what was dropped of others' tables."""
    others = await not_owned(connection, deferred)
    if others:
        raise TargetError(
            f"indexes and keys of {', '.join(others)} are to be made again, which only the owner of a table may: "
            f"do this as {', '.join(sorted(set(others.values())))}"
        )


async def check_rights(connection: Connection, runs: Sequence[Run]) -> None:
    """Raises TargetError where this login may not remove rows, naming the GRANT that is missing."""
    await check_writable(connection)
    lacking = [
        table
        for table in dict.fromkeys([run.names.name(name) for run in runs for name in await present(connection, run)])
        if not await connection.fetchval(
            "SELECT has_table_privilege($1, 'SELECT') AND has_table_privilege($1, 'DELETE')", table
        )
    ]
    if lacking:
        raise TargetError(f"this login may not remove rows: GRANT SELECT, DELETE ON {', '.join(lacking)} to it")


async def present(connection: Connection, run: Run) -> list[str]:
    """Which of our tables are still there: what was dropped holds nothing to remove."""
    rows = await connection.fetch(
        "SELECT relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')",
        run.schema,
    )
    there = {row["relname"] for row in rows}
    model = run.plan.model
    return [name for name in model.names if model.name(name) in there]


def identity_columns(model: Model, name: str) -> dict[str, str]:
    """The columns by which a row of a table is known again as one that a run put in, with what the app calls each.

    An id alone is not enough: ids begin again after TRUNCATE … RESTART IDENTITY, or in tables that were made anew. The
    moment of creation, to the microsecond, is what an app leaves as it is; where that is not kept, what was unique.
    """
    table = model.by_name[name]
    columns = table.key
    if table.serial is not None:
        further = ("created_at", *(column for together in table.unique for column in together), "updated_at", "user_id")
        columns = (table.serial, *[each for each in further if each in table.column_names][:1])
    return {each: model.column(name, each) for each in columns}


async def seeded_rows(
    connection: Connection, runs: Sequence[Run], cascade: bool, listener: ProgressListener
) -> DeletionSet:
    doomed = DeletionSet({})
    left = list(runs)
    place = 0
    while left:
        # runs of one scenario have their marks in common
        names = left[0].names
        alike, left = [run for run in left if run.names == names], [run for run in left if run.names != names]
        marks: dict[str, CopyInto] = {}
        for name in await present(connection, alike[0]):
            kept = f"bulkseed_{place}"
            columns = identity_columns(names.model, name)
            place += 1
            listed = ", ".join(map(identifier, columns.values()))
            await connection.execute(
                f"CREATE TEMP TABLE {kept} ON COMMIT DROP AS SELECT {listed} FROM {names.name(name)} WITH NO DATA"
            )
            marks[name] = await copy_into(connection, kept, columns)
            equal = await equality(connection, names, name, list(columns.values()))
            doomed.add(names.name(name), f"EXISTS (SELECT FROM {kept} AS k WHERE {equal})")
        for run in alike:
            await find_marks(connection, run, marks, cascade, listener)
        # the planner knows nothing of a table just made
        for into in marks.values():
            await connection.execute(f"ANALYZE {into.table}")
    return doomed


async def find_marks(
    connection: Connection, run: Run, marks: Mapping[str, CopyInto], cascade: bool, listener: ProgressListener
) -> None:
    """Put the marks of the run's rows into the temporary tables that hold them."""
    if is_of_this_generator(run):
        keys = Scope(run).uuids
        keyed = {name: with_keys(into, run.plan.model.by_name[name], keys) for name, into in marks.items()}
        gone = gone_tables(run)
        for name, batches in tables_of(run):
            if name in keyed and name not in gone:
                await copy_batches(connection, keyed[name], batches, partial(listener.rows, name))
    elif cascade:
        scope = Scope(run)
        for name, into in marks.items():
            listed = ", ".join(map(identifier, into.columns))
            await connection.execute(
                f"INSERT INTO {into.table} SELECT {listed} FROM {run.names.name(name)} AS t "
                f"WHERE {scope.ours_there(name, 't')}"
            )
    else:
        raise of_another_generator(run)


async def listed_rows(
    connection: Connection, runs: Sequence[Run], cascade: bool, listener: ProgressListener
) -> DeletionSet:
    """The same as seeded_rows(), of what a session can keep in a setting; of runs of this generator alone."""
    assert not cascade
    doomed = DeletionSet({})
    for run in runs:
        if not is_of_this_generator(run):
            raise of_another_generator(run)
        there = await present(connection, run)
        model, keys = run.plan.model, Scope(run).uuids
        marks: dict[str, CopyInto] = {}
        for name in there:
            into = await copy_into(connection, model.name(name), identity_columns(model, name), run.schema)
            marks[name] = with_keys(into, model.by_name[name], keys)
        lists: dict[str, list[list[str]]] = {name: [[] for _ in marks[name].columns] for name in there}
        for name, batches in tables_of(run):
            for batch in batches if name in there else ():
                for values, column in zip(lists[name], convert_batch(batch, marks[name].mappings, name), strict=True):
                    values.append(",".join(map(element, texts(column))))
                listener.rows(name, batch.num_rows)
        for place, name in enumerate(there):
            arrays = []
            for number, (column, values) in enumerate(zip(marks[name].columns, lists[name], strict=True)):
                setting = f"bulkseed.listed_{run.number}_{place}_{number}"
                kind = await connection.fetchval(COLUMN_TYPE, run.names.name(name), column)
                await connection.execute(
                    "SELECT set_config($1, $2, true)", setting, f"{{{','.join(filter(None, values))}}}"
                )
                arrays.append(f"current_setting('{setting}')::{kind}[]")
            listed = ", ".join(map(identifier, marks[name].columns))
            equal = await equality(connection, run.names, name, marks[name].columns)
            doomed.add(
                run.names.name(name),
                f"EXISTS (SELECT FROM unnest({', '.join(arrays)}) AS k ({listed}) WHERE {equal})",
            )
    return doomed


async def equality(connection: Connection, names: Names, table: str, columns: Sequence[str]) -> str:
    """The SQL condition that the marks k and the row {row} agree; only a table of the user's own may have null there,
    but not in the first, by which they are joined.
    """
    rows = await connection.fetch(NULLABLE, names.name(table)) if table in names.model.extras else []
    nullable = {row["attname"] for row in rows} - {columns[0]}
    # json has no equality
    texts = {row["attname"]: "::text" for row in rows if row["is_json"]}
    return " AND ".join(
        f"k.{identifier(each)}{texts.get(each, '')} {'IS NOT DISTINCT FROM' if each in nullable else '='} "
        f"{{row}}.{identifier(each)}{texts.get(each, '')}"
        for each in columns
    )


def texts(column: pa.Array) -> list[str | None]:
    """Values as the server reads them."""
    if column.type == pa.binary(16):
        return [None if octets is None else octets.hex() for octets in column.to_pylist()]
    found: list[str | None] = column.cast(pa.string()).to_pylist()
    return found


def element(text: str | None) -> str:
    """A value in an array's text (https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO)."""
    return "NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def gone_tables(run: Run) -> dict[str, InputError]:
    """Why tables of the user's own cannot be made again, as their code is gone, or that of those that they follow."""
    model = run.plan.model
    found: dict[str, InputError] = {}
    for name in model.names:
        extra = model.extras.get(name)
        if extra is not None and extra.follows in found:
            found[name] = found[extra.follows]
        elif extra is not None and extra.source:
            try:
                loaded(extra.source)
            except InputError as error:
                found[name] = error
    return found


def is_of_this_generator(run: Run) -> bool:
    return run.made_by["generator"] == str(GENERATOR_VERSION)


def of_another_generator(run: Run) -> InputError:
    return InputError(
        f"run {run.number} was made by bulkseed {run.made_by['bulkseed']}, whose generator "
        f"({run.made_by['generator']}) is not this one's ({GENERATOR_VERSION}): use that version to remove it, or give "
        "--cascade to remove whatever has its ids, and what an app added between seeded rows"
    )


def tables_of(run: Run) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    """The rows of a run, made again, table by table of each shard."""
    # what fields fill marks no row, and may want code that is gone
    plan = replace(run.plan, scenario=replace(run.plan.scenario, fields={}))
    context = Context(plan, run.placement, corpus_of(run.plan.locale))
    # a shard that is not in has no rows to look for
    for shard in split_into_shards(run.plan, run.rows_per_shard or ROWS_PER_SHARD):
        if run.shards is None or shard.number in run.shards:
            yield from shard_tables(context, shard)


def points_at_doomed(reference: Reference, doomed: DeletionSet) -> str:
    return (
        f"FROM {reference.child} AS c WHERE EXISTS (SELECT FROM {reference.parent} AS p "
        f"WHERE {reference.joins('c', 'p')} AND {doomed.condition(reference.parent, 'p')}) "
        f"AND NOT {doomed.condition(reference.child, 'c')}"
    )


async def others_pointing(
    connection: Connection, known: Sequence[Reference], doomed: DeletionSet
) -> dict[Reference, int]:
    """How many rows that stay point at rows that go, by the reference through which they do."""
    found = {}
    for reference in known:
        if reference.parent in doomed.seeded:
            count = await connection.fetchval(f"SELECT count(*) {points_at_doomed(reference, doomed)}")
            if count:
                found[reference] = count
    return found


async def find_extra(connection: Connection, known: Sequence[Reference], doomed: DeletionSet) -> None:
    """Add to ``doomed`` the rows that point at rows that go, those that point at them, and so on."""
    growing = True
    while growing:
        growing = False
        for reference in known:
            going = reference.parent in doomed.seeded or reference.parent in doomed.extra
            if reference.on_delete_sets_null or not going:
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
    connection: Connection, runs: Sequence[Run], doomed: DeletionSet
) -> tuple[dict[str, int], dict[str, int]]:
    """Delete all of it as one statement: foreign keys are checked at its end, so tables may point in a circle."""
    names = {run.names.name(name): name for run in runs for name in reversed(run.plan.model.names)}
    tables = list(dict.fromkeys([*(table for table in names if table in doomed.seeded), *doomed.extra]))
    removed = dict.fromkeys(names.values(), 0)
    others: dict[str, int] = {}
    if not tables:
        return removed, others
    deletes, counts = [], []
    for place, table in enumerate(tables):
        going = doomed.condition(table, "t")
        # asked again for each row only where rows of others go too
        ours = doomed.ours(table, "t") if table in doomed.extra else "true"
        deletes.append(f"d{place} AS (DELETE FROM {table} AS t WHERE {going} RETURNING {ours} AS ours)")
        counts.append(
            f"(SELECT count(*) FILTER (WHERE ours) FROM d{place}), (SELECT count(*) FROM d{place}), "
            f"(SELECT count(*) FROM {table} AS t WHERE {going})"
        )
    found = await connection.fetchrow(f"WITH {', '.join(deletes)} SELECT {', '.join(counts)}")
    for place, table in enumerate(tables):
        ours, gone, wanted = found[3 * place : 3 * place + 3]
        if gone != wanted:
            raise RunError(
                f"{table} kept {wanted - gone:,} of {wanted:,} rows: a trigger or rule of the table holds them; "
                "switch it off"
            )
        if table in names:
            removed[names[table]] += ours
        if gone > ours:
            others[table] = gone - ours
    return removed, others
