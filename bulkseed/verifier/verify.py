"""Verification of runs: every rule that applies, proven by SQL over the existing rows, and by reading texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from itertools import chain
from typing import Any, Final, TypeVar

import asyncpg
from anyio import to_thread

from bulkseed.errors import InputError, RunError, TargetError, common_code
from bulkseed.ledger import SCHEMA, Ledger, Run, find_runs
from bulkseed.listeners import NullListener, Phase, ProgressListener
from bulkseed.plan.scenario import Shape
from bulkseed.plan.tables import CATALOGUE, TABLES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection, preflight_errors
from bulkseed.sql import SQL, compose
from bulkseed.target.ids import check_readable
from bulkseed.target.scenario_rules import NOT_A_NUMBER, SET_SEARCH_PATH, find_tables_of, wrong_rule
from bulkseed.target.target import Problem, column_mapping_of, read_types
from bulkseed.text.faker_source import FAKER_VERSION, make_corpus
from bulkseed.text.names import SLUG_CHARACTERS, Corpus, WordList
from bulkseed.text.prose import MOST_SENTENCES, SENTENCES_IN_PARAGRAPH, WORDS_IN_SENTENCE, longest_text
from bulkseed.verifier.conversation_rules import distinct_contents, message_queries, reaction_queries, reply_queries
from bulkseed.verifier.order_rules import joining_queries, order_queries, pair_queries
from bulkseed.verifier.rule_checks import ChanceCheck, RuleCheck, Tally, VerifyReport
from bulkseed.verifier.rule_sql import NEVER, Clause, RuleQuery, Scope, columns
from bulkseed.verifier.shape_rules import NEEDS, judge_ranks, judge_users, shape_queries
from bulkseed.verifier.workspace_rules import channel_queries, membership_queries, user_queries

__all__ = ["ChanceCheck", "RuleCheck", "TextReader", "VerifyReport", "verify"]

CHUNK_ROWS: Final = 10_000

Rows = Sequence[Any]
Judge = Callable[[Rows], None]


async def read_names(connection: Connection, scope: Scope, corpus: Corpus) -> list[RuleCheck]:
    """Judge names by rule U5, and addresses, which begin with the name, by rule U2."""
    names = Tally("U5", f"name is one that Faker makes for {corpus.locale}", scope.describe("users", "id"))
    emails = Tally("U2", "email begins with the name in ASCII", scope.describe("users", "id"))

    def judge(rows: Rows) -> None:
        for user, name, email in rows:
            slugs = set() if name is None else corpus.person.slugs(name)
            if not slugs:
                names.add(user)
            if email is None or not any(email.startswith(f"{local_part(slug)}.") for slug in slugs):
                emails.add(user)

    query = compose(
        "SELECT u.id, u.name, u.email FROM {users} AS u WHERE {ours}",
        users=scope.table("users"),
        ours=scope.ours("users", "u"),
    )
    await read_chunks(connection, query, judge)
    return [emails.check(), names.check()]


def local_part(slug: str) -> str:
    return slug[:SLUG_CHARACTERS].rstrip(".") or "user"


async def read_companies(connection: Connection, scope: Scope, corpus: Corpus) -> list[RuleCheck]:
    """Judge the names of regular channels by rule C2."""
    text = f"a regular channel's name is a company's that Faker makes for {corpus.locale}"
    names = Tally("C2", text, scope.describe("channels", "id"))

    def judge(rows: Rows) -> None:
        for channel, name in rows:
            if name is None or not corpus.company.slugs(name):
                names.add(channel)

    query = compose(
        "SELECT c.id, c.name FROM {channels} AS c WHERE {ours} AND c.is_dm IS NOT TRUE",
        channels=scope.table("channels"),
        ours=scope.ours("channels", "c"),
    )
    await read_chunks(connection, query, judge)
    return [names.check()]


async def read_texts(connection: Connection, scope: Scope, corpus: Corpus) -> tuple[list[RuleCheck], list[ChanceCheck]]:
    """Judge contents by rule G3, and replies by rule G4: a reply is one sentence.

    A paragraph of one sentence looks like a sentence, so the share of texts of several sentences is compared.
    """
    text = f"content is 1 to {MOST_SENTENCES} of Faker's sentences for {corpus.locale}"
    describe = scope.describe("messages", "id")
    texts = Tally("G3", text, describe)
    replies = Tally("G4", "a reply is one sentence", describe)
    reader = await to_thread.run_sync(TextReader, corpus.lorem)
    top_level = longer = 0

    def judge(rows: Rows) -> None:
        nonlocal top_level, longer
        for message, content, is_reply in rows:
            sentences = 0 if content is None else reader.sentences(content)
            if sentences == 0:
                texts.add(message)
            if not is_reply:
                top_level += 1
                longer += sentences > 1
            elif sentences > 1:
                replies.add(message)

    query = compose(
        "SELECT m.id, m.content, m.parent_id IS NOT NULL FROM {messages} AS m WHERE {ours}",
        messages=scope.table("messages"),
        ours=scope.ours("messages", "m"),
    )
    await read_chunks(connection, query, judge)
    more_than_one = 1 - SENTENCES_IN_PARAGRAPH[1] / sum(SENTENCES_IN_PARAGRAPH.values())
    share = ChanceCheck.from_total(
        "G3",
        "share of top-level messages of more than one sentence",
        expected=scope.run.plan.probabilities.message_paragraph * more_than_one,
        total=longer,
        trials=top_level,
    )
    return [texts.check(), replies.check()], [share]


async def read_chunks(connection: Connection, query: SQL, judge: Judge) -> None:
    with connection.waiting():
        cursor = await connection.cursor(query)
    while True:
        with connection.waiting():
            rows = await cursor.fetch(CHUNK_ROWS)
        if not rows:
            return
        await to_thread.run_sync(judge, rows)


class TextReader:
    """A reader of texts as Faker's sentences: 3 to 8 listed words, the first in title case, and the full stop."""

    def __init__(self, lorem: WordList) -> None:
        connector, full_stop = re.escape(lorem.connector), re.escape(lorem.full_stop)
        others = f"{{{min(WORDS_IN_SENTENCE) - 1},{max(WORDS_IN_SENTENCE) - 1}}}"
        opening = pattern_of({word.title() for word in lorem.words})
        sentence = f"{opening}(?:{connector}{pattern_of(lorem.words)}){others}{full_stop}"
        # lazy: a text that matches as one sentence counts as one
        self.pattern = re.compile(f"{sentence}({connector}{sentence}){{0,{MOST_SENTENCES - 1}}}?")

    def sentences(self, text: str) -> int:
        """Return 1 for a text of one sentence, 2 for several, 0 for a text that Faker cannot generate."""
        match = self.pattern.fullmatch(text)
        if match is None:
            return 0
        return 1 if match[1] is None else 2


def pattern_of(words: Iterable[str]) -> str:
    """Return a pattern that matches any of ``words``: a tree of their letters, so that few branches are tried."""
    tree: dict[str, Any] = {}
    for word in words:
        node = tree
        for letter in word:
            node = node.setdefault(letter, {})
        node[""] = {}
    return branches(tree)


def branches(node: dict[str, Any]) -> str:
    choices = "|".join(re.escape(letter) + branches(node[letter]) for letter in sorted(node) if letter)
    if not choices:
        return ""
    return f"(?:{choices}){'?' if '' in node else ''}"


BYTEWISE: Final = '({column} COLLATE "C")'
"""The template for a column of text whose own collation the server's regular expressions do not take."""

AS_TEXT: Final = {
    "json": "({column} #>> '{}')",
    "jsonb": "({column} #>> '{}')",
    "citext": "{column}::text",
    "enum": "{column}::text",
    "name": "{column}::text",
}
"""Templates of SQL that read the text of a column of another type."""


async def read_scope(connection: Connection, run: Run, corpus: Corpus) -> Scope:
    """Return the scope of a run: ``lacking`` are columns that the app has not, or that are too narrow for the values.

    Raises TargetError where a table or a column that the load filled was dropped or renamed.
    """
    problems: list[str] = []
    lacking: set[tuple[str, str]] = set()
    texts: dict[tuple[str, str], str] = {}
    model = run.plan.model
    for table in model.by_name.values():
        name, actual = model.name(table.name), run.names.sql_name(table.name)
        exists = await connection.fetchval("SELECT to_regclass($1::text) IS NOT NULL", actual)
        if not exists:
            problems.append(f"schema {run.schema!r} no longer has the table {name}: restore it")
            continue
        rows = await read_types(connection, actual)
        mappings = {row["name"]: column_mapping_of("", row) for row in rows}
        nondeterministic = {row["name"] for row in rows if row["is_nondeterministic"]}
        for column in table.columns:
            actual_column = model.column(table.name, column.name)
            mapping = mappings.get(actual_column)
            if mapping is None:
                problems.append(f"schema {run.schema!r} no longer has the column {name}.{actual_column}: restore it")
                continue
            longest = longest_text(corpus.lorem) if column.longest is None else column.longest
            is_too_short = column.kind == "text" and mapping.length is not None and mapping.length < longest
            if mapping.type == "date" or is_too_short:
                lacking.add((table.name, column.name))
            if column.kind == "text" and actual_column in nondeterministic:
                texts[table.name, column.name] = BYTEWISE
            if column.kind == "text" and mapping.kind in AS_TEXT:
                texts[table.name, column.name] = AS_TEXT[mapping.kind]
    if problems:
        raise TargetError(
            "\n".join(f"run {run.number} cannot be verified: {problem}" for problem in problems), code="changed-tables"
        )
    every = {(table.name, column.name) for table in (*TABLES, CATALOGUE) for column in table.columns}
    existing = {(table.name, column.name) for table in model.by_name.values() for column in table.columns}
    absent = {(table, column) for table, column in every - existing if table in model.by_name}
    return Scope(run, frozenset(lacking | absent), texts)


async def judge_scenario_rules(connection: Connection, run: Run) -> list[RuleCheck]:
    """Judge the rules of the scenario: SQL queries that return the number of rows that break them.

    Raises RunError, with a line for each, where queries fail, or return anything else.
    """
    checks: list[RuleCheck] = []
    problems: list[Problem] = []
    path = await find_tables_of(connection, run.schema)
    for rule in run.plan.scenario.rules:
        try:
            async with connection.transaction():
                rows = await connection.fetch(rule.sql)
        except asyncpg.PostgresError as error:
            problems.append(wrong_rule(rule, error))
            continue
        if len(rows) != 1 or len(rows[0]) != 1 or not isinstance(rows[0][0], int):
            problems.append(Problem("rule-without-number", f"the rule {rule.name!r} of the scenario {NOT_A_NUMBER}"))
            continue
        violations = rows[0][0]
        checks.append(RuleCheck("own", rule.name, violations, f"{violations:,} rows" if violations else None))
    await connection.execute(SET_SEARCH_PATH, path)
    if problems:
        code = common_code((problem.code for problem in problems), "rule-failed")
        raise RunError("\n".join(problem.message for problem in problems), code=code)
    return checks


SETTINGS: Final = """
SET LOCAL work_mem = '64MB';
SET LOCAL max_parallel_workers_per_gather = 2;
SET LOCAL jit = off;
SET LOCAL row_security = off;
"""
"""At 100x, 16 MB and 256 MB took as long; compiling the queries' few expressions takes longer than it saves. A query
whose rows row-level security would hide is refused."""

Check = TypeVar("Check", RuleCheck, ChanceCheck)

SECTIONS: Final = "NUCMGRTo"
"""The letters of the rules in the order of rules.md; N is for numbers of rows, o for the scenario's own rules."""

QUERIES: Final[dict[Phase, Callable[[Scope], Iterator[RuleQuery]]]] = {
    Phase.USERS: user_queries,
    Phase.CHANNELS: channel_queries,
    Phase.MEMBERS: lambda scope: chain(membership_queries(scope), pair_queries(scope)),
    Phase.MESSAGES: message_queries,
    Phase.REPLIES: reply_queries,
    Phase.REACTIONS: reaction_queries,
    Phase.SHAPE: lambda scope: chain(order_queries(scope), joining_queries(scope), shape_queries(scope)),
}
"""The queries of each phase."""


async def verify(
    address: Address,
    run: int | None = None,
    *,
    listener: ProgressListener | None = None,
    ledger_schema: str = SCHEMA,
) -> list[VerifyReport]:
    """Judge the rows of ``run``, or of every run in the ledger, by every rule of rules.md.

    It reads in one transaction, from one snapshot, and writes nothing. Raises InputError where there is no such run, or
    the run is not complete; TargetError where one of its tables or columns is gone, or the user may
    not read a table, or all of its rows; RunError where a query fails.
    """
    listener = listener or NullListener()
    listener.phase(Phase.CHECK)
    async with open_connection(address) as connection:
        with preflight_errors(connection, "verifying"):
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(SETTINGS)
                ledger = Ledger(ledger_schema)
                runs = await find_runs(connection, ledger, None if run is None else [run])
                incomplete = [run.number for run in runs if not run.is_complete]
                if incomplete:
                    raise InputError(
                        f"run {incomplete[0]} is being loaded, or was interrupted: wait for it, finish it with "
                        f"{ledger.command(f'resume {incomplete[0]}')}, or undo it with "
                        f"{ledger.command(f'cleanup {incomplete[0]}')}",
                        code="incomplete-run",
                    )
                return [await verify_run(connection, run, listener) for run in runs]


async def verify_run(connection: Connection, run: Run, listener: ProgressListener) -> VerifyReport:
    corpus = await to_thread.run_sync(make_corpus, run.plan.locale)
    scope = await read_scope(connection, run, corpus)
    await check_readable(connection, map(run.names.sql_name, scope.model.by_name))
    if run.made_by.get("faker") != FAKER_VERSION:
        listener.note(
            f"run {run.number} was made with Faker {run.made_by.get('faker')}, and this is Faker {FAKER_VERSION}: "
            "where their names and words differ, the rules U2, U5, C2 and G3 are reported as violated"
        )
    run_anyascii, this_anyascii = run.made_by.get("anyascii"), version("anyascii")
    if run_anyascii not in {None, this_anyascii}:  # a run of an older bulkseed has no version of it
        listener.note(
            f"run {run.number} was made with anyascii {run_anyascii}, and this is anyascii {this_anyascii}: "
            "where they transliterate names differently, the rule U2 is reported as violated"
        )
    optional = {(table.name, column.name) for table in TABLES for column in table.columns if column.optional}
    if lacking := scope.lacking - optional:
        columns = ", ".join(f"{table}.{column}" for table, column in sorted(lacking))
        listener.note(
            "these columns are not checked, because the app does not have them, or their types cannot store all "
            f"values exactly: {columns}"
        )
    rules: list[RuleCheck] = []
    chances: list[ChanceCheck] = []
    listener.phase(Phase.ROWS)
    for name in scope.model.names:
        rules.append(await count_rows(connection, scope, name))
    for table_with_ids in scope.model.tables:
        if table_with_ids.serial is not None:
            more, _ = await repeated_ids(scope, table_with_ids.name).judge(connection)
            rules += more
    for phase, queries in QUERIES.items():
        listener.phase(phase)
        for query in queries(scope):
            if applicable := scope.applicable(query):
                more, draws = await applicable.judge(connection)
                rules += more
                chances += draws
    more, draws = await judge_shape(connection, scope)
    rules += more
    chances += draws
    more, draws = await judge_texts(connection, scope, corpus, listener)
    rules += more
    chances += draws
    rules += await judge_scenario_rules(connection, run)
    return VerifyReport(run.number, sort_checks(rules), sort_checks(chances))


async def judge_shape(connection: Connection, scope: Scope) -> tuple[list[RuleCheck], list[ChanceCheck]]:
    """Judge the numbers of messages of users and channels, where the run has another shape than the default."""
    if scope.shape == Shape() or not scope.has(NEEDS):
        return [], []
    rules, chances, scatter = await judge_ranks(connection, scope)
    more, draws = await judge_users(connection, scope, scatter)
    return [*rules, *more], [*chances, *draws]


async def judge_texts(
    connection: Connection, scope: Scope, corpus: Corpus, listener: ProgressListener
) -> tuple[list[RuleCheck], list[ChanceCheck]]:
    """Judge the rules that need a locale's names and words."""
    rules: list[RuleCheck] = []
    chances: list[ChanceCheck] = []
    listener.phase(Phase.NAMES)
    if scope.has(columns(users="id name email")):
        rules += await read_names(connection, scope, corpus)
    if scope.has(columns(channels="id name is_dm")):
        rules += await read_companies(connection, scope, corpus)
    if scope.has(columns(messages="id content parent_id")):
        listener.phase(Phase.TEXTS)
        for more, draws in (
            await read_texts(connection, scope, corpus),
            await distinct_contents(scope, corpus.lorem).judge(connection),
        ):
            rules += more
            chances += draws
    return rules, chances


async def count_rows(connection: Connection, scope: Scope, table: str) -> RuleCheck:
    recorded = scope.run.rows[table]
    query = compose(
        "SELECT count(*) FROM {table} AS t WHERE {ours}", table=scope.table(table), ours=scope.ours(table, "t")
    )
    present = await connection.fetchval(query)
    difference = abs(present - recorded)
    example = f"{present:,} rows instead of {recorded:,}" if difference else None
    return RuleCheck("N", f"there are as many rows of {table} as were loaded", difference, example)


def repeated_ids(scope: Scope, table: str) -> RuleQuery:
    return RuleQuery(
        rows=compose(
            "(SELECT t.id FROM {table} AS t WHERE {ours} GROUP BY t.id HAVING count(*) > 1) AS g",
            table=scope.table(table),
            ours=scope.ours(table, "t"),
        ),
        key=compose("g.id"),
        describe=scope.describe(table, "id"),
        needs=columns(**{table: "id"}),
        clauses=(Clause("N", f"no id is in {table} twice", NEVER),),
    )


def sort_checks(checks: Iterable[Check]) -> tuple[Check, ...]:
    return tuple(sorted(checks, key=lambda check: (SECTIONS.index(check.rule[0]), check.rule)))
