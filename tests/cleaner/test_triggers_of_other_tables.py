"""Cleanup where the triggers and rules that act on deletions are on tables of the app that go with the loaded rows."""

from __future__ import annotations

import re
from typing import Final

import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from support.errors import raises
from support.plans import plan_of
from support.queries import EMPTY, counts, digest, rows, run_sql

KEEP: Final = """
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
"""
NOTES: Final = """
CREATE TABLE notes (id int PRIMARY KEY, user_id bigint REFERENCES users{action});
INSERT INTO notes SELECT row_number() OVER (), min(id) FROM users;
CREATE TABLE replies (note int REFERENCES notes{action});
INSERT INTO replies SELECT id FROM notes;
"""
RULE: Final = "CREATE RULE soft AS ON DELETE TO {table} DO INSTEAD NOTHING"
TRIGGER: Final = KEEP + "CREATE TRIGGER hold BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION keep()"


@pytest.mark.parametrize(
    ("obstacle", "code", "table", "action"),
    [
        (RULE, "delete-rule", "notes", ""),
        (RULE, "delete-rule", "replies", " ON DELETE CASCADE"),
        (TRIGGER, "rows-kept", "replies", ""),
        (TRIGGER, "rows-kept", "notes", " ON DELETE CASCADE"),
    ],
    ids=["rule", "rule and cascade", "trigger", "trigger and cascade"],
)
async def test_fault_24_an_obstacle_on_a_table_that_references_loaded_rows(
    seeded: Address, obstacle: str, code: str, table: str, action: str
) -> None:
    await run_sql(seeded, NOTES.format(action=action), obstacle.format(table=table))
    before = await digest(seeded)
    with raises(code, f'"public"."{table}"') as refused:
        await cleanup(seeded, [1], cascade=True)
    assert await digest(seeded) == before
    # the advice works
    await run_sql(seeded, *re.findall(r"ALTER TABLE \S+ DISABLE (?:RULE|TRIGGER) [\w\"]+", str(refused.value)))
    await cleanup(seeded, [1], cascade=True)
    assert await counts(seeded) == EMPTY
    assert await rows(seeded, f"SELECT count(*) FROM {table}") == [(0,)]


PARTITIONED: Final = """
DROP TABLE message_reactions;
CREATE TABLE message_reactions (
    message_id bigint NOT NULL REFERENCES messages, reaction_id bigint NOT NULL REFERENCES reactions,
    user_id bigint NOT NULL REFERENCES users, created_at timestamptz NOT NULL,
    PRIMARY KEY (message_id, reaction_id, user_id)) PARTITION BY HASH (message_id);
CREATE TABLE reactions_0 PARTITION OF message_reactions FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE "Reactions 1" PARTITION OF message_reactions FOR VALUES WITH (MODULUS 2, REMAINDER 1);
"""


async def test_fault_24_a_trigger_of_a_partition_that_keeps_rows_is_named(database: Address) -> None:
    await run_sql(database, PARTITIONED)
    await load(plan_of(), database)
    await run_sql(database, TRIGGER.format(table='"Reactions 1"'))
    before = await digest(database)
    with raises("rows-kept", "hold", '"Reactions 1"') as refused:
        await cleanup(database, [1])
    assert await digest(database) == before
    await run_sql(database, *re.findall(r"ALTER TABLE .+ DISABLE TRIGGER [\w\"]+", str(refused.value)))
    await cleanup(database, [1])
    assert await counts(database) == EMPTY
