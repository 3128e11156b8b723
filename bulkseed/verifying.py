"""Verifying: each rule of rules.md, proved or refuted on the rows that a run left in the target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from typing import Final, TypeVar

from anyio import to_thread

from bulkseed import ledger
from bulkseed.address import Address
from bulkseed.checks import ChanceCheck, RuleCheck, VerifyReport
from bulkseed.connection import Connection, connected, looked_at
from bulkseed.conversation_rules import distinct_contents, message_passes, reaction_passes, reply_passes
from bulkseed.corpus import Corpus
from bulkseed.errors import InputError
from bulkseed.faker_corpus import FAKER_VERSION, corpus_of
from bulkseed.ledger import Run
from bulkseed.own_rules import own_rule
from bulkseed.readings import read_companies, read_names, read_texts
from bulkseed.rule_sql import BROKEN, Clause, Pass, Scope
from bulkseed.shape import Shape
from bulkseed.shape_rules import judge_ranks, judge_users, shape_passes
from bulkseed.unjudged import scope_of
from bulkseed.watch import Silent, Watcher
from bulkseed.workspace_rules import channel_passes, membership_passes, user_passes

__all__ = ["ChanceCheck", "RuleCheck", "VerifyReport", "verify"]

SETTINGS: Final = """
SET LOCAL work_mem = '64MB';
SET LOCAL max_parallel_workers_per_gather = 2;
SET LOCAL jit = off;
"""
"""At 100x, 16 MB and 256 MB took as long; compiling the queries' few expressions takes longer than it saves."""

Check = TypeVar("Check", RuleCheck, ChanceCheck)

SECTIONS: Final = "NUCMGRo"
"""The letters of the rules in the order of rules.md; N is for the numbers of rows, o for a scenario's own."""

PASSES: Final[dict[str, Callable[[Scope], Iterator[Pass]]]] = {
    "users": user_passes,
    "channels": channel_passes,
    "members": membership_passes,
    "messages": message_passes,
    "replies": reply_passes,
    "reactions": reaction_passes,
    "shape": shape_passes,
}


async def verify(
    address: Address, run: int | None = None, *, watcher: Watcher | None = None, ledger_schema: str = ledger.SCHEMA
) -> list[VerifyReport]:
    """Judge the rows of ``run``, or of every run in the ledger, by every rule of rules.md.

    It reads in one transaction, as of one moment, and writes nothing. Raises InputError where there is no such
    run, one is not whole, or (TargetError) a table or column of one is gone; RunError where the server refuses a query.
    """
    watcher = watcher or Silent()
    watcher.phase("check")
    async with connected(address) as connection:
        with looked_at(connection, "verifying"):
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(SETTINGS)
                book = ledger.Ledger(ledger_schema)
                runs = await ledger.chosen_runs(connection, book, None if run is None else [run])
                cut_off = [each.number for each in runs if not each.whole]
                if cut_off:
                    raise InputError(
                        f"run {cut_off[0]} is being loaded, or was interrupted: wait for it, finish it with "
                        f"{book.command(f'resume {cut_off[0]}')}, or undo it with "
                        f"{book.command(f'cleanup {cut_off[0]}')}"
                    )
                return [await verified(connection, each, watcher) for each in runs]


async def verified(connection: Connection, run: Run, watcher: Watcher) -> VerifyReport:
    corpus = await to_thread.run_sync(corpus_of, run.plan.locale)
    scope = await scope_of(connection, run, corpus)
    if run.made_by.get("faker") != FAKER_VERSION:
        watcher.note(
            f"run {run.number} was made with Faker {run.made_by.get('faker')}, this is {FAKER_VERSION}: "
            "where their names and words differ, rules U2, U5, C2 and G3 seem broken"
        )
    romanised_by, romanises = run.made_by.get("anyascii"), version("anyascii")
    if romanised_by not in {None, romanises}:  # a run of an older bulkseed does not say
        watcher.note(
            f"run {run.number} was made with anyascii {romanised_by}, this is {romanises}: "
            "where they write names in other ASCII letters, rule U2 seems broken"
        )
    for table, column in sorted(scope.lacking):
        watcher.note(f"what the rules say of {table}.{column} is not judged: the app does not keep it as it was made")
    rules: list[RuleCheck] = []
    chances: list[ChanceCheck] = []
    watcher.phase("rows")
    for table in scope.model.names:
        rules.append(await counted(connection, scope, table))
    for each in scope.model.tables:
        if each.serial is not None:
            more, _ = await repeated_ids(scope, each.name).judge(connection)
            rules += more
    for phase, passes in PASSES.items():
        watcher.phase(phase)
        for one in passes(scope):
            if judged := scope.judged(one):
                more, draws = await judged.judge(connection)
                rules += more
                chances += draws
    more, draws = await of_shape(connection, scope)
    rules += more
    chances += draws
    more, draws = await of_locale(connection, scope, corpus, watcher)
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
    connection: Connection, scope: Scope, corpus: Corpus, watcher: Watcher
) -> tuple[list[RuleCheck], list[ChanceCheck]]:
    """The rules that need a locale's names and words."""
    rules: list[RuleCheck] = []
    chances: list[ChanceCheck] = []
    watcher.phase("names")
    if scope.keeps("users", "id", "name", "email"):
        rules += await read_names(connection, scope, corpus)
    if scope.keeps("channels", "id", "name", "is_dm"):
        rules += await read_companies(connection, scope, corpus)
    if scope.keeps("messages", "id", "content", "parent_id"):
        watcher.phase("texts")
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


def repeated_ids(scope: Scope, table: str) -> Pass:
    return Pass(
        rows=f"(SELECT t.id FROM {scope.table(table)} AS t WHERE {scope.ours(table, 't')} "
        "GROUP BY t.id HAVING count(*) > 1) AS g",
        key="g.id",
        example=f"{table}.id {{}}",
        clauses=(Clause("N", f"no id is in {table} twice", BROKEN),),
    )


def in_order(checks: Iterable[Check]) -> tuple[Check, ...]:
    return tuple(sorted(checks, key=lambda check: (SECTIONS.index(check.rule[0]), check.rule)))
