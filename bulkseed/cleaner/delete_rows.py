"""Removing the rows of runs: finding them and the rows that reference them, deleting all, and checking the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import anyio
import asyncpg

from bulkseed.cleaner.compare_rows import Changed, Comparison, compare_rows
from bulkseed.cleaner.find_rows import (
    DeletionSet,
    find_existing_tables,
    find_missing_code,
    find_rows,
    find_rows_in_memory,
)
from bulkseed.cleaner.references import Reference, references
from bulkseed.cleaner.removal_checks import find_removal_problems
from bulkseed.cleaner.triggers import DeleteTrigger, check_delete_rules, find_delete_triggers
from bulkseed.deferral import Deferred, describe_holders, find_foreign_owners
from bulkseed.errors import InputError, RunError, TargetError, TransientError
from bulkseed.ledger import Run
from bulkseed.listeners import Phase, ProgressListener
from bulkseed.postgres.connection import Connection, server_message, translate_errors
from bulkseed.postgres.optional import execute_optional
from bulkseed.sql import SQL, compose, identifier, join, plain_names
from bulkseed.target.ids import check_writable, find_missing_privileges, find_row_security
from bulkseed.target.target import raise_problems

__all__ = [
    "Removed",
    "check_owner",
    "check_privileges",
    "delete_in_order",
    "disabling",
    "remove_rows",
    "translate_violations",
]

LOCK_SECONDS: Final = 60
"""How long a statement waits for rows or tables that other transactions have locked."""
STRONG_LOCK_SECONDS: Final = 2
"""The same for locks on tables, which block all writers that come after them."""
STRONG_LOCK_TRIES: Final = 5

SETTINGS: Final = "SET LOCAL enable_nestloop = off; SET LOCAL work_mem = '128MB'; SET LOCAL lock_timeout = '{seconds}s'"
"""All joins are by equality, over many rows: a nested loop is never right, and is chosen where statistics are wrong,
as while indexes are dropped. With the usual 4 MB, a subquery over a million rows is not hashed."""

TOUCHED: Final = """
WITH RECURSIVE part AS (
    SELECT name, to_regclass(name)::oid AS relation FROM unnest($1::text[]) AS name
    UNION SELECT part.name, i.inhrelid FROM part JOIN pg_inherits AS i ON i.inhparent = part.relation
)
SELECT name, sum(pg_stat_get_xact_tuples_deleted(relation))::bigint AS deleted,
       sum(pg_stat_get_xact_tuples_updated(relation))::bigint AS updated
FROM part GROUP BY name
"""
"""The rows of the tables $1 that this session has deleted and updated, by statements, foreign keys and triggers."""


@dataclass(frozen=True, slots=True)
class Removed:
    """The rows that a removal has deleted, and how they differed from what the ledger records.

    ``removed``, ``changed`` and ``missing`` are by bulkseed's names of tables, ``others`` by the SQL names: rows that
    bulkseed did not make. ``notes`` are sentences for the user.
    """

    removed: Mapping[str, int]
    others: Mapping[str, int]
    changed: Mapping[str, int]
    missing: Mapping[str, int]
    notes: tuple[str, ...] = ()


async def remove_rows(
    connection: Connection,
    runs: Sequence[Run],
    absent: Iterable[Deferred],
    *,
    cascade: bool,
    listener: ProgressListener,
    changed: Changed = "refuse",
    diskless: bool = False,
) -> Removed:
    """Delete the rows of ``runs`` in the caller's transaction.

    ``absent`` are the foreign keys that are dropped at the moment. Raises RunError if other rows reference the rows to
    delete, unless ``cascade`` deletes those too, or if rows with ids of the runs are not recognised, unless ``changed``
    says what to do with them; TransientError if rows came or changed meanwhile; InputError for rows of another
    generator's. With ``diskless`` the list of rows to delete is in the session's memory instead of on the server's disk
    (not with ``cascade``).
    """
    listener.phase(Phase.FIND)
    for run in runs:
        if not cascade and (missing_code := find_missing_code(run)):
            error = next(iter(missing_code.values()))
            raise InputError(
                f"{error}\nthe rows of {', '.join(missing_code)} of run {run.number} cannot be identified without that "
                "code: restore it, or give --cascade to remove all rows that reference the run's other rows",
                code=error.code,
            )
    with translate_errors(connection, "finding the rows to remove"):
        await connection.execute(compose(SETTINGS, seconds=LOCK_SECONDS))
        for run in runs:
            tables = [run.names.sql_name(name) for name in await find_existing_tables(connection, run)]
            await check_delete_rules(connection, tables)
            if tables and not run.is_complete and not diskless:
                # an interrupted load left no statistics; the rows are found without them too
                for table in tables:
                    await execute_optional(connection, compose("ANALYZE {table}", table=table), f"ANALYZE {table}")
    expected: Counter[str] = Counter()
    for run in runs:
        expected.update(run.rows)
    listener.expect(expected)
    with translate_errors(connection, "finding the rows to remove"):
        deletions = await (find_rows_in_memory if diskless else find_rows)(connection, runs, cascade, listener)
        known = [
            reference
            for reference in await references(connection, [run.names for run in runs], absent)
            if reference.declared or {reference.child, reference.parent} <= deletions.seeded.keys()
        ]
        tables = list(deletions.seeded)
        triggers = await find_delete_triggers(connection, tables)
        watched = find_affected_tables(known, tables)
        if cascade or (watched and (triggers or not await counts_rows(connection))):
            # nothing else can be written meanwhile, and the rows keep their places
            await lock_tables(connection, tables, compose("EXCLUSIVE"), listener)
            watched = set()
        comparison = await compare_rows(connection, runs, deletions, cascade=cascade, changed=changed)
        counts = await count_references(connection, known, deletions)
        if counts and not cascade:
            raise referenced_rows_error(counts, nothing_removed=not diskless)
        if counts:
            await lock_tables(connection, find_children(known, tables), compose("SHARE ROW EXCLUSIVE"), listener)
            await add_referencing_rows(connection, known, deletions)
            referencing = [table for table in deletions.extra if table not in tables]
            await check_delete_rules(connection, referencing)
            triggers += await find_delete_triggers(connection, referencing)
    listener.phase(Phase.REMOVE)
    with translate_errors(connection, "removing rows"):
        try:
            # a savepoint, after which the holders of locks can be asked for
            async with connection.transaction():
                seeded, others = await delete_and_check(connection, deletions, comparison, known, triggers, watched)
        except asyncpg.LockNotAvailableError as error:
            raise no_lock_error(tables, await describe_holders(connection, tables), LOCK_SECONDS) from error
    return Removed(
        by_name(runs, seeded, zeros=True),
        others,
        by_name(runs, comparison.changed),
        by_name(runs, comparison.missing),
        tuple(comparison.notes),
    )


def by_name(runs: Sequence[Run], counts: Mapping[SQL, int], *, zeros: bool = False) -> dict[str, int]:
    """Return counts by SQL name as counts by bulkseed's name, last table first."""
    names = {run.names.sql_name(name): name for run in runs for name in reversed(run.plan.model.names)}
    totals: Counter[str] = Counter(dict.fromkeys(names.values(), 0))
    for table, name in names.items():
        totals[name] += counts.get(table, 0)
    return {name: count for name, count in totals.items() if count or zeros}


def referenced_rows_error(counts: Mapping[Reference, int], *, nothing_removed: bool) -> RunError:
    lines = [
        f"rows that bulkseed did not load reference loaded rows, {count:,} of {plain_names(str(reference))}: "
        "remove them, or give --cascade to remove them too"
        for reference, count in counts.items()
    ]
    # a removal in batches has committed the earlier batches
    lines += ["nothing was removed"] if nothing_removed else []
    return RunError("\n".join(lines), code="referenced-rows")


def no_lock_error(tables: Iterable[SQL], holders: str, seconds: float) -> RunError:
    return RunError(
        f"no lock on rows of {', '.join(tables)} in {seconds:g} s: held by {holders}; end that transaction, and try "
        "again\nnothing was removed",
        code="no-lock",
    )


def find_affected_tables(known: Iterable[Reference], doomed: Iterable[SQL]) -> set[SQL]:
    """Return the tables whose rows the server itself deletes or changes if it deletes the rows that they reference."""
    affected: set[SQL] = set()
    deleted = set(doomed)
    growing = True
    while growing:
        growing = False
        for reference in known:
            acts = reference.on_delete_cascades or reference.on_delete_sets_null
            if acts and reference.enforced and reference.parent in deleted and reference.child not in affected:
                affected.add(reference.child)
                deleted.add(reference.child)
                growing = True
    return affected


def find_children(known: Iterable[Reference], doomed: Iterable[SQL]) -> list[SQL]:
    """Return the tables whose rows reference rows of ``doomed`` tables, directly or not, and go with them."""
    tables = dict.fromkeys(doomed)
    growing = True
    while growing:
        children = [
            reference.child
            for reference in known
            if reference.parent in tables and reference.child not in tables and not reference.on_delete_sets_null
        ]
        tables |= dict.fromkeys(children)
        growing = bool(children)
    return list(tables)


async def counts_rows(connection: Connection) -> bool:
    """Return whether the server counts the rows that this session deletes."""
    return bool(await connection.fetchval("SELECT current_setting('track_counts')::boolean"))


async def lock_tables(connection: Connection, tables: Sequence[SQL], mode: SQL, listener: ProgressListener) -> None:
    """Lock tables until the transaction ends. Raises RunError, naming who holds them, if they cannot be locked soon.

    Between the tries the writers that queued behind this transaction go on.
    """
    lock = compose("LOCK TABLE {tables} IN {mode} MODE", tables=join(", ", sorted(tables)), mode=mode)
    for tries_left in reversed(range(STRONG_LOCK_TRIES)):
        try:
            async with connection.transaction():
                await connection.execute(
                    compose("SET LOCAL lock_timeout = '{seconds}s'; {lock}", seconds=STRONG_LOCK_SECONDS, lock=lock)
                )
            break
        except asyncpg.LockNotAvailableError as error:
            holders = await describe_holders(connection, tables)
            if not tries_left:
                raise no_lock_error(tables, holders, STRONG_LOCK_SECONDS * STRONG_LOCK_TRIES) from error
            if tries_left == STRONG_LOCK_TRIES - 1:
                listener.note(f"waiting for locks on {', '.join(sorted(tables))}, held by {holders}")
        await anyio.sleep(STRONG_LOCK_SECONDS / 2)
    await connection.execute(compose("SET LOCAL lock_timeout = '{seconds}s'", seconds=LOCK_SECONDS))


async def check_owner(connection: Connection, deferred: Sequence[Deferred]) -> None:
    """Raise TargetError if the user may not rebuild ``deferred``, since it does not own a table."""
    owners = await find_foreign_owners(connection, deferred)
    if owners:
        raise TargetError(
            f"indexes and keys of {plain_names(', '.join(owners))} have to be rebuilt, which only the owner of a table "
            f"may do: run this command as the user {' or '.join(sorted(set(owners.values())))}",
            code="not-owner",
        )


async def check_privileges(connection: Connection, runs: Sequence[Run]) -> list[SQL]:
    """Return the existing tables of ``runs``.

    Raises TargetError if the user may not remove their rows, or cannot: with the statements that change this.
    """
    await check_writable(connection)
    names = [run.names.sql_name(name) for run in runs for name in await find_existing_tables(connection, run)]
    tables = list(dict.fromkeys(names))
    problems = await find_missing_privileges(connection, tables, ("SELECT", "DELETE"))
    problems += await find_row_security(connection, tables)
    raise_problems([*problems, *await find_removal_problems(connection, tables)])
    return tables


def referencing_rows(reference: Reference, deletions: DeletionSet) -> SQL:
    """Return FROM and WHERE clauses for the rows c that stay, and reference a row to delete."""
    return compose(
        "FROM {child} AS c WHERE EXISTS (SELECT FROM {parent} AS p WHERE {joined} AND {parent_goes}) "
        "AND NOT {child_goes}",
        child=reference.child,
        parent=reference.parent,
        joined=reference.join_condition("c", "p"),
        parent_goes=deletions.condition(reference.parent, "p"),
        child_goes=deletions.condition(reference.child, "c"),
    )


async def count_references(
    connection: Connection, known: Sequence[Reference], deletions: DeletionSet
) -> dict[Reference, int]:
    """Return the number of rows that stay and reference rows to delete, by reference; without zeros."""
    counts = {}
    for reference in known:
        if reference.parent in deletions.seeded:
            rows = referencing_rows(reference, deletions)
            count = await connection.fetchval(compose("SELECT count(*) {rows}", rows=rows))
            if count:
                counts[reference] = count
    return counts


async def add_referencing_rows(connection: Connection, known: Sequence[Reference], deletions: DeletionSet) -> None:
    """Add the rows that reference rows to delete to ``deletions``, repeatedly until none is left."""
    growing = True
    while growing:
        growing = False
        for reference in known:
            goes = reference.parent in deletions.seeded or reference.parent in deletions.extra
            if reference.on_delete_sets_null or not goes:
                continue
            if reference.child not in deletions.extra:
                temporary = identifier(f"bulkseed_extra_{len(deletions.extra)}")
                await connection.execute(
                    compose(
                        "CREATE TEMP TABLE {temporary} (relation oid, row tid, PRIMARY KEY (relation, row)) "
                        "ON COMMIT DROP",
                        temporary=temporary,
                    )
                )
                deletions.extra[reference.child] = temporary
            tag = await connection.execute(
                compose(
                    "INSERT INTO {extra} SELECT c.tableoid, c.ctid {rows}",
                    extra=deletions.extra[reference.child],
                    rows=referencing_rows(reference, deletions),
                )
            )
            growing = growing or tag != "INSERT 0 0"


async def delete_and_check(
    connection: Connection,
    deletions: DeletionSet,
    comparison: Comparison,
    known: Sequence[Reference],
    triggers: Sequence[DeleteTrigger],
    watched: Iterable[SQL],
) -> tuple[Counter[SQL], dict[str, int]]:
    """Delete the rows; return the numbers of seeded rows and of others, by table.

    Raises RunError if triggers keep rows, and TransientError if an app's rows came or changed after they were counted.
    """
    touched = list({*watched, *deletions.seeded})
    before = await count_touched(connection, touched) if watched else {}
    deleted = await delete_in_order(connection, deletions, known, triggers)
    # what deferred keys would refuse at the commit is refused here, where the reason can be found
    with translate_violations(triggers):
        await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    seeded = Counter({table: counts[0] for table, counts in deleted.items() if table in deletions.seeded})
    if watched:
        after = await count_touched(connection, touched)
        for table in touched:
            own = deleted.get(table, (0, 0))[1]
            more = after[table][0] - before[table][0] - own
            changed = after[table][1] - before[table][1] if table in watched else 0
            if more > 0 or changed > 0:
                raise meanwhile_error(
                    f"{max(more, changed):,} rows of {table} came to reference rows to remove, after these were counted"
                )
    for table in deletions.seeded:
        if seeded[table] != comparison.to_delete[table]:
            await check_kept(connection, table, deletions, comparison, triggers)
            comparison.missing[table] += max(0, comparison.to_delete[table] - seeded[table])
    for table in deletions.extra:
        await check_others_kept(connection, table, deletions, triggers)
    await check_unenforced(connection, deletions, comparison, known)
    return seeded, {table: counts[1] - counts[0] for table, counts in deleted.items() if counts[1] > counts[0]}


def meanwhile_error(problem: str) -> TransientError:
    return TransientError(f"{problem}: try again\nnothing was removed", code="referenced-rows")


async def count_touched(connection: Connection, tables: Sequence[SQL]) -> dict[SQL, tuple[int, int]]:
    rows = {row["name"]: row for row in await connection.fetch(TOUCHED, tables)}
    return {table: (rows[table]["deleted"] or 0, rows[table]["updated"] or 0) for table in tables}


async def check_kept(
    connection: Connection,
    table: SQL,
    deletions: DeletionSet,
    comparison: Comparison,
    triggers: Sequence[DeleteTrigger],
) -> None:
    """Raise an error if rows to delete are still there; those that an app has deleted meanwhile are not."""
    still = -comparison.kept[table]
    for listing in deletions.seeded[table]:
        still += await connection.fetchval(
            compose(
                "SELECT count(*) FROM {table} AS t WHERE EXISTS (SELECT FROM {rows} WHERE {same_key})",
                table=table,
                rows=listing.rows,
                same_key=listing.same_key("t"),
            )
        )
    if still > 0:
        guilty = [trigger for trigger in triggers if trigger.table == table and trigger.is_before_row]
        if guilty:
            raise rows_kept_error(f"{table} kept {still:,} of {comparison.to_delete[table]:,} rows", guilty)
        raise TransientError(
            f"{still:,} rows of {table} changed while they were removed: try again\nnothing was removed",
            code="rows-changed-meanwhile",
        )


async def check_others_kept(
    connection: Connection, table: SQL, deletions: DeletionSet, triggers: Sequence[DeleteTrigger]
) -> None:
    """Raise RunError if triggers keep rows of others that are to be deleted: a foreign key would not notice this where
    it is ON DELETE CASCADE.
    """
    guilty = [trigger for trigger in triggers if trigger.table == table and trigger.is_before_row]
    if guilty:
        still = await connection.fetchval(
            compose("SELECT count(*) FROM {table} AS t WHERE {goes}", table=table, goes=deletions.condition(table, "t"))
        )
        if still:
            raise rows_kept_error(f"{table} kept {still:,} rows that reference rows to remove", guilty)


def rows_kept_error(problem: str, triggers: Sequence[DeleteTrigger]) -> RunError:
    names = ", ".join(map(str, triggers))
    return RunError(
        f"{problem}: a trigger prevents their deletion ({names}); disable it with {disabling(triggers)}, remove the "
        "rows, and enable it again\nnothing was removed",
        code="rows-kept",
    )


def disabling(triggers: Sequence[DeleteTrigger]) -> SQL:
    """Return the statements that disable triggers."""
    return join(
        "; ",
        (
            compose("ALTER TABLE {table} DISABLE TRIGGER {name}", table=trigger.relation, name=identifier(trigger.name))
            for trigger in triggers
        ),
    )


async def check_unenforced(
    connection: Connection, deletions: DeletionSet, comparison: Comparison, known: Iterable[Reference]
) -> None:
    """Raise TransientError if rows came that reference removed rows without a foreign key in place.

    Such a row may be in a transaction that is not committed yet: this waits for it, and locks the tables.
    """
    checked = [
        (reference, listing)
        for reference in known
        if not reference.enforced
        for listing in deletions.seeded.get(reference.parent, ())
        if listing.key == reference.keys and not comparison.kept[listing.table]
    ]
    children = list(dict.fromkeys(reference.child for reference, _ in checked))
    if not children:
        return
    await connection.execute(
        compose("LOCK TABLE {children} IN SHARE ROW EXCLUSIVE MODE", children=join(", ", sorted(children)))
    )
    for reference, listing in checked:
        count = await connection.fetchval(
            compose(
                "SELECT count(*) FROM {child} AS c JOIN {rows} ON {joined} WHERE NOT {goes}",
                child=reference.child,
                rows=listing.rows,
                joined=reference.join_condition("c", "k"),
                goes=deletions.condition(reference.child, "c"),
            )
        )
        if count:
            raise meanwhile_error(
                f"{count:,} rows of {reference} came to reference rows to remove, after these were counted"
            )


@contextmanager
def translate_violations(triggers: Sequence[DeleteTrigger]) -> Iterator[None]:
    """Raise errors that name the cause for those of foreign keys and triggers at a DELETE."""
    before = [trigger for trigger in triggers if trigger.is_before_row]
    try:
        yield
    except asyncpg.ForeignKeyViolationError as error:
        child = identifier(error.schema_name or "", error.table_name or "")
        guilty = [trigger for trigger in before if trigger.table == child]
        if guilty:
            raise rows_kept_error(f"rows of {child} stay and reference rows to remove", guilty) from error
        raise meanwhile_error(
            f"a row of {child} references rows to remove, and came or changed after these were counted "
            f"({server_message(error)})"
        ) from error
    except asyncpg.TriggeredDataChangeViolationError as error:
        raise RunError(
            f"a trigger changes rows that are being removed ({server_message(error)}): disable "
            f"{', '.join(map(str, before))} with {disabling(before)}, remove the rows, and enable it again\n"
            "nothing was removed",
            code="trigger-changes-rows",
        ) from error


Deleted = dict[SQL, tuple[int, int]]
"""The deleted rows by table: the seeded ones, and all."""


async def delete_in_order(
    connection: Connection, deletions: DeletionSet, known: Sequence[Reference], triggers: Sequence[DeleteTrigger]
) -> Deleted:
    """Delete all rows in one statement, or children before parents where triggers may change the parents' rows."""
    tables = list(dict.fromkeys([*deletions.seeded, *deletions.extra]))
    if any(trigger.is_before_row for trigger in triggers):
        try:
            async with connection.transaction():
                return await delete_children_first(connection, deletions, known, tables)
        except (asyncpg.ForeignKeyViolationError, asyncpg.TriggeredDataChangeViolationError):
            pass  # references in a circle, for example
    with translate_violations(triggers):
        return await delete_at_once(connection, deletions, tables)


async def delete_at_once(connection: Connection, deletions: DeletionSet, tables: Sequence[SQL]) -> Deleted:
    """Delete all rows in one statement: foreign keys are checked at its end, so references may form a circle."""
    if not tables:
        return {}
    deletes, counts = [], []
    for number, table in enumerate(tables):
        deletes.append(
            compose("d{number} AS ({delete})", number=number, delete=delete_statement(deletions, table, EVERY))
        )
        counts.append(
            compose(
                "(SELECT count(*) FILTER (WHERE seeded) FROM d{number}), (SELECT count(*) FROM d{number})",
                number=number,
            )
        )
    row = await connection.fetchrow(
        compose("WITH {deletes} SELECT {counts}", deletes=join(", ", deletes), counts=join(", ", counts))
    )
    return {table: (row[2 * number], row[2 * number + 1]) for number, table in enumerate(tables)}


EVERY: Final = compose("true")


def delete_statement(deletions: DeletionSet, table: SQL, condition: SQL) -> SQL:
    """Return the DELETE of the rows of a table that meet the condition; it returns whether a row is a seeded one."""
    return compose(
        "DELETE FROM {table} AS t WHERE {goes} AND {condition} RETURNING {is_seeded} AS seeded",
        table=table,
        goes=deletions.condition(table, "t"),
        condition=condition,
        # evaluated again for each deleted row only if others' rows are deleted too
        is_seeded=deletions.is_seeded(table, "t") if table in deletions.extra else EVERY,
    )


async def delete_children_first(
    connection: Connection, deletions: DeletionSet, known: Sequence[Reference], tables: Sequence[SQL]
) -> Deleted:
    """Delete table by table, and the rows of a table that references itself generation by generation."""
    deleted: Deleted = {}
    remaining = list(tables)
    while remaining:
        parents = {
            reference.parent
            for reference in known
            if reference.child in remaining and reference.child != reference.parent
        }
        table = next((table for table in remaining if table not in parents), remaining[0])
        remaining.remove(table)
        own = [reference for reference in known if reference.child == reference.parent == table]
        childless = join(
            " AND ",
            (
                EVERY,
                *(
                    compose(
                        "NOT EXISTS (SELECT FROM {table} AS c WHERE {joined})",
                        table=table,
                        joined=reference.join_condition("c", "t"),
                    )
                    for reference in own
                ),
            ),
        )
        totals = (0, 0)
        for condition in (childless, EVERY) if own else (EVERY,):
            while True:
                row = await connection.fetchrow(
                    compose(
                        "WITH d AS ({delete}) SELECT count(*) FILTER (WHERE seeded), count(*) FROM d",
                        delete=delete_statement(deletions, table, condition),
                    )
                )
                totals = (totals[0] + row[0], totals[1] + row[1])
                if not row[1] or condition is EVERY:
                    break
        deleted[table] = totals
    return deleted
