"""Rules declare the columns that they read: an app without a column or table has all other rules judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from bulkseed.ledger import Ledger, read_runs
from bulkseed.loader.load import load
from bulkseed.plan.scenario import Scenario, Shape
from bulkseed.plan.tables import CATALOGUE, TABLES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from bulkseed.sql import compose, identifier
from bulkseed.text.faker_source import make_corpus
from bulkseed.verifier.conversation_rules import distinct_contents
from bulkseed.verifier.rule_sql import Columns, RuleQuery, Scope
from bulkseed.verifier.shape_rules import NEEDS, judge_ranks, judge_users
from bulkseed.verifier.verify import QUERIES, VerifyReport, repeated_ids, verify
from support.plans import plan_of, planned
from support.queries import run_sql

ALL_COLUMNS: Final = frozenset((table.name, column) for table in (*TABLES, CATALOGUE) for column in table.column_names)

JOINED: Final = "ALTER TABLE user_channels ADD joined timestamp"
SHAPES: Final = {
    "the default": Shape(),
    "every parameter": Shape(
        history=2,
        channel_sizes=1.0,
        channel_activity=1.1,
        user_activity=0.9,
        idle=0.2,
        office_hours=0.6,
        weekends=0.1,
        most_replies=3,
        group_dms=0.3,
        viral=0.1,
    ),
    "drawn sizes and hours": Shape(office_hours=0.6, viral=0.1),
}


async def drop_columns(connection: Connection, columns: Columns) -> None:
    for table, column in sorted(columns):
        statement = compose(
            "ALTER TABLE {table} DROP COLUMN {column} CASCADE", table=identifier(table), column=identifier(column)
        )
        await connection.execute(str(statement))


async def reads_exactly(connection: Connection, query: RuleQuery, needs: Columns) -> None:
    """Assert that the query runs on tables of the columns ``needs`` alone, and on none that lack one of them."""
    transaction = connection.transaction()
    await transaction.start()
    await drop_columns(connection, ALL_COLUMNS - needs)
    await query.judge(connection)
    for needed in needs:
        savepoint = connection.transaction()
        await savepoint.start()
        await drop_columns(connection, frozenset({needed}))
        with pytest.raises(asyncpg.UndefinedColumnError):
            await query.judge(connection)
        await savepoint.rollback()
    await transaction.rollback()


def rule_queries(scope: Scope) -> Iterator[RuleQuery]:
    for queries in QUERIES.values():
        yield from queries(scope)
    yield distinct_contents(scope, make_corpus("en_US").lorem)
    yield repeated_ids(scope, "messages")


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
async def test_each_part_of_a_query_declares_the_columns_that_it_reads(database: Address, shape: Shape) -> None:
    await load(plan_of("2x", scenario=Scenario(shape=shape)), database)
    await run_sql(database, JOINED)
    parts = 0
    async with open_connection(database) as connection:
        [run] = await read_runs(connection, Ledger())
        for query in rule_queries(Scope(run)):
            for clause in query.clauses:
                await reads_exactly(connection, replace(query, clauses=(clause,), draws=()), query.needs | clause.needs)
            for draw in query.draws:
                await reads_exactly(connection, replace(query, clauses=(), draws=(draw,)), query.needs | draw.needs)
            parts += len(query.clauses) + len(query.draws)
    assert parts > 50


async def test_the_ranks_of_a_shape_need_the_columns_that_they_declare(database: Address) -> None:
    await load(plan_of("2x", scenario=Scenario(shape=SHAPES["every parameter"])), database)
    await run_sql(database, JOINED)
    async with open_connection(database) as connection:
        [run] = await read_runs(connection, Ledger())
        scope = Scope(run)

        async def judge() -> None:
            _, _, scatter = await judge_ranks(connection, scope)
            await judge_users(connection, scope, scatter)

        transaction = connection.transaction()
        await transaction.start()
        await drop_columns(connection, ALL_COLUMNS - NEEDS)
        await judge()
        for needed in NEEDS:
            savepoint = connection.transaction()
            await savepoint.start()
            await drop_columns(connection, frozenset({needed}))
            with pytest.raises(asyncpg.UndefinedColumnError):
                await judge()
            await savepoint.rollback()
        await transaction.rollback()


def judged(report: VerifyReport) -> dict[str, int]:
    """How many checks of rules, and of probabilities, there are of each rule."""
    found: dict[str, int] = {}
    for kind, checks in (("", report.rules), ("~", report.chances)):
        for check in checks:
            found[kind + check.rule] = found.get(kind + check.rule, 0) + 1
    return found


def without(found: dict[str, int], everything: dict[str, int]) -> str:
    """The rules with fewer checks than ``everything`` has, in order, each once per missing check."""
    assert found.keys() <= everything.keys()
    return " ".join(
        " ".join([rule] * (number - found.get(rule, 0)))
        for rule, number in sorted(everything.items())
        if number > found.get(rule, 0)
    )


LACKED_COLUMNS: Final = {
    "users.auth0_id": "U1 U1",
    "users.email": "U2 U2 U2 U5",
    "users.is_active": "U3 ~U3",
    "users.created_at": "C4 G2 G4 R4 T1 U4",
    "users.name": "C2 U2 U5",
    "users.picture": "U5",
    "users.bio": "U5",
    "channels.name": "C2 C2",
    "channels.description": "C3 C3",
    "channels.owner_id": "C1 C1 C2 C3 C3 C4 C4 C5 C5 M3 ~C1 ~C1",
    "channels.created_at": "C4 G2 T1",
    "channels.is_private": "C1 C1 C5 ~C1",
    "channels.is_dm": "C1 C1 C2 C2 C3 C3 C5 M1 M1 M2 M2 M2 M4 ~C1 ~C1 ~M2 ~M2 ~M2 ~M2 ~M2",
    "channels.join_code": "C5 C5 C5",
    "messages.content": "G3 G4 G6 ~G3",
    "messages.created_at": "G2 G2 G4 G4 R4 T1",
    "messages.updated_at": "G2",
    "messages.parent_id": "G3 G4 G4 G4 G4 G4 G4 G4 G5 G6 N ~G3 ~G4",
    "message_reactions.created_at": "R4",
}
"""The checks that are not made where the app lacks a column: by their rules, with ~ for those of probabilities."""


async def verify_without(address: Address, folder: Path, scenario: str, change: str) -> VerifyReport:
    """Change the database, load by the scenario, and return the report, which must hold."""
    await run_sql(address, change)
    await load(planned(folder, scenario), address)
    [report] = await verify(address)
    assert report.holds
    return report


@pytest.mark.parametrize("lacked", LACKED_COLUMNS)
async def test_a_column_that_the_app_lacks(seeded: Address, database: Address, tmp_path: Path, lacked: str) -> None:
    table, column = lacked.split(".")
    scenario, change = f"[columns.{table}]\n{column} = false", f"ALTER TABLE {table} DROP COLUMN {column} CASCADE"
    [full] = await verify(seeded)
    report = await verify_without(database, tmp_path, scenario, change)
    assert without(judged(report), judged(full)) == LACKED_COLUMNS[lacked]


LACKED_TABLES: Final = {
    "user_channels": "G1 M1 M1 M2 M2 M2 M2 M3 M4 N R1 R2 ~M2 ~M2 ~M2 ~M2 ~M2 ~R1 ~R1 ~R1 ~R1",
    "messages": "G1 G1 G2 G2 G3 G4 G4 G4 G4 G4 G4 G4 G5 G6 N N N N R0 R1 R2 R2 R3 R4 T1 ~G3 ~G4 ~R1 ~R1 ~R1 ~R1",
    "message_reactions": "N R0 R1 R2 R2 R3 R4 ~R1 ~R1 ~R1 ~R1",
}


@pytest.mark.parametrize("lacked", LACKED_TABLES)
async def test_a_table_that_the_app_lacks(seeded: Address, database: Address, tmp_path: Path, lacked: str) -> None:
    [full] = await verify(seeded)
    report = await verify_without(database, tmp_path, f"[tables]\n{lacked} = false", f"DROP TABLE {lacked} CASCADE")
    assert without(judged(report), judged(full)) == LACKED_TABLES[lacked]


RANKS: Final = "[shape]\nchannel_activity = 1.1\nuser_activity = 0.9\n"


@pytest.mark.parametrize(
    ("lacked", "change"),
    [
        ("[columns.channels]\nis_private = false", "ALTER TABLE channels DROP COLUMN is_private CASCADE"),
        ("[columns.channels]\nis_dm = false", "ALTER TABLE channels DROP COLUMN is_dm CASCADE"),
        ("[tables]\nuser_channels = false", "DROP TABLE user_channels"),
    ],
)
async def test_ranks_are_not_judged_without_what_they_need(
    database: Address, tmp_path: Path, lacked: str, change: str
) -> None:
    await run_sql(database, change)
    plain, ranked = await verify_both(database, tmp_path, lacked)
    assert without(judged(plain), judged(ranked)) == ""


async def test_ranks_are_judged_where_nothing_is_lacking(database: Address, tmp_path: Path) -> None:
    plain, ranked = await verify_both(database, tmp_path, "")
    assert without(judged(plain), judged(ranked)) == "C1 C1 M1 M2 ~G1 ~N"


async def verify_both(database: Address, folder: Path, scenario: str) -> list[VerifyReport]:
    """Load by the scenario, and by one that asks for ranks too; return the reports of both, which must hold."""
    for shape in ("", RANKS):
        await load(planned(folder, shape + scenario), database)
    reports = await verify(database)
    assert [report.holds for report in reports] == [True, True]
    return reports


async def test_a_column_that_holds_less_takes_only_its_own_rules(seeded: Address, database: Address) -> None:
    """Also where the app stores other columns of the table in another type."""
    await run_sql(
        database,
        "ALTER TABLE users ALTER bio TYPE varchar(50), ALTER picture TYPE jsonb USING to_jsonb(picture)",
    )
    await load(plan_of("3x"), database)
    [full], [report] = await verify(seeded), await verify(database)
    assert report.holds
    assert without(judged(report), judged(full)) == "U5"
