"""Comparing the rows of runs in the database with those that the ledger records, and recognising those that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from bulkseed.cleaner.find_rows import (
    DeletionSet,
    Listing,
    find_missing_code,
    generate_rows,
    is_of_this_generator,
    read_columns,
)
from bulkseed.copy.writer import copy_batches
from bulkseed.errors import RunError
from bulkseed.ledger import Run
from bulkseed.plan.tables import Column
from bulkseed.postgres.connection import Connection
from bulkseed.sql import SQL, compose, identifier, join
from bulkseed.target.copy_plan import plan_copy, with_keys
from bulkseed.verifier.rule_sql import Scope

__all__ = ["Changed", "Comparison", "compare_rows"]

Changed = Literal["refuse", "remove", "keep"]
"""What is done with rows that have the ids of a run, but are not recognised by their other columns as its rows."""

EXAMPLES: Final = 3
"""The number of rows whose keys a message names."""

IDENTIFYING: Final = {"text", "timestamp"}
"""The kinds of columns of which at least one must be equal: flags and ids are often equal by chance."""


@dataclass(slots=True)
class Comparison:
    """The rows of runs by table: those ``to_delete``, ``kept`` rows with ids of a run that stay, and what differs.

    ``changed`` are rows to delete whose marks are not those that they were loaded with; ``missing`` those that the
    ledger records and that are gone. ``notes`` are sentences for the user on both.
    """

    to_delete: Counter[SQL] = field(default_factory=Counter)
    kept: Counter[SQL] = field(default_factory=Counter)
    changed: Counter[SQL] = field(default_factory=Counter)
    missing: Counter[SQL] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


async def compare_rows(
    connection: Connection, runs: Sequence[Run], deletions: DeletionSet, *, cascade: bool, changed: Changed
) -> Comparison:
    """Compare the rows of ``deletions`` with the database and the ledger.

    The marks of changed rows to delete are put into the listings, and keys that are not to be deleted are taken out.
    Raises RunError for changed rows that are not recognised, unless ``changed`` says what to do with them.
    """
    comparison = Comparison()
    refused: list[str] = []
    # rows without ids after those whose ids they hold
    for listing in sorted(deletions.listings, key=lambda listing: not listing.marks):
        await compare_listing(connection, listing, deletions, comparison, refused, changed)
    if refused:
        numbers = " or ".join(str(run.number) for run in runs)
        raise RunError(
            "\n".join(
                (
                    *refused,
                    f"if they are rows of run {numbers} all the same, remove them with --changed remove; if an app "
                    "made them, with ids that it used again, leave them with --changed keep",
                    "nothing was removed",
                )
            ),
            code="changed-rows",
        )
    for listing in deletions.listings:
        await count_missing(connection, listing, runs, deletions, comparison, cascade=cascade)
    return comparison


async def compare_listing(
    connection: Connection,
    listing: Listing,
    deletions: DeletionSet,
    comparison: Comparison,
    refused: list[str],
    changed: Changed,
) -> None:
    if not listing.marks:
        if comparison.kept:
            await unlist_rows_of_kept(connection, listing, deletions)
        comparison.to_delete[listing.table] += await connection.fetchval(
            compose(
                "SELECT count(*) FROM {table} AS t WHERE EXISTS (SELECT FROM {rows} WHERE {same})",
                table=listing.table,
                rows=listing.rows,
                same=listing.same("t"),
            )
        )
        return
    existing, same = await connection.fetchrow(
        compose(
            "SELECT count(*), count(*) FILTER (WHERE {same_marks}) FROM {table} AS t JOIN {rows} ON {same_key}",
            same_marks=listing.same_marks("t"),
            table=listing.table,
            rows=listing.rows,
            same_key=listing.same_key("t"),
        )
    )
    comparison.to_delete[listing.table] += same
    if existing == same:
        return
    recognised = 0
    if listing.copied is not None:
        recognised, differences = await recognise(connection, listing)
        if recognised:
            comparison.changed[listing.table] += recognised
            comparison.notes.append(
                f"{recognised:,} rows of {listing.table} were changed since they were loaded ({differences}); their "
                "other columns show that they are rows of the run"
            )
    others = existing - same - recognised
    if others:
        examples = await connection.fetch(
            compose(
                "SELECT {key} FROM {table} AS t JOIN {rows} ON {same_key} AND NOT ({same_marks}) ORDER BY {key} LIMIT "
                "{count}",
                key=join(", ", (identifier("t", column) for column in listing.key)),
                table=listing.table,
                rows=listing.rows,
                same_key=listing.same_key("t"),
                same_marks=listing.same_marks("t"),
                count=EXAMPLES,
            )
        )
        sentence = (
            f"{others:,} rows of {listing.table} have ids of the run, but another {' and '.join(listing.marks)} and "
            f"mostly other values: {listing.describe(examples)}"
        )
        if changed == "remove" and listing.copied is not None:
            recognised += await adopt(connection, listing, compose("true"))
            comparison.changed[listing.table] += others
            comparison.notes.append(f"{sentence}; they are removed")
        elif changed == "keep":
            comparison.kept[listing.table] += others
            comparison.notes.append(f"{sentence}; they stay")
        else:
            refused.append(sentence)
    comparison.to_delete[listing.table] += recognised


async def recognise(connection: Connection, listing: Listing) -> tuple[int, str]:
    """List the changed rows whose other columns are those of the run with their present marks.

    A row is recognised if most of its columns, at least one text or time among them, have the values that the run gave
    them. Return the number of these rows, and the columns that differ as text.
    """
    table = listing.runs[0].plan.model.by_name[listing.name]
    model = listing.runs[0].plan.model
    existing = await read_columns(connection, listing.table)
    columns = {
        column.name: model.column(listing.name, column.name)
        for column in table.columns
        if model.column(listing.name, column.name) in existing.names
    }
    assert listing.copied is not None
    temporary = f"{listing.copied.table}_marks"
    await connection.execute(
        compose(
            "CREATE TEMP TABLE {temporary} ON COMMIT DROP AS SELECT {columns} FROM {table} WITH NO DATA",
            temporary=identifier(temporary),
            columns=join(", ", map(identifier, columns.values())),
            table=listing.table,
        )
    )
    into = await plan_copy(connection, temporary, columns)
    for run in listing.runs:
        if not is_of_this_generator(run):
            continue
        keyed = with_keys(into, table, Scope(run).uuids)
        for name, batches in generate_rows(run):
            if name == listing.name:
                await copy_batches(connection, keyed, batches, lambda _: None)
    await connection.execute(compose("ANALYZE {temporary}", temporary=identifier(temporary)))
    compared = [
        column for column in table.columns if columns.get(column.name) and columns[column.name] not in listing.key
    ]
    alike = compose(
        "EXISTS (SELECT FROM {temporary} AS m WHERE {same_key} AND {is_alike})",
        temporary=identifier(temporary),
        same_key=listing.equal("t", listing.key, "m"),
        is_alike=is_alike(listing, compared, columns),
    )
    differing = await connection.fetchrow(
        compose(
            "SELECT {differences} FROM {table} AS t JOIN {rows} ON {same_key} AND NOT ({same_marks}) "
            "JOIN {temporary} AS m ON {same_as_generated} AND {is_alike}",
            differences=join(
                ", ",
                (
                    compose(
                        "count(*) FILTER (WHERE {given} IS DISTINCT FROM {value})",
                        given=listing.comparable("m", columns[column.name]),
                        value=listing.comparable("t", columns[column.name]),
                    )
                    for column in compared
                ),
            ),
            table=listing.table,
            rows=listing.rows,
            same_key=listing.same_key("t"),
            same_marks=listing.same_marks("t"),
            temporary=identifier(temporary),
            same_as_generated=listing.equal("t", listing.key, "m"),
            is_alike=is_alike(listing, compared, columns),
        )
    )
    recognised = await adopt(connection, listing, alike)
    differences = ", ".join(
        f"{columns[column.name]} of {count:,}" for column, count in zip(compared, differing, strict=True) if count
    )
    return recognised, differences


def is_alike(listing: Listing, compared: Sequence[Column], columns: dict[str, str]) -> SQL:
    """Return the SQL condition that most columns of the row t are those of the generated row m."""

    def count_equal(chosen: Sequence[Column]) -> SQL:
        return join(
            " + ",
            (
                compose(
                    "coalesce(({given} = {value})::int, 0)",
                    given=listing.comparable("m", columns[column.name]),
                    value=listing.comparable("t", columns[column.name]),
                )
                for column in chosen
            ),
        )

    identifying = [column for column in compared if column.kind in IDENTIFYING]
    if not identifying:
        return compose("false")
    return compose(
        "({identifying}) > 0 AND 2 * ({equal}) > ({given})",
        identifying=count_equal(identifying),
        equal=count_equal(compared),
        given=join(
            " + ",
            (compose("({given} IS NOT NULL)::int", given=identifier("m", columns[column.name])) for column in compared),
        ),
    )


async def adopt(connection: Connection, listing: Listing, condition: SQL) -> int:
    """List changed rows t that meet the condition with their present marks; return their number."""
    tag = await connection.execute(
        compose(
            "UPDATE {rows} SET {marks} FROM {table} AS t WHERE {same_key} AND NOT ({same_marks}) AND {condition}",
            rows=listing.rows,
            marks=join(
                ", ",
                (
                    compose("{column} = {value}", column=identifier(column), value=identifier("t", column))
                    for column in listing.marks
                ),
            ),
            table=listing.table,
            same_key=listing.same_key("t"),
            same_marks=listing.same_marks("t"),
            condition=condition,
        )
    )
    return int(tag.split()[-1])


async def unlist_rows_of_kept(connection: Connection, listing: Listing, deletions: DeletionSet) -> None:
    """Take the keys that hold ids of kept rows out of a listing of rows without ids: these are an app's too."""
    if listing.copied is None:
        return
    model = listing.runs[0].plan.model
    for column, parent in model.by_name[listing.name].references:
        name = model.column(listing.name, column)
        for parents in deletions.listings:
            if parents.name != parent or parents.runs != listing.runs or name not in listing.key:
                continue
            await connection.execute(
                compose(
                    "DELETE FROM {keys} AS r WHERE {column} IN (SELECT {id} FROM {table} AS t JOIN {rows} "
                    "ON {same_key} AND NOT ({same_marks}))",
                    keys=identifier(listing.copied.table),
                    column=identifier("r", name),
                    id=identifier("t", parents.key[0]),
                    table=parents.table,
                    rows=parents.rows,
                    same_key=parents.same_key("t"),
                    same_marks=parents.same_marks("t"),
                )
            )


async def count_missing(
    connection: Connection,
    listing: Listing,
    runs: Sequence[Run],
    deletions: DeletionSet,
    comparison: Comparison,
    *,
    cascade: bool,
) -> None:
    """Count the rows that the ledger records and that are not there, once for each table."""
    if listing.copied is None or deletions.seeded[listing.table][0] is not listing:
        return
    recorded = recorded_rows(listing.table, runs)
    if recorded is None or (cascade and any(not is_of_this_generator(run) for run in runs)):
        return
    missing = recorded - comparison.to_delete[listing.table] - comparison.kept[listing.table]
    if missing <= 0:
        return
    comparison.missing[listing.table] = missing
    key = join(", ", (listing.comparable("k", column) for column in listing.key))
    examples: list[Any] = await connection.fetch(
        compose(
            "SELECT {key} FROM {rows} WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE {same_key}) "
            "ORDER BY {key} LIMIT {count}",
            key=key,
            rows=listing.rows,
            table=listing.table,
            same_key=listing.same_key("t"),
            count=EXAMPLES,
        )
    )
    named = f": {listing.describe(examples)}" if examples else ""
    comparison.notes.append(
        f"{missing:,} of the {recorded:,} rows that were loaded into {listing.table} are gone, or their keys were "
        f"changed{named}"
    )


def recorded_rows(table: SQL, runs: Sequence[Run]) -> int | None:
    """Return the number of rows of a table that the ledger records for runs; None if it cannot be compared."""
    recorded = 0
    for run in runs:
        for name in run.plan.model.names:
            if run.names.sql_name(name) == table:
                if name in find_missing_code(run):
                    return None
                recorded += run.rows[name]
    return recorded
