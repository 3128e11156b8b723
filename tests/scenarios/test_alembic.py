"""An app of its own: its tables made by its Alembic migrations, loaded by its scenario (``alembic_app/``)."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from alembic import command
from alembic.config import Config

from bulkseed import ledger
from bulkseed.cleaner.cleanup import cleanup
from bulkseed.embedded import Server
from bulkseed.ledger import Ledger
from bulkseed.ledger.runs import read_history
from bulkseed.loader.load import load, resume
from bulkseed.plan.plan import Plan
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.verifier.rule_sql import Scope
from bulkseed.verifier.verify import verify
from support.databases import MakeDatabase, address_of
from support.listeners import Interfering
from support.pg_dump import dump
from support.plans import planned
from support.queries import digest, rows, run_sql

PROJECT = Path(__file__).parent / "alembic_app"
SCENARIO = (PROJECT / "bulkseed.toml").read_text()
TEMPLATE = "template_alembic"

OWN_ROWS = """
INSERT INTO tenants (name) VALUES ('Another');
INSERT INTO accounts (email, display_name, tenant_id, plan)
    SELECT person || '@Corp.test', person, id, 'team' FROM tenants, unnest(ARRAY['Ann', 'Bob', 'Eve']) AS person
    WHERE name = 'Another';
INSERT INTO conversations (title, created_by) SELECT 'their own', id FROM accounts WHERE display_name = 'Ann';
INSERT INTO participants (conversation_id, account_id) SELECT c.id, a.id FROM conversations AS c, accounts AS a;
INSERT INTO posts (conversation_id, author_id, body, body_format)
    SELECT conversation_id, account_id, 'hello', 'plain' FROM participants;
INSERT INTO posts (conversation_id, author_id, body, body_format, reply_to_id)
    SELECT conversation_id, author_id, 'me too', 'markdown', id FROM posts;
INSERT INTO post_reactions (post_id, emoji_id, account_id)
    SELECT p.id, e.id, p.author_id FROM posts AS p, emojis AS e WHERE e.shortcode = 'joy';
"""
"""Rows as the app itself puts them in, with the keys and moments that its columns give."""

MakeApp = Callable[[], Awaitable[Address]]
SMALL: dict[str, Any] = {"rows_per_shard": 600}


def migrate(address: Address) -> None:
    """``alembic upgrade head``."""
    config = Config(PROJECT / "alembic.ini")
    config.set_main_option("sqlalchemy.url", address.dsn.replace("%", "%%"))
    command.upgrade(config, "head")


@pytest.fixture
async def make_app(server: Server, templates: dict[str, str], make_database: MakeDatabase) -> MakeApp:
    """Makes databases of the app, as its migrations leave them, with some rows of its own."""
    if TEMPLATE not in templates:
        admin = address_of(server, "postgres")
        if not await rows(admin, "SELECT name FROM pg_available_extensions WHERE name = 'citext'"):
            pytest.skip("this PostgreSQL has no citext (Debian: apt install postgresql-contrib)")
        await run_sql(admin, f"CREATE DATABASE {TEMPLATE}")
        template = address_of(server, TEMPLATE)
        await asyncio.to_thread(migrate, template)
        await run_sql(template, OWN_ROWS)
        templates[TEMPLATE] = TEMPLATE
    return lambda: make_database(TEMPLATE)


@pytest.fixture
async def app(make_app: MakeApp) -> Address:
    """One of them."""
    return await make_app()


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """What its scenario makes."""
    return planned(tmp_path, SCENARIO, "2x")


async def content(address: Address) -> dict[str, Any]:
    """What a run put in, but for the moments that ``participants.joined_at`` gives."""
    found: dict[str, Any] = await digest(address, "accounts", "conversations", "posts", "post_reactions")
    found["participants"] = await rows(
        address, "SELECT id, conversation_id, account_id, role FROM participants ORDER BY 1"
    )
    return found


async def of_run(address: Address, table: str, *columns: str) -> list[tuple[Any, ...]]:
    """Rows of the last run, by bulkseed's names, and ids as numbers."""
    async with open_connection(address) as connection:
        scope = Scope((await ledger.read_runs(connection, Ledger()))[-1])
        return [
            tuple(row)
            for row in await connection.fetch(
                f"SELECT {', '.join(columns)} FROM {scope.table(table)} AS t WHERE {scope.ours(table, 't')} "
                f"ORDER BY {', '.join(columns)}"
            )
        ]


KEYS = """
SELECT substr(id::text, 15, 1) AS version, substr(id::text, 20, 1) IN ('8', '9', 'a', 'b') AS variant, count(*)
FROM (SELECT id FROM accounts UNION ALL SELECT id FROM conversations UNION ALL SELECT id FROM posts) AS k
GROUP BY 1, 2 ORDER BY 1
"""
OTHERS = """
SELECT count(*) FROM participants AS p WHERE substr(p.id::text, 15, 1) <> '4'
UNION ALL
SELECT count(*) FROM post_reactions AS r LEFT JOIN posts AS p ON p.id = r.post_id
LEFT JOIN emojis AS e ON e.id = r.emoji_id LEFT JOIN participants AS m
ON m.conversation_id = p.conversation_id AND m.account_id = r.account_id WHERE m.id IS NULL OR e.id IS NULL
UNION ALL
SELECT count(*) FROM posts AS r LEFT JOIN posts AS p ON p.id = r.reply_to_id
WHERE r.reply_to_id IS NOT NULL AND (p.conversation_id <> r.conversation_id OR p.id IS NULL)
UNION ALL
SELECT count(*) FROM accounts WHERE joined_at NOT BETWEEN '2026-01-01 00:00Z' AND '2026-06-01 00:00Z'
AND display_name NOT IN ('Ann', 'Bob', 'Eve')
"""
"""Each row is to be none of these."""


@pytest.mark.core
@pytest.mark.parametrize("version", [4, 7])
async def test_it_loads_and_every_rule_holds(app: Address, tmp_path: Path, version: int) -> None:
    own = dict(await rows(app, "SELECT version, count FROM (" + KEYS + ") AS k"))
    plan = planned(tmp_path, SCENARIO.replace("\nuuid = 4 ", f"\nuuid = {version} "), "2x")
    done = await load(plan, app, defer="always", workers=2, **SMALL)
    expected = {"4": own["4"]}
    made = sum(done.rows[table] for table in ("users", "channels", "messages"))
    expected[str(version)] = expected.get(str(version), 0) + made
    assert await rows(app, KEYS) == [(each, True, count) for each, count in sorted(expected.items())]
    assert await rows(app, OTHERS) == [(0,)] * 4
    [report] = await verify(app)
    assert report.holds
    [(plans, tenants, settings, formats)] = await rows(
        app,
        "SELECT count(DISTINCT plan), count(DISTINCT tenant_id), min(settings::text), "
        "(SELECT count(DISTINCT body_format) FROM posts) FROM accounts WHERE display_name NOT IN ('Ann', 'Bob', 'Eve')",
    )
    assert (plans, tenants, formats) == (3, 1, 2)
    assert json.loads(settings) == {"theme": "dark", "digest": "weekly"}


async def test_all_rules_are_judged_but_of_the_column_that_it_lacks(
    app: Address, seeded: Address, tmp_path: Path
) -> None:
    await load(planned(tmp_path, SCENARIO, "3x"), app)
    listener = Interfering("none", lambda: None)
    [theirs], [ours] = await verify(app, listener=listener), await verify(seeded)
    judged, usual = ({(rule.rule, rule.text) for rule in report.rules} for report in (theirs, ours))
    assert judged - usual == {("own", "accounts are of a tenant that is there")}
    assert {rule for rule, _ in usual - judged} == {"U1"}
    assert [chance.text for chance in theirs.chances] == [chance.text for chance in ours.chances]
    assert [said for said in listener.said if "users.auth0_id" in said] == listener.said


async def test_the_rows_are_those_of_the_reference_schema(app: Address, seeded: Address, tmp_path: Path) -> None:
    await load(planned(tmp_path, SCENARIO, "3x"), app)
    for table, columns in {
        "users": "id email::text is_active created_at::timestamp name picture bio",
        "channels": "id name description owner_id created_at::timestamp is_private is_dm join_code",
        "user_channels": "user_id channel_id",
        "messages": "id content created_at::timestamp updated_at::timestamp user_id channel_id parent_id",
        "message_reactions": "message_id user_id created_at::timestamp",
    }.items():
        assert await of_run(app, table, *columns.split()) == await of_run(seeded, table, *columns.split())


async def test_neither_lanes_nor_workers_nor_deferral_touch_a_row(make_app: MakeApp, plan: Plan) -> None:
    found = []
    for way in (
        {"copy_format": "binary", "defer": "never"},
        {"copy_format": "records", "defer": "always", **SMALL},
        {"copy_format": "records", "defer": "never", "workers": 2, **SMALL},
    ):
        database = await make_app()
        await load(plan, database, **way)
        found.append(await content(database))
    assert found[1:] == found[:1] * 2


@pytest.mark.parametrize("table", ["users", "message_reactions"])
async def test_what_was_cut_off_is_resumed(make_app: MakeApp, plan: Plan, table: str) -> None:
    database, whole = await make_app(), await make_app()
    await load(plan, whole)
    with anyio.CancelScope() as scope:
        listener = Interfering(table, scope.cancel)
        await load(plan, database, listener=listener, defer="always", workers=2, **SMALL)
    assert scope.cancelled_caught
    assert [each.state for each in await read_history(database)] == ["interrupted"]
    assert await resume(database, workers=2) is not None
    assert await content(database) == await content(whole)
    assert all(each.holds for each in await verify(database))


async def test_two_loads_are_beside_each_other_and_the_apps_rows_stay(app: Address, plan: Plan) -> None:
    before = await digest(app)
    await load(plan, app, defer="always", workers=2, **SMALL)
    once = await digest(app)
    await load(plan, app, defer="never")
    assert [each.holds for each in await verify(app)] == [True, True]
    await cleanup(app, [2])
    assert await digest(app) == once
    await load(plan, app)
    await cleanup(app, [1])
    assert [each.holds for each in await verify(app)] == [True]
    await cleanup(app, [3])
    assert await digest(app) == before


async def test_an_interrupted_run_is_undone(app: Address, server: Server, plan: Plan) -> None:
    before = await digest(app), dump(server, app)
    with anyio.CancelScope() as scope:
        await load(plan, app, listener=Interfering("messages", scope.cancel), defer="always", **SMALL)
    await cleanup(app, [1])
    assert (await digest(app), dump(server, app)) == before


async def test_a_run_that_no_ledger_knows_is_not_met_again(app: Address, plan: Plan) -> None:
    await load(plan, app)
    await run_sql(app, "DROP SCHEMA bulkseed CASCADE")
    before = await digest(app)
    await load(plan, app)
    [report] = await verify(app)
    assert report.holds
    await cleanup(app, [1])
    assert await digest(app) == before


async def test_an_address_that_is_there_in_other_case_is_not_made(app: Address, plan: Plan) -> None:
    await load(plan, app)
    [(taken,)] = await rows(app, "SELECT max(email) FROM accounts WHERE display_name <> 'Ann'")
    await cleanup(app, [1])
    await run_sql(app, f"UPDATE accounts SET email = upper('{taken}') WHERE display_name = 'Ann'")
    await load(plan, app)
    assert [each.holds for each in await verify(app)] == [True]


async def test_what_breaks_a_rule_is_named_as_the_app_has_it(app: Address, plan: Plan) -> None:
    await load(plan, app)
    [(account,)] = await rows(app, "UPDATE accounts SET about = '' WHERE email LIKE '%.7@%' RETURNING id")
    [(post,)] = await rows(
        app,
        "UPDATE posts SET edited_at = now() WHERE id = (SELECT max(id::text) FROM posts WHERE body <> 'hello' AND "
        "body <> 'me too')::uuid RETURNING id",
    )
    [report] = await verify(app)
    broken = {rule.rule: rule.example for rule in report.rules if rule.violations}
    assert broken == {"U5": f"accounts.id {account}", "G2": f"posts.id {post}"}
    assert uuid.UUID(str(account)).version == 4
