"""Cleanup: it removes exactly the seeded rows, whatever other rows exist."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import bulkseed
from bulkseed.cleaner.cleanup import CleanupReport, cleanup, find_removable_runs
from bulkseed.errors import InputError, RunError, TargetError
from bulkseed.ledger.tables import VERSION
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.sql import identifier
from bulkseed.target.reference_schema import create_missing
from bulkseed.verifier.verify import verify
from support.app_rows import APP_ROWS
from support.errors import raises
from support.plans import plan_of, planned
from support.queries import digest, has_ledger, run_sql

LATER = "'2026-11-01'"

APP_ROWS_THAT_POINT: dict[str, tuple[str, str]] = {
    "a message in a seeded channel": (
        f"""INSERT INTO messages (content, created_at, updated_at, user_id, channel_id)
            SELECT 'app', {LATER}, {LATER}, owner_id, id FROM channels ORDER BY id DESC LIMIT 5""",
        "5 of public.messages (user_id)",
    ),
    "a reply to a seeded message": (
        f"""INSERT INTO messages (content, created_at, updated_at, user_id, channel_id, parent_id)
            SELECT 'app', {LATER}, {LATER}, user_id, channel_id, id FROM messages ORDER BY id DESC LIMIT 1""",
        "1 of public.messages (parent_id)",
    ),
    "a membership of seeded user and channel": (
        """INSERT INTO user_channels SELECT u.id, c.id FROM users AS u, channels AS c
           WHERE NOT EXISTS (SELECT FROM user_channels AS m WHERE m.user_id = u.id AND m.channel_id = c.id)
           ORDER BY 1 DESC, 2 DESC LIMIT 2""",
        "2 of public.user_channels (user_id)",
    ),
    "a reaction of a seeded user to a seeded message": (
        f"""INSERT INTO message_reactions SELECT m.id, r.id, m.user_id, {LATER} FROM messages AS m, reactions AS r
            WHERE NOT EXISTS (SELECT FROM message_reactions AS x
                              WHERE (x.message_id, x.reaction_id, x.user_id) = (m.id, r.id, m.user_id))
            ORDER BY 1 DESC, 2 DESC LIMIT 3""",
        "3 of public.message_reactions (message_id)",
    ),
    "a channel of a seeded user": (
        f"""INSERT INTO channels (name, owner_id, created_at, is_private, is_dm)
            SELECT 'app', max(id), {LATER}, false, false FROM users""",
        "1 of public.channels (owner_id)",
    ),
    "a row of a table that bulkseed does not know": (
        """CREATE TABLE "odd ""name" (who bigint REFERENCES users ON DELETE CASCADE);
           INSERT INTO "odd ""name" SELECT id FROM users ORDER BY id DESC LIMIT 4""",
        '4 of public."odd ""name" (who)',
    ),
    "a row that points at a membership": (
        """CREATE TABLE badges (u bigint, c bigint, FOREIGN KEY (u, c) REFERENCES user_channels);
           INSERT INTO badges SELECT user_id, channel_id FROM user_channels ORDER BY 1 DESC LIMIT 6""",
        "6 of public.badges (u, c)",
    ),
}


@pytest.mark.core
async def test_removes_the_rows_of_a_load_and_leaves_no_trace(database: Address) -> None:
    await run_sql(database, *APP_ROWS)
    before = await digest(database)
    report = await load(plan_of("3x"), database)
    cleaned = await cleanup(database, [1])
    assert dict(cleaned.removed) == dict(report.rows)
    assert list(cleaned.removed) == list(report.rows)[::-1]
    assert not cleaned.others
    assert await digest(database) == before
    assert not await has_ledger(database)


async def test_of_one_run_leaves_the_others(database: Address) -> None:
    await load(plan_of(), database)
    await run_sql(database, *APP_ROWS)
    before = await digest(database)
    second = await load(plan_of("2x"), database)
    third = await load(plan_of(), database)
    assert [run.number for run in await find_removable_runs(database)] == [1, 2, 3]
    await cleanup(database, [third.run])
    await cleanup(database, [second.run])
    assert await digest(database) == before
    assert [run.number for run in await find_removable_runs(database)] == [1]


@pytest.mark.parametrize("kind", APP_ROWS_THAT_POINT)
async def test_rows_that_reference_seeded_ones_prevent_it(seeded: Address, kind: str) -> None:
    statement, fact = APP_ROWS_THAT_POINT[kind]
    await run_sql(seeded, statement)
    before = await digest(seeded)
    with raises("referenced-rows", fact, kind=RunError):
        await cleanup(seeded, [1])
    assert await digest(seeded) == before
    assert await has_ledger(seeded)


@pytest.mark.core
async def test_cascade_removes_them_and_the_rows_that_reference_them(database: Address) -> None:
    await run_sql(database, *APP_ROWS)
    before = await digest(database)
    await load(plan_of("3x"), database)
    odd = '"odd ""name"'
    await run_sql(database, *(statement for statement, _ in APP_ROWS_THAT_POINT.values()))
    await run_sql(
        database,
        """INSERT INTO message_reactions SELECT m.id, 1, u.id, now() FROM messages AS m, users AS u
           WHERE m.content = 'app' AND u.email LIKE 'app%' ON CONFLICT DO NOTHING""",
        """CREATE TABLE bookmarks (message bigint REFERENCES messages, note text)""",
        "INSERT INTO bookmarks SELECT id, 'kept' FROM messages WHERE content = 'app' ORDER BY id LIMIT 1",
        "INSERT INTO bookmarks SELECT id, 'gone' FROM messages WHERE content = 'app' ORDER BY id DESC LIMIT 2",
    )
    async with open_connection(database) as connection:
        app_reactions = await connection.fetchval(
            "SELECT count(*) FROM message_reactions WHERE user_id IN (SELECT id FROM users WHERE email LIKE 'app%')"
        )
    assert app_reactions > 3
    with raises("referenced-rows", f"4 of public.{odd} (who)", "public.badges (u, c)", kind=RunError):
        await cleanup(database, [1])
    report = await cleanup(database, [1], cascade=True)
    assert report.others[f'"public".{odd}'] == 4
    assert report.others['"public"."badges"'] == 6
    assert report.others['"public"."bookmarks"'] == 2
    async with open_connection(database) as connection:
        assert [row[0] for row in await connection.fetch("SELECT note FROM bookmarks")] == ["kept"]
        # those of the app on its own messages, made just above, are all that is new
        await connection.execute("DELETE FROM message_reactions WHERE created_at > '2026-07-01'")
        await connection.execute(f"DROP TABLE bookmarks, badges, {odd}")
        await connection.execute(
            "INSERT INTO message_reactions SELECT id, 4, user_id, '2020-01-04' FROM messages "
            "WHERE content = 'app' ON CONFLICT DO NOTHING"
        )
    assert await digest(database) == before


async def test_foreign_keys_that_set_null_are_left_to_the_database(seeded: Address) -> None:
    await run_sql(
        seeded,
        "CREATE TABLE notes (who bigint REFERENCES users ON DELETE SET NULL)",
        "INSERT INTO notes SELECT id FROM users LIMIT 3",
    )
    with raises("referenced-rows", "3 of public.notes", kind=RunError):
        await cleanup(seeded, [1])
    await cleanup(seeded, [1], cascade=True)
    async with open_connection(seeded) as connection:
        assert await connection.fetchval("SELECT count(*) FROM notes WHERE who IS NULL") == 3


async def test_rows_that_an_app_removed_are_not_missed(seeded: Address) -> None:
    await run_sql(
        seeded,
        "DELETE FROM message_reactions WHERE message_id < 50",
        "UPDATE messages SET content = 'edited by the app', parent_id = NULL WHERE id < 100",
    )
    await cleanup(seeded, [1])
    assert {table: rows for table, (rows, _) in (await digest(seeded)).items() if rows} == {"reactions": 12}


async def test_a_run_of_another_generator_is_not_guessed_at(seeded: Address) -> None:
    await run_sql(seeded, """UPDATE bulkseed.runs SET made_by = made_by || '{"generator": "0", "bulkseed": "0.0.9"}'""")
    with raises("other-generator", "bulkseed 0.0.9", "--cascade", kind=InputError):
        await cleanup(seeded, [1])
    await cleanup(seeded, [1], cascade=True)
    assert {table: rows for table, (rows, _) in (await digest(seeded)).items() if rows} == {"reactions": 12}


async def test_without_foreign_keys_the_rules_say_what_points_at_what(seeded: Address) -> None:
    await run_sql(
        seeded,
        """DO $$ DECLARE k record; BEGIN
             FOR k IN SELECT conrelid::regclass AS t, conname FROM pg_constraint WHERE contype = 'f' LOOP
               EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', k.t, k.conname);
             END LOOP; END $$""",
        APP_ROWS_THAT_POINT["a reply to a seeded message"][0],
    )
    with raises("referenced-rows", "parent_id", kind=RunError):
        await cleanup(seeded, [1])


async def test_a_database_without_runs_has_nothing_to_remove(database: Address) -> None:
    assert await find_removable_runs(database) == []
    nothing = CleanupReport((), {}, {}, 0)
    assert await bulkseed.cleanup(database) == nothing
    assert await bulkseed.cleanup(database, []) == nothing
    with raises("no-runs", kind=InputError):
        await bulkseed.cleanup(database, [1])
    await load(plan_of(), database)
    with raises("no-such-run", "run 7", "1", kind=InputError):
        await cleanup(database, [7])


async def test_a_newer_ledger_is_left_alone(seeded: Address) -> None:
    await run_sql(seeded, f"UPDATE bulkseed.version SET number = {VERSION + 1}")
    for command in (cleanup(seeded, [1]), verify(seeded), load(plan_of(), seeded)):
        with raises("newer-ledger", f" {VERSION + 1}", f" {VERSION}", kind=TargetError):
            await command


async def test_a_run_with_a_plan_that_is_not_understood(seeded: Address) -> None:
    await run_sql(seeded, """UPDATE bulkseed.runs SET plan = plan || '{"mood": "good"}'""")
    with raises("unreadable-run", "run 1", "mood", kind=TargetError):
        await verify(seeded)


async def test_an_error_in_the_middle_removes_nothing(seeded: Address) -> None:
    await run_sql(
        seeded,
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'kept by the app'; END $$",
        "CREATE TRIGGER keep BEFORE DELETE ON users FOR EACH ROW WHEN (OLD.id = 60) EXECUTE FUNCTION keep()",
    )
    before = await digest(seeded)
    with raises("server-error", "kept by the app", kind=RunError):
        await cleanup(seeded, [1])
    assert await digest(seeded) == before


async def test_runs_in_two_schemas_are_told_apart(database: Address) -> None:
    await load(plan_of("2x"), database)
    await run_sql(database, "ALTER SCHEMA public RENAME TO one", "CREATE SCHEMA public")
    await create_missing(database)
    # the app's own rows in the other schema, with the very keys of the seeded ones
    for table in ("users", "channels", "user_channels"):
        await run_sql(database, f"INSERT INTO public.{table} SELECT * FROM one.{table}")
    before = await digest(database)
    await run_sql(database, "SELECT setval('public.users_id_seq', 100), setval('public.channels_id_seq', 100)")
    await load(plan_of("2x"), database)
    await run_sql(database, "UPDATE bulkseed.runs SET target_schema = 'one' WHERE id = 1")
    await cleanup(database, [1, 2])
    assert await digest(database) == before
    async with open_connection(database) as connection:
        assert await connection.fetchval("SELECT count(*) FROM one.users") == 0


@pytest.mark.core
async def test_foreign_keys_in_a_circle_are_no_obstacle(seeded: Address) -> None:
    await run_sql(
        seeded,
        "ALTER TABLE users ADD last_message bigint REFERENCES messages",
        "UPDATE users SET last_message = 1 WHERE id = 1",
        APP_ROWS_THAT_POINT["a reply to a seeded message"][0],
    )
    with raises("referenced-rows", "parent_id", kind=RunError):
        await cleanup(seeded, [1])
    report = await cleanup(seeded, [1], cascade=True)
    assert report.others == {'"public"."messages"': 1}
    assert report.removed["users"] == 60
    assert {table: rows for table, (rows, _) in (await digest(seeded)).items() if rows} == {"reactions": 12}


async def test_commands_that_meet_take_turns(database: Address) -> None:
    for _ in range(3):
        first = await load(plan_of(), database)
        second = await load(plan_of(), database)
        loaded, _, _ = await asyncio.gather(
            load(plan_of(), database), cleanup(database, [first.run]), cleanup(database, [second.run])
        )
        assert [run.number for run in await find_removable_runs(database)] == [loaded.run]
        await cleanup(database, [loaded.run])
    assert not await has_ledger(database)


async def test_row_security_hides_nothing_from_it(seeded: Address) -> None:
    await run_sql(
        seeded,
        f"ALTER DATABASE {seeded.url.database} OWNER TO CURRENT_USER",
        "DROP ROLE IF EXISTS sweeper",
        "CREATE ROLE sweeper LOGIN",
        "GRANT USAGE ON SCHEMA bulkseed TO sweeper",
        "GRANT ALL ON ALL TABLES IN SCHEMA bulkseed, public TO sweeper",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
    )
    before = await digest(seeded)
    sweeper = Address(seeded.url._replace(username="sweeper"))
    try:
        with raises("row-security", '"public"."users"', "ALTER ROLE sweeper BYPASSRLS", kind=TargetError):
            await cleanup(sweeper, [1])
        assert await digest(seeded) == before
        await run_sql(seeded, "ALTER TABLE users DISABLE ROW LEVEL SECURITY", "REVOKE DELETE ON messages FROM sweeper")
        with raises("missing-privilege", 'GRANT DELETE ON "public"."messages" TO sweeper', kind=TargetError):
            await cleanup(sweeper, [1])
        await run_sql(seeded, "GRANT DELETE ON messages TO sweeper")
        await cleanup(sweeper, [1])
        assert await has_ledger(seeded)  # whose owner another one is
    finally:
        await run_sql(seeded, "DROP OWNED BY sweeper", "DROP ROLE sweeper")


async def test_tables_that_were_dropped_hold_nothing_to_remove(seeded: Address) -> None:
    await run_sql(seeded, "DROP TABLE message_reactions, messages")
    report = await cleanup(seeded, [1])
    assert report.removed["users"] == 60
    assert report.removed["messages"] == 0
    assert not await has_ledger(seeded)


async def test_rows_that_a_trigger_holds_back_are_not_forgotten(seeded: Address) -> None:
    await run_sql(
        seeded,
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER hold BEFORE DELETE ON message_reactions FOR EACH ROW EXECUTE FUNCTION hold()",
        "ALTER TABLE message_reactions DROP CONSTRAINT message_reactions_message_id_fkey",
        "ALTER TABLE message_reactions DROP CONSTRAINT message_reactions_user_id_fkey",
    )
    before = await digest(seeded)
    with raises("rows-kept", '"public"."message_reactions"', kind=RunError):
        await cleanup(seeded, [1])
    assert await digest(seeded) == before
    assert await has_ledger(seeded)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
async def test_timestamptz_columns_are_known_again(database: Address, zone: str) -> None:
    await run_sql(
        database,
        *(f"ALTER TABLE {table} ALTER created_at TYPE timestamptz" for table in ("users", "channels", "messages")),
        f"ALTER DATABASE {database.url.database} SET timezone TO '{zone}'",
    )
    report = await load(plan_of(), database)
    assert dict((await cleanup(database, [1])).removed) == dict(report.rows)


BRACES = """
[columns.users]
id = "a{b}"
created_at = "{row}"
[columns.channels]
owner_id = "{alias} \\" {}"
"""
RENAMES = (
    'ALTER TABLE users RENAME id TO "a{b}"',
    'ALTER TABLE users RENAME created_at TO "{row}"',
    'ALTER TABLE channels RENAME owner_id TO "{alias} "" {}"',
)


@pytest.mark.parametrize("declared", [True, False], ids=["foreign keys", "no foreign keys"])
async def test_names_of_columns_may_have_braces(database: Address, tmp_path: Path, declared: bool) -> None:
    if not declared:
        await run_sql(database, "ALTER TABLE channels DROP CONSTRAINT channels_owner_id_fkey")
    await run_sql(database, *RENAMES)
    before = await digest(database)
    loaded = await load(planned(tmp_path, BRACES), database)
    await run_sql(
        database,
        f"""INSERT INTO channels (name, {identifier('{alias} " {}')}, created_at, is_private, is_dm)
            SELECT 'app', max("a{{b}}"), now(), false, false FROM users""",
    )
    with raises("referenced-rows", "1 of public.channels", kind=RunError):
        await cleanup(database, [1])
    report = await cleanup(database, [1], cascade=True)
    assert dict(report.removed) == dict(loaded.rows)
    assert report.others == {'"public"."channels"': 1}
    assert await digest(database) == before
