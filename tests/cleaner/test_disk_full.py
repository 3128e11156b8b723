"""Cleanup on a full disk: a trigger raises the error of a full disk whenever many rows are deleted at once."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from bulkseed.cleaner.cleanup import cleanup, vacuum
from bulkseed.embedded import Server
from bulkseed.errors import DiskFullError, RunError
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.sql import identifier
from support.app_rows import APP_ROWS
from support.errors import raises
from support.listeners import Notes
from support.pg_dump import dump
from support.plans import plan_of, planned
from support.queries import digest, run_sql

FULL = """
CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM gone) > {most} THEN
        RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER full_disk AFTER DELETE ON messages REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION fill();
"""
EMPTY = "DROP TRIGGER full_disk ON messages; DROP FUNCTION fill()"
CUT_OFF = "UPDATE bulkseed.runs SET state = 'loading', rows = NULL, finished_at = NULL WHERE id = 1"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkseed.cleaner.cleanup.ROWS_AT_ONCE", 1000)


@pytest.mark.parametrize("moment", ["timestamp", "timestamptz", "moment"])
async def test_an_interrupted_run_is_removed_in_batches(database: Address, server: Server, moment: str) -> None:
    await run_sql(database, "CREATE DOMAIN moment AS timestamp CHECK (VALUE > '2000-01-01')")
    for table in ("users", "channels", "messages", "message_reactions"):
        await run_sql(database, f"ALTER TABLE {table} ALTER created_at TYPE {moment}")
    await run_sql(database, *APP_ROWS)
    before = await digest(database), dump(server, database)
    loaded = await load(plan_of("3x"), database, rows_per_shard=300)
    await run_sql(database, CUT_OFF, FULL.format(most=loaded.rows["messages"] // 4))
    listener = Notes()
    done = await cleanup(database, [1], listener=listener)
    assert done.removed == loaded.rows
    assert any("disk" in note for note in listener.said)
    await run_sql(database, EMPTY)
    assert (await digest(database), dump(server, database)) == before


async def test_names_of_columns_may_have_braces(database: Address, tmp_path: Path) -> None:
    await run_sql(database, 'ALTER TABLE users RENAME id TO "a{b}"', 'ALTER TABLE messages RENAME id TO "{row} {}"')
    before = await digest(database)
    plan = planned(tmp_path, '[columns.users]\nid = "a{b}"\n[columns.messages]\nid = "{row} {}"')
    loaded = await load(plan, database, rows_per_shard=300)
    await run_sql(database, CUT_OFF, FULL.format(most=loaded.rows["messages"] // 4))
    assert (await cleanup(database, [1])).removed == loaded.rows
    assert await digest(database) == before


async def test_without_any_room_a_later_cleanup_removes_the_rest(database: Address, server: Server) -> None:
    before = await digest(database), dump(server, database)
    await load(plan_of("3x"), database, rows_per_shard=300)
    await run_sql(database, CUT_OFF, FULL.format(most=0))
    with raises("disk-full", "no room", kind=DiskFullError):
        await cleanup(database, [1])
    await run_sql(database, EMPTY)
    await cleanup(database, [1])
    assert (await digest(database), dump(server, database)) == before


async def test_tries_without_room_write_nothing_to_the_ledger(database: Address) -> None:
    """Each version of a row needs room, which would sometime be too little."""
    await load(plan_of("3x"), database, rows_per_shard=300)
    await run_sql(database, CUT_OFF, FULL.format(most=0))
    versions = []
    async with open_connection(database) as connection:
        for _ in range(2):
            with raises("disk-full", kind=DiskFullError):
                await cleanup(database, [1])
            versions.append(await connection.fetchval("SELECT ctid::text || state FROM bulkseed.runs"))
        # run 2 gets a page of its own, whose free room is for the versions of its row
        await run_sql(database, EMPTY, "UPDATE bulkseed.runs SET state = 'whole', rows = expected")
        await load(plan_of(seed=2), database)
        pages = await connection.fetchval("SELECT count(DISTINCT (ctid::text::point)[0]) FROM bulkseed.runs")
    assert len(set(versions)) == 1
    assert pages == 2


async def test_a_complete_run_is_removed_at_once_or_not_at_all(seeded: Address) -> None:
    before = await digest(seeded)
    await run_sql(seeded, FULL.format(most=100))
    with raises("disk-full", kind=DiskFullError):
        await cleanup(seeded, [1])
    assert await digest(seeded) == before


async def test_rows_that_reference_a_batch_stop_the_removal_there(database: Address) -> None:
    loaded = await load(plan_of("3x"), database, rows_per_shard=300)
    await run_sql(database, CUT_OFF, FULL.format(most=loaded.rows["messages"] // 4))
    await run_sql(
        database,
        "INSERT INTO channels (name, owner_id, created_at, is_private, is_dm) VALUES ('app', 1, now(), false, false)",
    )
    with raises("referenced-rows", "1 of public.channels", kind=RunError):
        await cleanup(database, [1])
    async with open_connection(database) as connection:
        # whoever is pointed at, and the channels' owners were the last to go
        assert await connection.fetchval("SELECT count(*) FROM users") == loaded.rows["users"]
    await run_sql(database, EMPTY, "DELETE FROM channels WHERE name = 'app'")
    await cleanup(database, [1])
    assert {table: rows for table, (rows, _) in (await digest(database)).items() if rows} == {"reactions": 12}


async def test_rows_of_earlier_tries_are_counted(database: Address) -> None:
    """The disk is full once more in the middle of the removal in batches."""
    loaded = await load(plan_of("3x"), database, rows_per_shard=300)
    await run_sql(
        database,
        CUT_OFF,
        "CREATE SEQUENCE tries; SELECT nextval('tries')",
        FULL.format(most=loaded.rows["messages"] // 4).replace("THEN", "OR nextval('tries') = 5 THEN"),
    )
    done = await cleanup(database, [1])
    async with open_connection(database) as connection:
        assert await connection.fetchval("SELECT last_value FROM tries") > 5
    assert done.removed == loaded.rows


async def test_a_cancelled_vacuum_leaves_no_timeout(seeded: Address) -> None:
    async with open_connection(seeded) as holder, open_connection(seeded) as connection:
        await holder.execute("BEGIN; LOCK TABLE users")
        with anyio.move_on_after(0.3):
            await vacuum(connection, [identifier("public", "users")])
        assert await connection.fetchval("SELECT current_setting('lock_timeout')") == "0"
        await holder.execute("COMMIT")
