"""Undoing with little room: a trigger stands in for the disk, and is full whenever much is deleted at once."""

from __future__ import annotations

import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.embedded import Server
from bulkseed.errors import DiskFull, RunError
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import connected
from support.app_rows import APP_ROWS
from support.listeners import Notes
from support.pg_dump import dump
from support.plans import plan_of
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
async def test_a_run_that_was_cut_off_is_removed_in_parts(database: Address, server: Server, moment: str) -> None:
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
    assert any("the server's disk is full" in note for note in listener.said)
    await run_sql(database, EMPTY)
    assert (await digest(database), dump(server, database)) == before


async def test_where_there_is_no_room_at_all_it_goes_on_another_time(database: Address, server: Server) -> None:
    before = await digest(database), dump(server, database)
    await load(plan_of("3x"), database, rows_per_shard=300)
    await run_sql(database, CUT_OFF, FULL.format(most=0))
    with pytest.raises(DiskFull, match=r"the server's disk is full \(no room"):
        await cleanup(database, [1])
    await run_sql(database, EMPTY)
    await cleanup(database, [1])
    assert (await digest(database), dump(server, database)) == before


async def test_a_whole_run_goes_at_once_or_not_at_all(seeded: Address) -> None:
    before = await digest(seeded)
    await run_sql(seeded, FULL.format(most=100))
    with pytest.raises(DiskFull):
        await cleanup(seeded, [1])
    assert await digest(seeded) == before


async def test_rows_that_point_at_a_part_stop_it_there(database: Address) -> None:
    loaded = await load(plan_of("3x"), database, rows_per_shard=300)
    await run_sql(database, CUT_OFF, FULL.format(most=loaded.rows["messages"] // 4))
    await run_sql(
        database,
        "INSERT INTO channels (name, owner_id, created_at, is_private, is_dm) VALUES ('app', 1, now(), false, false)",
    )
    with pytest.raises(RunError, match="point at seeded rows: 1 of"):
        await cleanup(database, [1])
    async with connected(database) as connection:
        # whoever is pointed at, and the channels' owners were the last to go
        assert await connection.fetchval("SELECT count(*) FROM users") == loaded.rows["users"]
    await run_sql(database, EMPTY, "DELETE FROM channels WHERE name = 'app'")
    await cleanup(database, [1])
    assert {table: rows for table, (rows, _) in (await digest(database)).items() if rows} == {"reactions": 12}
