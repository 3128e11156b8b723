"""Counting the rows of a run that are in the database, against the number in the ledger."""

from __future__ import annotations

from typing import Final

from bulkseed.cleaner.find_rows import find_existing_tables
from bulkseed.ledger import Run
from bulkseed.postgres.connection import Connection
from bulkseed.sql import SQL, compose
from bulkseed.verifier.rule_sql import Scope

__all__ = ["describe_missing_rows", "find_tables_with_rows"]

EXAMPLES: Final = 3


async def describe_missing_rows(connection: Connection, run: Run) -> list[str]:
    """Return a sentence for each table that has fewer rows of a complete run than the ledger records.

    Rows count by their ids, or the ids that they hold. Raises the errors of asyncpg.
    """
    scope, sentences = Scope(run), []
    for name in await find_existing_tables(connection, run):
        table, recorded = run.names.sql_name(name), run.rows[name]
        found = await connection.fetchval(
            compose("SELECT count(*) FROM {table} AS t WHERE {ours}", table=table, ours=scope.ours_there(name, "t"))
        )
        if found >= recorded:
            continue
        examples = ""
        if run.plan.model.by_name[name].serial is not None and name not in scope.uuids:
            first, last = run.ids(name)
            ids = await connection.fetch(
                compose(
                    "SELECT number FROM generate_series({first}::bigint, {last}) AS wanted (number) "
                    "WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE {own} = wanted.number) LIMIT {count}",
                    first=first,
                    last=last,
                    table=table,
                    own=scope.column(name, "id", "t"),
                    count=EXAMPLES,
                )
            )
            examples = f": id {', '.join(str(row[0]) for row in ids)}"
        sentences.append(
            f"run {run.number}: {recorded - found:,} of the {recorded:,} rows that were loaded into {table} are gone"
            + examples
        )
    return sentences


async def find_tables_with_rows(connection: Connection, run: Run) -> list[SQL]:
    """Return the tables that have rows with ids of a run, or that hold its ids. Raises the errors of asyncpg."""
    scope, found = Scope(run), []
    for name in await find_existing_tables(connection, run):
        table = run.names.sql_name(name)
        has_rows = compose(
            "SELECT EXISTS (SELECT FROM {table} AS t WHERE {ours})", table=table, ours=scope.ours_there(name, "t")
        )
        if await connection.fetchval(has_rows):
            found.append(table)
    return found
