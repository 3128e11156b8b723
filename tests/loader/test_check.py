"""Checks without a load: the same refusals, a true prediction, and nothing written."""

from __future__ import annotations

import asyncio
import json
import shlex
from pathlib import Path

import anyio
import pytest

import bulkseed
from bulkseed.copy.encoders import BINARY_TYPES
from bulkseed.embedded import Server
from bulkseed.errors import TargetError
from bulkseed.ledger import acquire_load_lock
from bulkseed.listeners import NullListener
from bulkseed.loader.check import check
from bulkseed.loader.load import load
from bulkseed.plan.plan import Plan
from bulkseed.plan.tables import WITH_IDS
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from support.app_rows import APP_ROWS
from support.commands import FIXED, inside
from support.databases import MakeDatabase, address_of
from support.errors import raises
from support.plans import plan_of, planned
from support.queries import has_ledger, rows, run_sql
from support.whole_database import state

TRIED: str = "CREATE DOMAIN words AS text CHECK (value <> 'x'); ALTER TABLE users ALTER bio TYPE words"
"""A domain, so that rows are tried in temporary copies."""

FIELDS: str = "[fields.users]\nphone = 'faker:phone_number'\n"

TEMPORARY: str = "SELECT relname FROM pg_class WHERE relpersistence = 't'"


def as_login(address: Address, login: str) -> Address:
    return Address(address.url._replace(username=login))


@pytest.mark.core
@pytest.mark.parametrize("defer", ["never", "always"])
async def test_writes_nothing_and_foretells_the_load(make_database: MakeDatabase, tmp_path: Path, defer: str) -> None:
    database = await make_database("seeded")
    await run_sql(database, TRIED, "ALTER TABLE users ADD phone text", *APP_ROWS)
    plan, options = planned(tmp_path, FIELDS), {"defer": defer, "workers": 2, "rows_per_shard": 2_000}
    before = await state(database)
    report = await bulkseed.check(plan, database, **options)  # type: ignore[arg-type]
    assert await state(database) == before
    assert await rows(database, TEMPORARY) == []
    loaded = await bulkseed.load(plan, database, **options)  # type: ignore[arg-type]
    assert report.workers == loaded.workers
    assert bool(report.dropped) == loaded.deferred == (not report.kept)
    for table in WITH_IDS:
        assert report.ids[table] == (loaded.placement.first(table), report.ids[table][0] + loaded.rows[table] - 1)
    assert report.shards == (await rows(database, "SELECT count(*) FROM bulkseed.shards WHERE run = 2"))[0][0]
    assert report.tables["users"].rows == loaded.rows["users"]


async def test_a_sequence_that_was_never_used(database: Address) -> None:
    report = await check(plan_of("2x"), database)
    assert report.ids["users"] == (1, 40)
    assert (await load(plan_of("2x"), database)).placement.first_user == 1


async def test_a_constraint_that_writes_is_rolled_back(database: Address) -> None:
    await run_sql(
        database,
        "CREATE TABLE seen (name text)",
        "CREATE FUNCTION see(t text) RETURNS bool LANGUAGE sql AS 'INSERT INTO seen VALUES (t) RETURNING true'",
        "ALTER TABLE users ADD CHECK (see(name))",
    )
    before = await state(database)
    await check(plan_of("2x"), database)
    assert await state(database) == before


async def test_locks_end_with_the_trial_of_a_table(database: Address) -> None:
    await run_sql(
        database,
        "CREATE FUNCTION held() RETURNS bool LANGUAGE sql AS 'SELECT pg_advisory_xact_lock_shared(42) IS NOT NULL'",
        "ALTER TABLE messages ADD CHECK (held())",
    )
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with open_connection(database) as app, anyio.create_task_group() as tasks:
        await app.execute("SELECT pg_advisory_lock(42)")
        tasks.start_soon(check, plan_of("2x"), database)
        with anyio.fail_after(30):
            while not await app.fetchval(waiting):
                await anyio.sleep(0.01)
        async with app.transaction():
            for table in ("users", "channels", "user_channels", "message_reactions"):
                await app.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE NOWAIT")
        await app.execute("SELECT pg_advisory_unlock(42)")


async def test_the_session_only_reads(database: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write in any check is refused by the server; the trial alone may write, and is rolled back."""

    async def write(connection: Connection, *_: object) -> None:
        await connection.execute("SELECT nextval('users_id_seq')")

    monkeypatch.setattr("bulkseed.loader.preflight.check_privileges", write)
    with raises("server-error", "nextval"):
        await check(plan_of("1x"), database)


async def test_formats_and_the_reason(database: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    found = (await check(plan_of("1x"), database)).tables.values()
    assert {(table.format, table.reason) for table in found} == {("binary", "")}
    chosen = (await check(plan_of("1x"), database, copy_format="records")).tables.values()
    assert {(table.format, table.reason) for table in chosen} == {("records", "--format records")}
    monkeypatch.setattr("bulkseed.target.target.BINARY_TYPES", BINARY_TYPES.keys() - {"text"})
    tables = (await check(plan_of("1x"), database)).tables
    assert (tables["user_channels"].format, tables["messages"].format) == ("binary", "records")
    assert tables["messages"].name == '"public"."messages"'
    assert "content" in tables["messages"].reason
    assert "text" in tables["messages"].reason
    assert "created_at" not in tables["messages"].reason


async def test_all_that_a_login_lacks_is_told_at_once(database: Address) -> None:
    await run_sql(database, "DROP ROLE IF EXISTS novice", "CREATE ROLE novice LOGIN")
    novice = as_login(database, "novice")
    facts = ('GRANT SELECT, INSERT, DELETE ON "public"."users" TO novice', "GRANT CREATE ON DATABASE")
    for command in (check, load):
        with raises("missing-privilege", *facts, kind=TargetError):
            await command(plan_of("1x"), novice)
    await run_sql(database, "ALTER TABLE users DROP bio")
    for command in (check, load):
        with raises("unfit-target", "users.bio", "GRANT CREATE ON DATABASE", kind=TargetError):
            await command(plan_of("1x"), novice)
    await run_sql(database, "DROP ROLE novice")


async def test_an_interrupted_run_is_refused(seeded: Address) -> None:
    await run_sql(seeded, "UPDATE bulkseed.runs SET state = 'loading'")
    with raises("incomplete-run", "resume 1", "cleanup 1", kind=TargetError):
        await check(plan_of("1x"), seeded)


async def test_a_running_load_is_told_of_and_not_waited_for(seeded: Address) -> None:
    await run_sql(seeded, "UPDATE bulkseed.runs SET state = 'loading'")
    async with open_connection(seeded) as connection:
        await acquire_load_lock(connection, NullListener())
        with anyio.fail_after(30):
            report = await check(plan_of("1x"), seeded)
        assert any(str(connection.get_server_pid()) in note for note in report.notes)


async def test_too_few_connections_are_noted(database: Address) -> None:
    report = await check(plan_of("30x"), database, workers=200, rows_per_shard=1_000)
    assert report.connections == report.workers + 1
    assert report.free_connections < report.connections
    assert any("--workers" in note for note in report.notes)


def rule(name: str, sql: str) -> str:
    return f'[[rules]]\nname = "{name}"\nsql = "{sql}"\n'


RULES: dict[str, tuple[str, str]] = {
    "a typo": ("rule-failed", "SELECT count(*) FORM users"),
    "a missing table": ("rule-failed", "SELECT count(*) FROM nowhere"),
    "two statements": ("rule-failed", "SELECT 1; SELECT 2"),
    "a text": ("rule-without-number", "SELECT 'many'"),
    "two columns": ("rule-without-number", "SELECT 1, 2"),
    "a parameter": ("rule-without-number", "SELECT $1::int"),
    "a NUL": ("rule-failed", "SELECT 1 \\u0000"),
    "no query": ("rule-without-number", "CREATE TABLE made ()"),
}


@pytest.mark.parametrize("case", RULES)
async def test_rules_are_tried_before_a_load(database: Address, tmp_path: Path, case: str) -> None:
    code, sql = RULES[case]
    before = await state(database)
    plan: Plan = planned(tmp_path, rule("right", "SELECT count(*) FROM users WHERE id < 0") + rule(case, sql))
    for command in (check, load):
        with raises(code, repr(case), kind=TargetError) as caught:
            await command(plan, database)
        assert "'right'" not in str(caught.value)
    assert await state(database) == before


async def test_all_wrong_rules_are_told(database: Address, tmp_path: Path) -> None:
    text = "".join(rule(name, sql) for name, (code, sql) in RULES.items() if code == "rule-failed")
    with raises("rule-failed", "'a typo'", "'a missing table'", "'two statements'", kind=TargetError):
        await load(planned(tmp_path, text), database)
    assert not await has_ledger(database)


async def test_a_rule_may_read_the_ledger_that_a_load_makes(database: Address, tmp_path: Path) -> None:
    plan = planned(tmp_path, rule("one run", "SELECT count(*) FROM bulkseed.runs WHERE id > 9"))
    await check(plan, database)
    await load(plan, database)
    assert all(report.holds for report in await bulkseed.verify(database))


def test_the_command(database: Address) -> None:
    url = database.dsn.replace("bulkseed@", "bulkseed:s3cret@")
    options = ["--scale", "2x", *FIXED, "--workers", "1"]
    done = inside("check", *options, "--database-url", url, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["database"] == database.database
    assert (found["allow"], found["asks"], found["created"]) == (None, False, [])
    assert found["command"].split()[:2] == ["bulkseed", "load"]
    shown = inside("check", *options, "--database-url", url)
    assert found["command"] in shown.stdout
    assert "s3cret" not in done.stdout + shown.stdout
    assert inside("check", *options, "--database-url", url, "--quiet").stdout == ""
    loaded = inside(*shlex.split(found["command"])[1:], "--json")
    assert loaded.returncode == 0, loaded.stderr
    rows = json.loads(loaded.stdout)["rows"]
    assert [found["tables"][name]["rows"] for name in ("users", "channels")] == [rows["users"], rows["channels"]]


def test_the_embedded_database_gets_no_table(server: Server) -> None:
    address, home = address_of(server, server.database), str(server.home)
    asyncio.run(run_sql(address, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public"))
    before = asyncio.run(state(address))
    done = inside("check", "--json", "--defer", "always", BULKSEED_HOME=home)
    assert done.returncode == 0, done.stderr
    assert asyncio.run(state(address)) == before
    found = json.loads(done.stdout)
    assert "table users" in found["created"]
    assert found["dropped"]
    assert found["command"] == "bulkseed load --defer always"
    assert inside("init", BULKSEED_HOME=home).returncode == 0
    assert json.loads(inside("check", "--json", BULKSEED_HOME=home).stdout)["created"] == []
