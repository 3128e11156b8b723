"""Triggers that write rows which several shards share: found by their functions, and loaded one shard at a time."""

from __future__ import annotations

from typing import Final

import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.loader.check import check
from bulkseed.loader.load import load
from bulkseed.plan.tables import Model
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.target.counter_triggers import find_counter_triggers, stages_of
from bulkseed.target.target import read_target
from support.listeners import Notes
from support.plans import plan_of
from support.queries import EMPTY, counts, rows, run_sql

COUNTER: Final = """
ALTER TABLE users ADD post_count bigint NOT NULL DEFAULT 0;
CREATE FUNCTION count_posts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN UPDATE users SET post_count = post_count + 1 WHERE id = NEW.user_id; RETURN NULL; END $$;
CREATE TRIGGER count_posts AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION count_posts();
"""


@pytest.mark.core
async def test_fault_11_counter_triggers_do_not_deadlock(database: Address) -> None:
    await run_sql(database, COUNTER)
    plan = plan_of("6x")
    checked = await check(plan, database, workers=3, rows_per_shard=1000)
    assert [note for note in checked.notes if "count_posts" in note and "public.messages" in note]
    notes = Notes()
    report = await load(plan, database, workers=3, rows_per_shard=1000, listener=notes)
    assert [note for note in notes.said if "count_posts" in note and "public.messages" in note]
    # no try failed
    assert not [note for note in notes.said if "shard" in note]
    assert report.workers == 3
    assert await rows(database, "SELECT sum(post_count) FROM users") == await rows(
        database, "SELECT count(*) FROM messages"
    )
    await cleanup(database, [report.run])
    assert await counts(database) == EMPTY
    # one worker needs no such order
    notes = Notes()
    await load(plan_of(), database, workers=1, listener=notes)
    assert not [note for note in notes.said if "count_posts" in note]
    assert not (await check(plan_of(), database, workers=1)).notes


BODIES: Final = {
    "an update": ("plpgsql", "BEGIN UPDATE users SET name = name; RETURN NEW; END", True),
    "an upsert": (
        "plpgsql",
        "BEGIN INSERT INTO log VALUES (1) ON CONFLICT (n) DO UPDATE SET n = 2; RETURN NEW; END",
        True,
    ),
    "a deletion": ("plpgsql", "BEGIN DELETE FROM log; RETURN NEW; END", True),
    "a row lock": ("plpgsql", "BEGIN PERFORM id FROM users WHERE id = NEW.user_id FOR UPDATE; RETURN NEW; END", True),
    "an advisory lock": ("plpgsql", "BEGIN PERFORM pg_advisory_xact_lock(NEW.channel_id); RETURN NEW; END", True),
    "a function that updates": ("plpgsql", "BEGIN PERFORM public.bump(NEW.user_id); RETURN NEW; END", True),
    "a table whose trigger updates": ("plpgsql", "BEGIN INSERT INTO queue VALUES (1); RETURN NEW; END", True),
    "a statement as text": ("plpgsql", "BEGIN EXECUTE 'UPDATE users SET name = name'; RETURN NEW; END", True),
    "a statement that cannot be read": ("plpgsql", "BEGIN EXECUTE TG_ARGV[0]; RETURN NEW; END", True),
    "new rows": ("plpgsql", "BEGIN INSERT INTO log VALUES (1); RETURN NEW; END", False),
    "new rows by a text": ("plpgsql", "BEGIN EXECUTE 'INSERT INTO log VALUES (1)'; RETURN NEW; END", False),
    "its own row": (
        "plpgsql",
        "BEGIN /* update */ IF TG_OP = 'UPDATE' THEN NEW.content = 'on conflict'; END IF; -- delete from\n"
        "NEW.updated_at = now(); RETURN NEW; END",
        False,
    ),
    "a function that only reads": ("plpgsql", "BEGIN NEW.content = shorten(NEW.content); RETURN NEW; END", False),
}
FUNCTIONS: Final = """
CREATE TABLE log (n int PRIMARY KEY);
CREATE TABLE queue (n int);
CREATE FUNCTION bump(bigint) RETURNS void LANGUAGE sql BEGIN ATOMIC UPDATE users SET name = name WHERE id = $1; END;
CREATE FUNCTION shorten(text) RETURNS text LANGUAGE sql AS $$ SELECT left($1, 10) $$;
CREATE FUNCTION count_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN UPDATE log SET n = n + 1; RETURN NULL; END $$;
CREATE TRIGGER count_queue AFTER INSERT ON queue FOR EACH STATEMENT EXECUTE FUNCTION count_queue();
"""


async def test_fault_11_what_a_trigger_writes_is_read_from_its_function(database: Address) -> None:
    await run_sql(database, FUNCTIONS)
    async with open_connection(database) as connection:
        target = await read_target(connection, Model(plan_of().scenario))
        for name, (language, body, expected) in BODIES.items():
            for timing in ("BEFORE INSERT OR UPDATE", "AFTER UPDATE"):
                await connection.execute(
                    f"CREATE FUNCTION act() RETURNS trigger LANGUAGE {language} AS $body$ {body} $body$;"
                    f"CREATE TRIGGER act {timing} ON messages FOR EACH ROW EXECUTE FUNCTION act()"
                )
                found = await find_counter_triggers(connection, target)
                assert bool(found) == (expected and "INSERT" in timing), (name, timing)
                assert stages_of(found, target) <= {"messages"}
                await connection.execute("DROP FUNCTION act() CASCADE")
        await connection.execute(
            "CREATE TRIGGER act AFTER INSERT ON users REFERENCING NEW TABLE AS added "
            "FOR EACH STATEMENT EXECUTE FUNCTION count_queue()"
        )
        assert stages_of(await find_counter_triggers(connection, target), target) == {"users"}
        await connection.execute("ALTER TABLE users DISABLE TRIGGER act")
        assert not await find_counter_triggers(connection, target)


async def test_a_table_in_a_schema_that_the_user_may_not_use_is_found(database: Address) -> None:
    await run_sql(
        database,
        "CREATE SCHEMA audit",
        "CREATE TABLE audit.log (n int)",
        "CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
        "$$ BEGIN INSERT INTO audit.log VALUES (1); RETURN NULL; END $$",
        "CREATE TRIGGER note AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION audit.note()",
        "CREATE ROLE reader_of_triggers",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO reader_of_triggers",
    )
    try:
        async with open_connection(database) as connection:
            target = await read_target(connection, Model(plan_of().scenario))
            await connection.execute("SET ROLE reader_of_triggers")
            assert await find_counter_triggers(connection, target) == []
            await connection.execute("RESET ROLE")
            await connection.execute(FUNCTIONS.replace("ON queue", "ON audit.log"))
            await connection.execute("SET ROLE reader_of_triggers")
            assert stages_of(await find_counter_triggers(connection, target), target) == {"users"}
    finally:
        await run_sql(database, "DROP OWNED BY reader_of_triggers", "DROP ROLE reader_of_triggers")
