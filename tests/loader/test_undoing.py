"""Loads that end in the middle: their rows are removed, and indexes and keys that they dropped are rebuilt."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.embedded import Server
from bulkseed.errors import InputError, RunError, TargetError
from bulkseed.listeners import NullListener, Phase
from bulkseed.load_options import Defer
from bulkseed.loader.load import load, resume
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from bulkseed.verifier.verify import verify
from support.app_rows import APP_ROWS
from support.errors import raises
from support.listeners import Interfering, Notes, Phases
from support.museum import MUSEUM
from support.obstacles import CHECK, FAIL, GUEST
from support.pg_dump import dump
from support.plans import plan_of
from support.queries import EMPTY, counts, digest, has_ledger, run_sql


@pytest.mark.core
@pytest.mark.parametrize(("workers", "defer"), [(1, "always"), (2, "always"), (2, "never")])
@pytest.mark.parametrize(
    ("obstacle", "facts"), [(FAIL, ("message_reactions", "no more")), (CHECK, ("messages_id_check",))]
)
async def test_an_error_in_the_middle_is_undone(
    database: Address, server: Server, workers: int, defer: Defer, obstacle: str, facts: tuple[str, ...]
) -> None:
    await run_sql(database, *APP_ROWS, MUSEUM, obstacle)
    before = await digest(database), dump(server, database)
    with raises("server-error", *facts, "run 1", kind=RunError):
        await load(plan_of("3x"), database, rows_per_shard=500, workers=workers, defer=defer)
    assert (await digest(database), dump(server, database)) == before
    assert not await has_ledger(database)


TWIN = """
CREATE FUNCTION twin() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO users (auth0_id, email, is_active, created_at, name)
    SELECT 'app', email, true, now(), 'x' FROM users ORDER BY id LIMIT 1;
    RETURN NULL;
END $$;
CREATE TRIGGER twin AFTER INSERT ON users WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION twin();
"""
"""An app that makes a duplicate of a seeded row, in the moment when nothing forbids that."""


async def test_fault_22_after_an_undone_load_nothing_is_to_be_removed(database: Address) -> None:
    await run_sql(database, TWIN)
    with raises("duplicate-rows", "users_email_key", "run 1", kind=RunError) as caught:
        await load(plan_of("1x"), database, defer="always")
    told = str(caught.value)
    assert "remove" not in told
    assert told.count("\n") == 1  # nothing is left to be rebuilt either
    assert not await has_ledger(database)


async def test_a_key_that_cannot_be_rebuilt_for_seeded_rows_is_rebuilt_without_them(
    database: Address, server: Server
) -> None:
    await run_sql(database, TWIN)
    before = dump(server, database)
    with raises("duplicate-rows", "users_email_key", "run 1", kind=RunError):
        await load(plan_of("5x"), database, rows_per_shard=5000, defer="always")
    assert await counts(database) == EMPTY | {"users": 1}
    assert dump(server, database) == before


async def test_a_cancelled_load_is_kept_for_resume(database: Address, server: Server, processes: list[Any]) -> None:
    await run_sql(database, *APP_ROWS)
    before = await digest(database), dump(server, database)
    with anyio.CancelScope() as scope:
        listener = Interfering("message_reactions", scope.cancel)
        await load(plan_of("10x"), database, rows_per_shard=5000, workers=2, listener=listener, defer="always")
    assert scope.cancelled_caught
    assert all(process.returncode is not None for process in processes)
    assert await resume(database) is not None
    assert dump(server, database) == before[1]
    assert all(report.holds for report in await verify(database))
    await cleanup(database, [1])
    assert (await digest(database), dump(server, database)) == before
    assert not await has_ledger(database)


@pytest.mark.core
async def test_an_interrupted_run_stops_the_next_load_until_it_is_undone(database: Address, server: Server) -> None:
    await run_sql(database, *APP_ROWS)
    before = await digest(database), dump(server, database)
    await cut_off(database)
    assert dump(server, database) != before[1]
    with raises("incomplete-run", "run 1", "`bulkseed resume 1`", "`bulkseed cleanup 1`", kind=TargetError):
        await load(plan_of(), database)
    with raises("incomplete-run", "run 1", "`bulkseed cleanup 1`", kind=InputError):
        await verify(database)
    report = await cleanup(database, [1])
    assert report.rebuilt > 10
    assert (await digest(database), dump(server, database)) == before
    assert not await has_ledger(database)


async def cut_off(database: Address) -> None:
    """A deferred load that ends in the middle, as if it were killed."""
    task = asyncio.ensure_future(load(plan_of("10x"), database, rows_per_shard=5000, defer="always"))
    async with open_connection(database) as connection:
        while not await shards_in(connection):
            await asyncio.sleep(0.005)
    # a later cancellation ends the undoing that the first one begins
    while not task.done():
        task.cancel()
        await asyncio.sleep(0.02)
    with pytest.raises(asyncio.CancelledError):
        await task


async def shards_in(connection: Connection) -> int:
    if not await connection.fetchval("SELECT to_regclass('bulkseed.shards') IS NOT NULL"):
        return 0
    return int(await connection.fetchval("SELECT count(*) FROM bulkseed.shards WHERE number > 0"))


async def test_an_undoing_that_fails_has_a_code_of_its_own(database: Address) -> None:
    class Broken(NullListener):
        def phase(self, phase: Phase, step: int = 0, steps: int | None = None) -> None:
            if phase == Phase.ANALYZE:  # all rows are committed
                raise ZeroDivisionError

    await run_sql(database, GUEST)
    with raises("undo-failed", "ZeroDivisionError", "run 1", "`bulkseed cleanup 1`", kind=RunError):
        await load(plan_of(), database, listener=Broken())
    await cleanup(database, [1], cascade=True)
    assert await counts(database) == EMPTY


async def test_keys_are_rebuilt_even_if_rows_cannot_be_removed(
    database: Address, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run_sql(database, FAIL, GUEST)
    before = dump(server, database)
    with raises("undo-failed", "no more", "run 1", "--cascade", "`bulkseed cleanup 1`", kind=RunError):
        await load(plan_of("3x"), database, rows_per_shard=500, defer="always")
    assert dump(server, database) == before
    notes = Notes()
    with raises("referenced-rows", "--cascade", kind=RunError):
        await cleanup(database, [1], listener=notes)
    report = await cleanup(database, [1], cascade=True)
    assert (report.rebuilt, await counts(database)) == (0, EMPTY)
    assert not await has_ledger(database)


async def test_a_cleanup_cancelled_while_it_rebuilds_says_so_and_goes_on_another_time(
    database: Address, server: Server
) -> None:
    before = dump(server, database)
    await cut_off(database)
    with anyio.CancelScope() as scope:

        class Stopping(Notes):
            def phase(self, phase: Phase, step: int = 0, steps: int | None = None) -> None:
                """Stop at the second step of the rebuilding."""
                if phase == Phase.REBUILD and step == 2:
                    scope.cancel()

        notes = Stopping()
        await cleanup(database, [1], listener=notes)
    assert any("`bulkseed cleanup 1`" in note for note in notes.said)
    assert await counts(database) == EMPTY
    assert dump(server, database) != before
    progress = Phases()
    await cleanup(database, [1], listener=progress)
    assert progress.phases == [Phase.FIND, Phase.REMOVE, Phase.REBUILD]
    progress.assert_counted(Phase.REBUILD)
    assert dump(server, database) == before
    assert not await has_ledger(database)
