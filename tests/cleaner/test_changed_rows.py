"""Cleanup and undo of rows that were changed since they were loaded: none is left behind or taken for gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.cleaner.compare_rows import Changed
from bulkseed.errors import RunError
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from support.app_rows import APP_ROWS
from support.commands import bulkseed
from support.errors import raises
from support.listeners import Notes
from support.obstacles import FAIL
from support.plans import plan_of, planned
from support.queries import EMPTY, counts, digest, has_ledger, rows, run_sql

MOVED = [
    f"UPDATE {table} SET created_at = created_at + interval '30 days'" for table in ("users", "channels", "messages")
]
STAMP = """
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.created_at = date_trunc('hour', NEW.created_at) + interval '1 s'; RETURN NEW; END $$;
CREATE TRIGGER stamp BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION stamp();
"""
STAMPED = [STAMP.format(table="users"), STAMP.split(";\n")[-2].format(table="channels")]


@pytest.mark.parametrize(
    "moved", [slice(3), slice(1), slice(1, 2), slice(2, 3)], ids=["all", "users", "channels", "messages"]
)
async def test_rows_whose_times_were_moved_are_removed_and_told(database: Address, moved: slice) -> None:
    await run_sql(database, *APP_ROWS)
    before = await digest(database)
    loaded = await load(plan_of("3x"), database)
    where = " WHERE id > 10"  # none of the app's own
    await run_sql(database, *(statement + where for statement in MOVED[moved]))
    changed = dict(
        zip(("users", "channels", "messages"), (loaded.rows[t] for t in ("users", "channels", "messages")), strict=True)
    )
    listener = Notes()
    report = await cleanup(database, [1], listener=listener)
    assert dict(report.removed) == dict(loaded.rows)
    tables = list(changed)[moved]
    assert report.changed == {table: changed[table] for table in tables}
    assert not report.missing
    assert all(any(table in note and "created_at" in note for note in listener.said) for table in tables)
    assert await digest(database) == before
    assert not await has_ledger(database)


async def test_a_trigger_that_stamps_rows_hides_none_from_cleanup(database: Address) -> None:
    await run_sql(database, *STAMPED)
    loaded = await load(plan_of("3x"), database)
    report = await cleanup(database, [1])
    assert dict(report.removed) == dict(loaded.rows)
    assert report.changed == {table: loaded.rows[table] for table in ("users", "channels")}
    assert await counts(database) == EMPTY


async def test_a_trigger_that_stamps_rows_hides_none_from_undoing(database: Address) -> None:
    await run_sql(database, *STAMPED, FAIL)
    with raises("server-error", "no more", kind=RunError):
        await load(plan_of("3x"), database, rows_per_shard=500)
    assert await counts(database) == EMPTY
    assert not await has_ledger(database)


async def test_rows_with_ids_of_a_run_that_look_otherwise_are_refused_removed_or_kept(seeded: Address) -> None:
    await run_sql(
        seeded,
        "UPDATE users SET created_at = now(), auth0_id = 'x' || id, email = 'x' || id, name = 'x', bio = 'x', "
        "picture = 'x' WHERE id <= 4",
        "DELETE FROM message_reactions WHERE user_id <= 4",
    )
    before = await digest(seeded)
    with raises("changed-rows", '4 rows of "public"."users"', "id 1, 2, 3", "--changed remove", kind=RunError):
        await cleanup(seeded, [1])
    assert await digest(seeded) == before
    assert await has_ledger(seeded)
    done = bulkseed("cleanup", "--yes", "--changed", "remove", BULKSEED_DATABASE_URL=seeded.dsn)
    assert done.returncode == 0, done.stderr
    assert await counts(seeded) == EMPTY


async def test_an_apps_rows_with_ids_used_again_stay(seeded: Address) -> None:
    await run_sql(
        seeded,
        "TRUNCATE users, channels, user_channels, messages, message_reactions RESTART IDENTITY CASCADE",
        *APP_ROWS,
    )
    before = await digest(seeded)
    with raises("changed-rows", "--changed keep", kind=RunError):
        await cleanup(seeded, [1], cascade=True)
    report = await cleanup(seeded, [1], changed="keep")
    assert not any(report.removed.values())
    assert report.missing["users"] == 53
    assert await digest(seeded) == before
    assert not await has_ledger(seeded)


async def test_rows_that_are_gone_are_told_with_their_keys(seeded: Address) -> None:
    await run_sql(
        seeded,
        "DELETE FROM message_reactions WHERE message_id IN (5, 7, 9, 11)",
        "UPDATE messages SET parent_id = NULL WHERE parent_id IN (5, 7)",
        "DELETE FROM messages WHERE id IN (5, 7)",
    )
    listener = Notes()
    report = await cleanup(seeded, [1], listener=listener)
    assert report.missing["messages"] == 2
    assert any("2 of the" in note and "id 5, 7" in note for note in listener.said), listener.said
    assert await counts(seeded) == EMPTY


CODES = "[columns.channels]\ncreated_at = false\n"


async def test_channels_without_a_time_of_creation_are_all_removed(database: Address, tmp_path: Path) -> None:
    await run_sql(database, "ALTER TABLE channels DROP created_at")
    loaded = await load(planned(tmp_path, CODES), database)
    assert await rows(database, "SELECT count(*) > 0 FROM channels WHERE join_code IS NULL") == [(True,)]
    await run_sql(database, "UPDATE channels SET name = 'renamed' WHERE id < 5")
    report = await cleanup(database, [1])
    assert dict(report.removed) == dict(loaded.rows)
    assert await counts(database) == EMPTY


@pytest.mark.parametrize("changed", ["refuse", "keep"])
async def test_uuid_keys_of_changed_rows_are_named(database: Address, changed: Changed) -> None:
    await run_sql(
        database,
        "DROP TABLE message_reactions, messages, user_channels, channels, users CASCADE",
        "CREATE TABLE users (id uuid PRIMARY KEY, auth0_id text, email text, is_active boolean, "
        "created_at timestamptz, name text, picture text, bio text)",
        "CREATE TABLE channels (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, description text, "
        "owner_id uuid REFERENCES users, created_at timestamptz, is_private boolean, is_dm boolean, join_code text)",
        "CREATE TABLE user_channels (user_id uuid, channel_id bigint, PRIMARY KEY (user_id, channel_id))",
        "CREATE TABLE messages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content text, "
        "created_at timestamptz, updated_at timestamptz, user_id uuid, channel_id bigint, parent_id bigint)",
        "CREATE TABLE message_reactions (message_id bigint, reaction_id bigint, user_id uuid, created_at timestamptz, "
        "PRIMARY KEY (message_id, reaction_id, user_id))",
    )
    loaded = await load(plan_of(), database)
    await run_sql(database, MOVED[0])
    report = await cleanup(database, [1], changed=changed)
    assert dict(report.removed) == dict(loaded.rows)
    assert await counts(database) == EMPTY
