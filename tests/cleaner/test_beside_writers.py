"""Cleanup beside an application that writes: none of the application's rows goes unasked."""

from __future__ import annotations

import asyncio

import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.errors import RunError, TransientError
from bulkseed.listeners import Phase
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from support.errors import raises
from support.meanwhile import NOTES, Meanwhile, writing
from support.obstacles import FAIL
from support.plans import plan_of
from support.queries import EMPTY, counts, digest, has_ledger, rows, run_sql

NOTE = "INSERT INTO notes SELECT 'app', max(id) FROM users"
SETS_NULL = NOTES.replace("CASCADE", "SET NULL")
WITHOUT_KEYS = """
DO $$ DECLARE k record; BEGIN
  FOR k IN SELECT conrelid::regclass AS t, conname FROM pg_constraint WHERE contype = 'f' LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', k.t, k.conname);
  END LOOP; END $$"""
MESSAGE = """INSERT INTO messages (content, created_at, updated_at, user_id, channel_id)
             SELECT 'app', now(), now(), owner_id, id FROM channels ORDER BY id LIMIT 1"""


@pytest.mark.parametrize(
    ("prepare", "arrives", "table"),
    [
        (NOTES, NOTE, "notes"),
        (SETS_NULL, NOTE, "notes"),
        (NOTES.replace("ON DELETE CASCADE", ""), NOTE, "notes"),
        (NOTES.replace("ON DELETE CASCADE", "DEFERRABLE INITIALLY DEFERRED"), NOTE, "notes"),
        (WITHOUT_KEYS, MESSAGE, "messages"),
    ],
    ids=["cascade", "set null", "no action", "deferred", "no foreign key"],
)
async def test_a_row_that_arrives_after_the_count_stays(
    seeded: Address, prepare: str, arrives: str, table: str
) -> None:
    await run_sql(seeded, prepare)
    before = await digest(seeded, *EMPTY)
    with raises("referenced-rows", f"1 of public.{table}", kind=RunError):
        await cleanup(seeded, [1], listener=Meanwhile(seeded, Phase.REMOVE, arrives))
    column = {"notes": "name", "messages": "content"}[table]
    assert await rows(seeded, f"SELECT count(*) FROM {table} WHERE {column} = 'app'") == [(1,)]
    if table == "notes":
        assert await rows(seeded, "SELECT count(who) FROM notes") == [(1,)]
        assert await digest(seeded, *EMPTY) == before
    assert await has_ledger(seeded)


async def test_a_row_that_arrives_after_the_count_stays_where_the_server_counts_nothing(seeded: Address) -> None:
    await run_sql(seeded, NOTES, f"ALTER DATABASE {seeded.url.database} SET track_counts = off")
    # the tables are locked, so the statement waits until the cleanup has ended
    late = Meanwhile(seeded, Phase.REMOVE, f"SET lock_timeout = '100ms'; {NOTE}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("threading.excepthook", lambda _: None)
        await cleanup(seeded, [1], listener=late)
    assert await rows(seeded, "SELECT count(*) FROM notes") == [(0,)]
    assert await counts(seeded) == EMPTY


async def test_an_application_writes_throughout_a_cleanup(database: Address) -> None:
    await run_sql(database, NOTES)
    await load(plan_of("3x"), database)
    committed = 0
    for attempt in range(3):
        async with writing(database, f"app {attempt}") as writer:
            result = await asyncio.gather(cleanup(database, [1]), return_exceptions=True)
        assert not await writer.lost(database)
        committed += sum(map(len, writer.committed.values()))
        if not isinstance(result[0], BaseException):
            break
        assert isinstance(result[0], RunError)
        assert result[0].code == "referenced-rows"
        assert await has_ledger(database)
        await run_sql(database, "DELETE FROM notes", "DELETE FROM messages WHERE content LIKE 'app %'")
    assert committed


async def test_an_application_writes_throughout_an_undoing(database: Address) -> None:
    await run_sql(database, NOTES, FAIL)
    async with writing(database) as writer:
        with pytest.raises(RunError) as caught:
            await load(plan_of("3x"), database, rows_per_shard=500)
    assert caught.value.code in {"server-error", "undo-failed"}
    assert not await writer.lost(database)
    assert writer.committed["users"]


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM message_reactions WHERE message_id = 10",
        "UPDATE messages SET content = 'edited'",
        "UPDATE users SET is_active = NOT is_active",
    ],
    ids=["deleted", "messages updated", "users updated"],
)
async def test_loaded_rows_that_change_after_the_count_are_removed(seeded: Address, change: str) -> None:
    report = await cleanup(seeded, [1], listener=Meanwhile(seeded, Phase.REMOVE, change))
    assert await counts(seeded) == EMPTY
    assert (report.missing.get("message_reactions", 0) > 0) == change.startswith("DELETE")


async def test_loaded_rows_whose_times_move_after_the_count_are_removed(seeded: Address) -> None:
    moved = "UPDATE messages SET created_at = created_at + interval '1 day'"
    report = await cleanup(seeded, [1], listener=Meanwhile(seeded, Phase.REMOVE, moved))
    assert await counts(seeded) == EMPTY
    assert report.changed == {"messages": report.removed["messages"]}


async def test_rows_that_change_at_every_try_are_an_error(seeded: Address) -> None:
    moved = "UPDATE users SET created_at = created_at + interval '1 day'"
    with raises("rows-changed-meanwhile", '60 rows of "public"."users"', kind=TransientError):
        await cleanup(seeded, [1], listener=Meanwhile(seeded, Phase.REMOVE, moved, times=3))
    assert (await counts(seeded))["users"] == 60
    assert await has_ledger(seeded)


async def test_rows_to_cascade_to_are_locked_until_they_are_removed(seeded: Address) -> None:
    await run_sql(seeded, NOTES.replace("ON DELETE CASCADE", ""), NOTE)
    late = Meanwhile(seeded, Phase.REMOVE, "SET lock_timeout = '100ms'; UPDATE notes SET name = 'changed'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("threading.excepthook", lambda _: None)
        report = await cleanup(seeded, [1], cascade=True, listener=late)
    assert report.others == {'"public"."notes"': 1}
    assert await counts(seeded) == EMPTY


async def test_a_reader_of_the_ledger_does_not_hold_cleanup_up(seeded: Address) -> None:
    async with open_connection(seeded) as reader:
        await reader.execute("BEGIN; SELECT FROM bulkseed.runs")
        listener = Meanwhile(seeded, Phase.REMOVE)
        async with asyncio.timeout(30):
            await cleanup(seeded, [1], listener=listener)
        assert any(str(reader.get_server_pid()) in note for note in listener.said), listener.said
        await reader.execute("COMMIT")
    assert await counts(seeded) == EMPTY
    assert await has_ledger(seeded)
    await load(plan_of(), seeded)
    await cleanup(seeded, [1 + 1])
    assert not await has_ledger(seeded)


async def test_a_row_that_an_application_holds_is_named(seeded: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkseed.cleaner.delete_rows.LOCK_SECONDS", 1)
    before = await digest(seeded)
    async with open_connection(seeded) as holder:
        await holder.execute("BEGIN; SELECT FROM users WHERE id = 7 FOR UPDATE")
        with raises("no-lock", holder.get_server_pid(), kind=RunError):
            await cleanup(seeded, [1])
        await holder.execute("COMMIT")
    assert await digest(seeded) == before
