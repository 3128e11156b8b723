"""Loads into databases where an index works but cannot be made, or where event triggers refuse commands."""

from __future__ import annotations

import subprocess

import pytest

from bulkseed.cleaner.cleanup import cleanup
from bulkseed.embedded import Server
from bulkseed.errors import RunError
from bulkseed.loader.check import check
from bulkseed.loader.load import load, resume
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from support.errors import raises
from support.listeners import Interfering, Notes
from support.pg_dump import dump
from support.plans import plan_of
from support.queries import digest, has_ledger, rows, run_sql

HELPERS = """
CREATE FUNCTION helper(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(t)';
CREATE FUNCTION norm(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN helper(t); END';
"""
UNQUALIFIED = HELPERS + "CREATE INDEX users_norm ON users (norm(name));"
"""An index that can be made on an empty table, and is maintained; since PostgreSQL 17 it cannot be made over rows."""

USER = "INSERT INTO users (auth0_id, email, is_active, created_at, name) VALUES ('a', 'a', true, now(), 'A')"

FORBID = """
CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not here'; END $$;
CREATE EVENT TRIGGER forbid ON {event} WHEN TAG IN ({tags}) EXECUTE FUNCTION forbid();
"""


async def has_maintenance_search_path(address: Address) -> bool:
    """Return whether the server makes indexes under a search_path of its own."""
    return bool((await rows(address, "SELECT current_setting('server_version_num')::int >= 170000"))[0][0])


@pytest.mark.core
@pytest.mark.parametrize("user", [True, False], ids=["with a user", "with no user"])
async def test_an_index_that_cannot_be_made_over_rows_stays(database: Address, server: Server, user: bool) -> None:
    await run_sql(database, UNQUALIFIED, *([USER] if user else []))
    before, stays = dump(server, database), await has_maintenance_search_path(database)
    checked, notes = await check(plan_of("3x"), database, defer="always"), Notes()
    report = await load(plan_of("3x"), database, defer="always", listener=notes)
    assert report.deferred
    for told in (checked.notes, notes.said):
        assert any("users_norm" in note and "helper(text)" in note for note in told) == stays
    assert any("users_norm" in name for name in checked.dropped) != stays
    assert dump(server, database) == before
    await cleanup(database, [report.run])
    assert not await has_ledger(database)


@pytest.mark.core
@pytest.mark.parametrize("defer", ["never", "always"])
async def test_a_failing_analyze_ends_nothing(database: Address, defer: str) -> None:
    await run_sql(database, UNQUALIFIED)
    before, notes = await digest(database), Notes()
    report = await load(plan_of("3x"), database, defer=defer, listener=notes)  # type: ignore[arg-type]
    told = [note for note in notes.said if "ANALYZE" in note]
    assert bool(told) == await has_maintenance_search_path(database)
    assert all("helper(text)" in note for note in told)
    await cleanup(database, [report.run])
    assert await digest(database) == before
    assert not await has_ledger(database)


async def test_a_rebuild_that_is_refused_later_says_what_is_missing(database: Address, server: Server) -> None:
    before = dump(server, database)
    trigger = FORBID.format(event="ddl_command_end", tags="'CREATE INDEX'")

    def refuse() -> None:
        subprocess.run([server.binaries / "psql", "-qXd", database.url.render(), "-c", trigger], check=True)

    with raises("undo-failed", "CREATE INDEX messages_user_id_idx ON public.messages", "cleanup 1", kind=RunError):
        await load(plan_of(), database, defer="always", listener=Interfering("messages", refuse))
    with raises("server-error", "CREATE INDEX messages_user_id_idx ON public.messages", kind=RunError):
        await cleanup(database, [1])
    await run_sql(database, "DROP EVENT TRIGGER forbid; DROP FUNCTION forbid")
    await cleanup(database, [1])
    assert dump(server, database) == before
    assert not await has_ledger(database)


async def test_an_interrupted_run_is_resumed_and_removed_without_analyze(database: Address) -> None:
    await run_sql(
        database, UNQUALIFIED, "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'"
    )
    await run_sql(
        database,
        # not in the trial before the load
        "CREATE TRIGGER no BEFORE INSERT ON message_reactions WHEN (to_regnamespace('bulkseed') IS NOT NULL) "
        "EXECUTE FUNCTION no()",
    )
    for finish in (True, False):
        with raises("server-error", kind=RunError):
            await load(plan_of("3x"), database, defer="never", on_error="keep")
        if finish:
            await run_sql(database, "ALTER TABLE message_reactions DISABLE TRIGGER no")
            report = await resume(database)
            assert report is not None
            await run_sql(database, "ALTER TABLE message_reactions ENABLE TRIGGER no")
            await cleanup(database, [report.run])
        else:
            await cleanup(database, [1])
        assert not await has_ledger(database)


@pytest.mark.parametrize(
    ("event", "tags", "dropped"),
    [
        pytest.param("ddl_command_start", "'CREATE INDEX'", 9, marks=pytest.mark.core),
        ("ddl_command_end", "'ALTER TABLE'", 6),
        ("ddl_command_start", "'DROP INDEX'", 9),
        ("sql_drop", "'DROP INDEX'", 17),
        ("ddl_command_end", "'CREATE TABLE'", 0),
        ("ddl_command_start", "'CREATE VIEW'", 23),
    ],
)
async def test_what_an_event_trigger_refuses_stays(
    database: Address, server: Server, event: str, tags: str, dropped: int
) -> None:
    await run_sql(database, FORBID.format(event=event, tags=tags).replace("forbid()", "public.forbid()"))
    before = dump(server, database)
    if tags in {"'CREATE TABLE'", "'ALTER TABLE'"}:
        # the ledger's tables exist already
        await run_sql(database, "ALTER EVENT TRIGGER forbid DISABLE")
        await load(plan_of("1x"), database)
        await run_sql(database, "ALTER EVENT TRIGGER forbid ENABLE")
        before = dump(server, database)
    checked, notes = await check(plan_of("1x"), database, defer="always"), Notes()
    report = await load(plan_of("1x"), database, defer="always", listener=notes)
    assert len(checked.dropped) == dropped
    assert report.deferred == bool(dropped)
    assert any("not here" in note for note in notes.said) == (dropped < 23)
    assert dump(server, database) == before
    async with open_connection(database) as connection:
        assert await connection.fetchval("SELECT count(*) FROM pg_class WHERE relname LIKE '%bulkseed%'") == 0
