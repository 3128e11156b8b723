"""Cleanup of tables whose triggers and rules act on deletions."""

from __future__ import annotations

import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.errors import RunError, TargetError
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from support.errors import raises
from support.listeners import Notes
from support.obstacles import FAIL
from support.plans import plan_of
from support.queries import EMPTY, counts, digest, has_ledger, run_sql

COUNTERS = """
ALTER TABLE channels ADD message_count integer NOT NULL DEFAULT 0;
ALTER TABLE messages ADD reply_count integer NOT NULL DEFAULT 0;
CREATE FUNCTION uncount() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE channels SET message_count = message_count - 1 WHERE id = OLD.channel_id;
    UPDATE messages SET reply_count = reply_count - 1 WHERE id = OLD.parent_id;
    RETURN OLD;
END $$;
CREATE TRIGGER uncount BEFORE DELETE ON messages FOR EACH ROW EXECUTE FUNCTION uncount();
"""
HOLD = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER hold BEFORE DELETE ON message_reactions FOR EACH ROW EXECUTE FUNCTION hold();
"""
WALL = """
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE users SET is_active = true WHERE id = OLD.id; RETURN OLD;
END $$;
CREATE TRIGGER touch BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION touch();
"""
APP_CASCADE = """
CREATE FUNCTION sweep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    DELETE FROM message_reactions WHERE message_id = OLD.id; RETURN OLD;
END $$;
CREATE TRIGGER sweep BEFORE DELETE ON messages FOR EACH ROW EXECUTE FUNCTION sweep();
"""


async def test_triggers_that_update_parents_are_no_obstacle(seeded: Address) -> None:
    await run_sql(seeded, COUNTERS)
    await cleanup(seeded, [1])
    assert await counts(seeded) == EMPTY


async def test_triggers_that_update_parents_do_not_prevent_undoing(database: Address) -> None:
    await run_sql(database, COUNTERS, FAIL)
    with raises("server-error", "no more", kind=RunError):
        await load(plan_of("3x"), database, rows_per_shard=500)
    assert await counts(database) == EMPTY
    assert not await has_ledger(database)


async def test_triggers_that_delete_children_are_no_obstacle(seeded: Address) -> None:
    await run_sql(seeded, APP_CASCADE)
    await cleanup(seeded, [1])
    assert await counts(seeded) == EMPTY


async def test_a_trigger_that_changes_the_row_itself_is_named(seeded: Address) -> None:
    await run_sql(seeded, WALL)
    before = await digest(seeded)
    with raises("trigger-changes-rows", "touch", 'ALTER TABLE "public"."users" DISABLE TRIGGER', kind=RunError):
        await cleanup(seeded, [1])
    assert await digest(seeded) == before
    assert await has_ledger(seeded)
    await run_sql(seeded, 'ALTER TABLE "public"."users" DISABLE TRIGGER "touch"')
    await cleanup(seeded, [1])
    assert await counts(seeded) == EMPTY


async def test_a_trigger_that_keeps_rows_which_reference_others_is_named(seeded: Address) -> None:
    await run_sql(seeded, HOLD)
    before = await digest(seeded)
    with raises("rows-kept", "hold", 'ALTER TABLE "public"."message_reactions" DISABLE TRIGGER', kind=RunError):
        await cleanup(seeded, [1])
    assert await digest(seeded) == before
    await run_sql(seeded, 'ALTER TABLE "public"."message_reactions" DISABLE TRIGGER "hold"')
    await cleanup(seeded, [1])
    assert await counts(seeded) == EMPTY


@pytest.mark.parametrize(
    "action",
    ["INSTEAD NOTHING", "INSTEAD UPDATE users SET is_active = false WHERE id = OLD.id", "ALSO NOTIFY gone"],
    ids=["nothing", "update", "also"],
)
async def test_rules_on_deletions_are_named(seeded: Address, action: str) -> None:
    await run_sql(seeded, f'CREATE RULE "soft delete" AS ON DELETE TO users DO {action}')
    before = await digest(seeded)
    with raises("delete-rule", 'ALTER TABLE "public"."users" DISABLE RULE "soft delete"', kind=TargetError):
        await cleanup(seeded, [1])
    assert await digest(seeded) == before
    await run_sql(seeded, 'ALTER TABLE "public"."users" DISABLE RULE "soft delete"')
    await cleanup(seeded, [1])
    assert await counts(seeded) == EMPTY


async def test_rows_that_triggers_wrote_elsewhere_are_mentioned(database: Address) -> None:
    await run_sql(
        database,
        """CREATE TABLE queue (job text);
           CREATE FUNCTION enqueue() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN INSERT INTO queue VALUES ('index ' || NEW.id); RETURN NULL; END $$;
           CREATE TRIGGER enqueue AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION enqueue()""",
    )
    await load(plan_of(), database)
    listener = Notes()
    await cleanup(database, [1], listener=listener)
    assert any("enqueue of messages" in note for note in listener.said), listener.said
