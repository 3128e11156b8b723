"""What of the rules cannot be judged in an app's own tables: columns that it lacks, or that hold less than was made."""

from __future__ import annotations

from typing import Final

from bulkseed.connection import Connection
from bulkseed.corpus import Corpus
from bulkseed.errors import TargetError
from bulkseed.ledger import Run
from bulkseed.prose import longest_text
from bulkseed.tables import CATALOGUE, TABLES

__all__ = ["unjudged"]

COLUMNS: Final = """
WITH RECURSIVE base AS (
    SELECT attname, atttypid AS type, atttypmod AS modifier FROM pg_attribute
    WHERE attrelid = to_regclass($1::text) AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attname, t.typbasetype, t.typtypmod FROM base JOIN pg_type AS t ON t.oid = type WHERE t.typtype = 'd'
)
SELECT attname, bool_or(type = 'date'::regtype) AS days,
       min(modifier - 4) FILTER (WHERE type IN ('varchar'::regtype, 'bpchar'::regtype) AND modifier >= 4) AS length
FROM base GROUP BY attname
"""


async def unjudged(connection: Connection, run: Run, corpus: Corpus) -> frozenset[tuple[str, str]]:
    """The columns of the built-in tables that the app lacks, or in which it keeps less than was made.

    Raises TargetError where a column that a load has filled is gone.
    """
    missing: list[str] = []
    lacking: set[tuple[str, str]] = set()
    model = run.plan.model
    for table in model.by_name.values():
        rows = await connection.fetch(COLUMNS, run.names.name(table.name))
        there = {row["attname"]: row for row in rows}
        name = model.name(table.name)
        wanted = {each.name: model.column(table.name, each.name) for each in table.columns}
        gone = [f"{name}.{actual}" for actual in wanted.values() if actual not in there]
        missing += gone if there else [name]
        for column in table.columns:
            row = there.get(wanted[column.name])
            longest = longest_text(corpus.lorem) if column.longest is None else column.longest
            short = row is not None and row["length"] is not None and row["length"] < longest
            if row is not None and (row["days"] or (short and column.kind == "text")):
                lacking.add((table.name, column.name))
    if missing:
        raise TargetError(
            f"run {run.number} cannot be verified, as schema {run.schema!r} no longer has {', '.join(missing)}: "
            "put back what was dropped or renamed"
        )
    every = {(table.name, column.name) for table in (*TABLES, CATALOGUE) for column in table.columns}
    kept = {(table.name, column.name) for table in model.by_name.values() for column in table.columns}
    return frozenset(lacking | {each for each in every - kept if each[0] in model.by_name})
