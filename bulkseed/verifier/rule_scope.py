"""What of the rules cannot be judged in an app's own tables: columns that it lacks, or that hold less than was made."""

from __future__ import annotations

from typing import Final

from bulkseed.errors import TargetError
from bulkseed.ledger import Run
from bulkseed.plan.tables import CATALOGUE, TABLES
from bulkseed.postgres.connection import Connection
from bulkseed.target.columns import TYPES_SQL, fit_of
from bulkseed.text.corpus import Corpus
from bulkseed.text.prose import longest_text
from bulkseed.verifier.rule_sql import Scope

__all__ = ["scope_of"]

AS_TEXT: Final = {
    "json": "({} #>> '{{}}')",
    "jsonb": "({} #>> '{{}}')",
    "citext": "{}::text",
    "enum": "{}::text",
    "name": "{}::text",
}
"""How the text is read back that went into a column of another type."""


async def scope_of(connection: Connection, run: Run, corpus: Corpus) -> Scope:
    """The scope of a run's rules: without the columns that the app lacks, or in which it keeps less than was made.

    Raises TargetError where a column that a load has filled is gone.
    """
    missing: list[str] = []
    lacking: set[tuple[str, str]] = set()
    texts: dict[tuple[str, str], str] = {}
    model = run.plan.model
    for table in model.by_name.values():
        name, actual = model.name(table.name), run.names.name(table.name)
        exists = await connection.fetchval("SELECT to_regclass($1::text) IS NOT NULL", actual)
        rows = await connection.fetch(TYPES_SQL, actual) if exists else []
        there = {row["name"]: fit_of("", row) for row in rows}
        wanted = {each.name: model.column(table.name, each.name) for each in table.columns}
        gone = [f"{name}.{each}" for each in wanted.values() if each not in there]
        missing += gone if there else [name]
        for column in table.columns:
            fit = there.get(wanted[column.name])
            if fit is None:
                continue
            longest = longest_text(corpus.lorem) if column.longest is None else column.longest
            if fit.type == "date" or (column.kind == "text" and fit.length is not None and fit.length < longest):
                lacking.add((table.name, column.name))
            if column.kind == "text" and fit.kind in AS_TEXT:
                texts[table.name, column.name] = AS_TEXT[fit.kind]
    if missing:
        raise TargetError(
            f"run {run.number} cannot be verified, as schema {run.schema!r} no longer has {', '.join(missing)}: "
            "put back what was dropped or renamed"
        )
    every = {(table.name, column.name) for table in (*TABLES, CATALOGUE) for column in table.columns}
    kept = {(table.name, column.name) for table in model.by_name.values() for column in table.columns}
    absent = {each for each in every - kept if each[0] in model.by_name}
    return Scope(run, frozenset(lacking | absent), texts)
