"""Loads without the indexes and keys: when that is done, and that the schema is the same afterwards."""

from __future__ import annotations

import re

import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.embedded import Server
from bulkseed.errors import TargetError
from bulkseed.listeners import Phase
from bulkseed.loader.complete import is_worth_deferring
from bulkseed.loader.load import load
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.target.guard import estimate_rows
from support.app_rows import APP_ROWS
from support.errors import raises
from support.listeners import Notes, Phases
from support.museum import MUSEUM
from support.obstacles import GUEST
from support.pg_dump import dump
from support.plans import plan_of
from support.queries import has_ledger, run_sql


@pytest.mark.core
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_deferred_load_leaves_the_schema_as_it_was(database: Address, server: Server, workers: int) -> None:
    await run_sql(database, *APP_ROWS, MUSEUM)
    before = dump(server, database)
    report = await load(plan_of("3x"), database, rows_per_shard=2000, workers=workers, defer="always")
    assert report.deferred
    assert dump(server, database) == before
    async with open_connection(database) as connection:
        assert await connection.fetchval("SELECT every(rebuilt_at IS NOT NULL) FROM bulkseed.deferred")
        assert await connection.fetchval(
            "SELECT every(last_analyze IS NOT NULL) FROM pg_stat_user_tables WHERE relname = ANY ($1)", TABLE_NAMES
        )
    await cleanup(database, [report.run])
    assert dump(server, database) == before
    assert not await has_ledger(database)


async def test_a_table_that_an_app_holds_is_named_and_nothing_is_touched(
    database: Address, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkseed.loader.complete.LOCK_SECONDS", 0.1)
    before = dump(server, database)
    async with open_connection(database) as app:
        await app.execute("BEGIN; SELECT FROM channels")
        with raises("no-lock", "channels", "run 1", kind=TargetError):
            await load(plan_of(), database, defer="always")
    assert dump(server, database) == before
    assert not await has_ledger(database)


async def test_indexes_that_cannot_be_dropped_stay_with_a_note(database: Address, server: Server) -> None:
    await run_sql(
        database,
        "CREATE ROLE stranger; ALTER TABLE messages OWNER TO stranger",
        "CREATE ROLE loader LOGIN",
        f"GRANT CREATE ON DATABASE {database.url.database} TO loader",
        "GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA public TO loader",
        "GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public TO loader",
    )
    try:
        before = dump(server, database)
        notes = Notes()
        login = Address(database.url._replace(username="loader"))
        report = await load(plan_of(), login, defer="always", listener=notes)
        assert not report.deferred
        assert any("messages" in note for note in notes.said)
        assert dump(server, database) == before
    finally:
        await run_sql(
            database,
            "DROP SCHEMA IF EXISTS bulkseed CASCADE; REASSIGN OWNED BY stranger TO bulkseed",
            "DROP OWNED BY loader; DROP OWNED BY stranger; DROP ROLE loader; DROP ROLE stranger",
        )


async def test_a_trigger_at_insert_keeps_indexes_and_keys_in_place(
    database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkseed.loader.complete.LEAST_ROWS", 0)
    await run_sql(database, GUEST)
    notes = Notes()
    assert not (await load(plan_of(), database, listener=notes)).deferred
    assert any({"guest", "channels", "always"} <= set(re.findall(r"\w+", note)) for note in notes.said)
    await run_sql(database, "ALTER TABLE channels DISABLE TRIGGER guest")
    assert (await load(plan_of(), database, listener=notes)).deferred


@pytest.mark.parametrize("workers", [1, 2])
async def test_tells_its_phases_and_the_steps_of_the_rebuilding(database: Address, workers: int) -> None:
    await run_sql(database, MUSEUM)
    progress = Phases()
    await load(plan_of(), database, defer="always", workers=workers, rows_per_shard=100, listener=progress)
    loading = [Phase.CHECK, Phase.RESERVE, Phase.DROP, Phase.COPY, Phase.REBUILD, Phase.COMMIT]
    assert progress.phases == loading
    progress.assert_counted(Phase.REBUILD)
    assert all(steps == [(0, None)] for phase, steps in progress.steps.items() if phase != Phase.REBUILD)


def test_deferral_is_for_loads_that_outweigh_the_existing_rows() -> None:
    assert not is_worth_deferring(500, 0)
    assert is_worth_deferring(5_000_000, 0)
    assert is_worth_deferring(5_000_000, 5_000_000)
    assert not is_worth_deferring(5_000_000, 500_000_000)


async def test_existing_rows_are_estimated(database: Address) -> None:
    async with open_connection(database) as connection:
        assert await estimate_rows(connection, TABLE_NAMES) == 0
        rows = sum((await load(plan_of("5x"), database)).rows.values())
        assert await estimate_rows(connection, TABLE_NAMES) == pytest.approx(rows, rel=0.01)
        await connection.execute("CREATE SCHEMA other; CREATE TABLE other.messages AS SELECT * FROM messages")
        there = await connection.fetchval("SELECT count(*) FROM messages")
        assert there / 3 < await estimate_rows(connection, ["other.messages"]) < there * 3
        await connection.execute(
            """
            CREATE SCHEMA parts;
            CREATE TABLE parts.messages (LIKE messages) PARTITION BY HASH (id);
            CREATE TABLE parts.one PARTITION OF parts.messages FOR VALUES WITH (MODULUS 2, REMAINDER 0);
            CREATE TABLE parts.two PARTITION OF parts.messages FOR VALUES WITH (MODULUS 2, REMAINDER 1);
            INSERT INTO parts.messages SELECT * FROM messages;
            ANALYZE parts.messages;
            """
        )
        assert await estimate_rows(connection, ["parts.messages"]) == pytest.approx(there, rel=0.01)
        assert await estimate_rows(connection, ["none.messages", "nobody"]) == 0
