"""Verifying runs: each rule that applies, judged by SQL over the rows as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from typing import Final, TypeVar

import asyncpg
from anyio import to_thread

from bulkseed import ledger
from bulkseed.errors import InputError, RunError, TargetError
from bulkseed.ledger import Run
from bulkseed.listeners import NullListener, ProgressListener
from bulkseed.plan.scenario import Rule, Shape
from bulkseed.plan.tables import CATALOGUE, TABLES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, connected, preflight_errors
from bulkseed.sql import identifier
from bulkseed.target.target import TYPES_SQL, column_mapping_of
from bulkseed.text.faker_source import FAKER_VERSION, corpus_of
from bulkseed.text.names import Corpus
from bulkseed.text.prose import longest_text
from bulkseed.verifier.checks import ChanceCheck, RuleCheck, VerifyReport
from bulkseed.verifier.conversation_rules import distinct_contents, message_passes, reaction_passes, reply_passes
from bulkseed.verifier.rule_sql import BROKEN, Clause, RuleQuery, Scope
from bulkseed.verifier.shape_rules import judge_ranks, judge_users, shape_passes
from bulkseed.verifier.text_checks import read_companies, read_names, read_texts
from bulkseed.verifier.workspace_rules import channel_passes, membership_passes, user_passes

__all__ = ["ChanceCheck", "RuleCheck", "VerifyReport", "own_rule", "scope_of", "verify"]

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
        there = {row["name"]: column_mapping_of("", row) for row in rows}
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


SET: Final = "SELECT set_config('search_path', $1, true)"


async def own_rule(connection: Connection, run: Run, rule: Rule) -> RuleCheck:
    """A rule of the scenario's own: an SQL query that gives the number of rows that break it.

    Raises RunError where it gives anything else.
    """
    path = await connection.fetchval("SHOW search_path")
    await connection.execute(SET, ", ".join(filter(None, [identifier(run.schema), path])))
    try:
        async with connection.transaction():
            found = await connection.fetch(rule.sql)
    except asyncpg.PostgresError as error:
        raise RunError(f"the rule {rule.name!r} of the scenario cannot be judged ({error}): correct its SQL") from error
    finally:
        await connection.execute(SET, path)
    if len(found) != 1 or len(found[0]) != 1 or not isinstance(found[0][0], int):
        raise RunError(
            f"the rule {rule.name!r} of the scenario gives no number: "
            "let its SQL be such as SELECT count(*) FROM … WHERE …"
        )
    example = f"{found[0][0]:,} rows" if found[0][0] else None
    return RuleCheck("own", rule.name, found[0][0], example)


SETTINGS: Final = """
SET LOCAL work_mem = '64MB';
SET LOCAL max_parallel_workers_per_gather = 2;
SET LOCAL jit = off;
"""
"""At 100x, 16 MB and 256 MB took as long; compiling the queries' few expressions takes longer than it saves."""

Check = TypeVar("Check", RuleCheck, ChanceCheck)

SECTIONS: Final = "NUCMGRo"
"""The letters of the rules in the order of rules.md; N is for the numbers of rows, o for a scenario's own."""

PASSES: Final[dict[str, Callable[[Scope], Iterator[RuleQuery]]]] = {
    "users": user_passes,
    "channels": channel_passes,
    "members": membership_passes,
    "messages": message_passes,
    "replies": reply_passes,
    "reactions": reaction_passes,
    "shape": shape_passes,
}


async def verify(
    address: Address,
    run: int | None = None,
    *,
    listener: ProgressListener | None = None,
    ledger_schema: str = ledger.SCHEMA,
) -> list[VerifyReport]:
    """Judge the rows of ``run``, or of every run in the ledger, by every rule of rules.md.

    It reads in one transaction, as of one moment, and writes nothing. Raises InputError where there is no such
    run, one is not whole, or (TargetError) a table or column of one is gone; RunError where the server refuses a query.
    """
    listener = listener or NullListener()
    listener.phase("check")
    async with connected(address) as connection:
        with preflight_errors(connection, "verifying"):
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(SETTINGS)
                book = ledger.Ledger(ledger_schema)
                runs = await ledger.chosen_runs(connection, book, None if run is None else [run])
                cut_off = [each.number for each in runs if not each.is_complete]
                if cut_off:
                    raise InputError(
                        f"run {cut_off[0]} is being loaded, or was interrupted: wait for it, finish it with "
                        f"{book.command(f'resume {cut_off[0]}')}, or undo it with "
                        f"{book.command(f'cleanup {cut_off[0]}')}"
                    )
                return [await verified(connection, each, listener) for each in runs]


async def verified(connection: Connection, run: Run, listener: ProgressListener) -> VerifyReport:
    corpus = await to_thread.run_sync(corpus_of, run.plan.locale)
    scope = await scope_of(connection, run, corpus)
    if run.made_by.get("faker") != FAKER_VERSION:
        listener.note(
            f"run {run.number} was made with Faker {run.made_by.get('faker')}, this is {FAKER_VERSION}: "
            "where their names and words differ, rules U2, U5, C2 and G3 seem broken"
        )
    romanised_by, romanises = run.made_by.get("anyascii"), version("anyascii")
    if romanised_by not in {None, romanises}:  # a run of an older bulkseed does not say
        listener.note(
            f"run {run.number} was made with anyascii {romanised_by}, this is {romanises}: "
            "where they write names in other ASCII letters, rule U2 seems broken"
        )
    for table, column in sorted(scope.lacking):
        listener.note(f"what the rules say of {table}.{column} is not judged: the app does not keep it as it was made")
    rules: list[RuleCheck] = []
    chances: list[ChanceCheck] = []
    listener.phase("rows")
    for table in scope.model.names:
        rules.append(await counted(connection, scope, table))
    for each in scope.model.tables:
        if each.serial is not None:
            more, _ = await repeated_ids(scope, each.name).judge(connection)
            rules += more
    for phase, passes in PASSES.items():
        listener.phase(phase)
        for one in passes(scope):
            if judged := scope.judged(one):
                more, draws = await judged.judge(connection)
                rules += more
                chances += draws
    more, draws = await of_shape(connection, scope)
    rules += more
    chances += draws
    more, draws = await of_locale(connection, scope, corpus, listener)
    rules += [*more, *[await own_rule(connection, run, rule) for rule in run.plan.scenario.rules]]
    return VerifyReport(run.number, in_order(map(scope.located, rules)), in_order([*chances, *draws]))


async def of_shape(connection: Connection, scope: Scope) -> tuple[list[RuleCheck], list[ChanceCheck]]:
    """What a shape says of who writes how much, and where."""
    if scope.shape == Shape() or not scope.keeps("messages", "id", "created_at", "user_id", "channel_id", "parent_id"):
        return [], []
    rules, chances, scatter = await judge_ranks(connection, scope)
    more, draws = await judge_users(connection, scope, scatter)
    return [*rules, *more], [*chances, *draws]


async def of_locale(
    connection: Connection, scope: Scope, corpus: Corpus, listener: ProgressListener
) -> tuple[list[RuleCheck], list[ChanceCheck]]:
    """The rules that need a locale's names and words."""
    rules: list[RuleCheck] = []
    chances: list[ChanceCheck] = []
    listener.phase("names")
    if scope.keeps("users", "id", "name", "email"):
        rules += await read_names(connection, scope, corpus)
    if scope.keeps("channels", "id", "name", "is_dm"):
        rules += await read_companies(connection, scope, corpus)
    if scope.keeps("messages", "id", "content", "parent_id"):
        listener.phase("texts")
        for more, draws in (
            await read_texts(connection, scope, corpus),
            await distinct_contents(scope, corpus.lorem).judge(connection),
        ):
            rules += more
            chances += draws
    return rules, chances


async def counted(connection: Connection, scope: Scope, table: str) -> RuleCheck:
    recorded = scope.run.rows[table]
    present = await connection.fetchval(
        f"SELECT count(*) FROM {scope.table(table)} AS t WHERE {scope.ours(table, 't')}"
    )
    off = abs(present - recorded)
    example = f"{present:,} rows, where {recorded:,} were loaded" if off else None
    return RuleCheck("N", f"there are as many rows of {table} as were loaded", off, example)


def repeated_ids(scope: Scope, table: str) -> RuleQuery:
    return RuleQuery(
        rows=f"(SELECT t.id FROM {scope.table(table)} AS t WHERE {scope.ours(table, 't')} "
        "GROUP BY t.id HAVING count(*) > 1) AS g",
        key="g.id",
        example=f"{table}.id {{}}",
        clauses=(Clause("N", f"no id is in {table} twice", BROKEN),),
    )


def in_order(checks: Iterable[Check]) -> tuple[Check, ...]:
    return tuple(sorted(checks, key=lambda check: (SECTIONS.index(check.rule[0]), check.rule)))
