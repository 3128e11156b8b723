"""Deferral: what the server refuses to make on a copy of its table stays, and nothing remains of the copies."""

from __future__ import annotations

import anyio
import pytest

from bulkseed.deferral import capture_proven, drop, rebuild
from bulkseed.embedded import Server
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from bulkseed.sql import identifier
from support.indexes_and_keys import connector, read, stays
from support.pg_dump import dump
from support.queries import rows, run_sql
from support.whole_database import state

USER = "INSERT INTO users (auth0_id, email, is_active, created_at, name) VALUES ('a', 'a', true, now(), 'A')"

HELPERS = """
CREATE FUNCTION helper(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(t)';
CREATE FUNCTION norm(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN helper(t); END';
CREATE FUNCTION equal(a text, b text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN helper(a) = b; END';
CREATE FUNCTION compare(a text, b text) RETURNS int LANGUAGE plpgsql IMMUTABLE
    AS 'BEGIN RETURN bttextcmp(helper(a), b); END';
"""

REFUSED = {
    "expression": "CREATE INDEX tried ON users (norm(name))",
    "predicate": "CREATE INDEX tried ON users (id) WHERE norm(name) > ''",
    "operator": "CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = equal);"
    "CREATE INDEX tried ON users ((name === email))",
    "domain": "CREATE DOMAIN normal AS text CHECK (norm(VALUE) > ''); CREATE INDEX tried ON users ((name::normal))",
    "operator class": "CREATE OPERATOR CLASS folded FOR TYPE text USING btree AS OPERATOR 1 <, OPERATOR 2 <=, "
    "OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 compare(text, text); "
    "CREATE INDEX tried ON users (name folded)",
    "generated column": "ALTER TABLE users ADD both_names text GENERATED ALWAYS AS (name || email) STORED; "
    "CREATE INDEX tried ON users (norm(both_names))",
}


@pytest.mark.parametrize("index", REFUSED.values(), ids=REFUSED)
async def test_an_index_that_calls_code_without_its_schema_stays(
    database: Address, connection: Connection, index: str
) -> None:
    await connection.execute(HELPERS + index)
    assert stays(await capture_proven(connection, "public", TABLE_NAMES)) == {}  # without rows nothing is called
    await run_sql(
        database, USER, USER.replace("'a'", "'b'"), "ALTER TABLE users ADD CONSTRAINT c CHECK (id > 0) NOT VALID"
    )
    before = await state(database)
    kept = stays(await capture_proven(connection, "public", TABLE_NAMES))
    assert await state(database) == before
    if connection.get_server_version().major < 17:
        assert kept == {}
        return
    assert kept.keys() == {"tried"}
    assert "helper(text)" in kept["tried"]
    assert "search_path" in kept["tried"]
    await connection.execute(
        "ALTER FUNCTION norm SET search_path = public; ALTER FUNCTION compare SET search_path = "
        "public; ALTER FUNCTION equal SET search_path = public"
    )
    assert stays(await capture_proven(connection, "public", TABLE_NAMES)) == {}


async def test_everything_of_a_museum_is_proven_and_nothing_remains(museum: Address) -> None:
    await run_sql(
        museum,
        "CREATE FUNCTION allow() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1; END'",
        "CREATE EVENT TRIGGER allow ON ddl_command_end EXECUTE FUNCTION allow()",
    )
    before = await state(museum)
    async with open_connection(museum) as connection:
        assert await capture_proven(connection, "public", TABLE_NAMES) == await read(connection)
    assert await state(museum) == before


@pytest.mark.parametrize("tag", ["COMMENT", "ALTER INDEX"])
async def test_an_index_whose_attributes_an_event_trigger_refuses_stays(museum: Address, tag: str) -> None:
    await run_sql(
        museum,
        "CREATE FUNCTION public.forbid() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not here''; END'",
        f"CREATE EVENT TRIGGER forbid ON ddl_command_start WHEN TAG IN ('{tag}') EXECUTE FUNCTION forbid()",
    )
    async with open_connection(museum) as connection:
        earlier, kept = stays(await read(connection)), stays(await capture_proven(connection, "public", TABLE_NAMES))
    refused = {name for name, reason in kept.items() if "not here" in reason}
    assert "users_lower" in refused
    assert ("users_email_key" in refused) == (tag == "COMMENT")
    assert "users_hash" not in kept
    assert earlier.keys() < kept.keys()


@pytest.mark.core
async def test_functions_are_called_as_the_owner_of_the_table(database: Address, server: Server) -> None:
    await run_sql(
        database,
        "CREATE ROLE landlord; CREATE ROLE tenant; GRANT landlord TO tenant",
        "GRANT CREATE, USAGE ON SCHEMA public TO landlord, tenant",
        "CREATE TABLE private (id int); ALTER TABLE private OWNER TO landlord",
        "CREATE FUNCTION who(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN "
        "IF current_user <> 'landlord' THEN RAISE 'called as %', current_user; END IF; RETURN t; END $$",
        USER,
        "ALTER TABLE users OWNER TO landlord",
        "CREATE INDEX tried ON users (who(name))",
    )
    try:
        before = dump(server, database)
        async with open_connection(database) as connection:
            await connection.execute("SET ROLE tenant")
            captured = await capture_proven(connection, "public", ["users"])
            assert "tried" in {index.name for index in captured.deferred}
        await run_sql(database, f"REVOKE TEMPORARY ON DATABASE {database.url.database} FROM PUBLIC")
        async with open_connection(database) as connection:
            await connection.execute("SET ROLE tenant")
            kept = stays(await capture_proven(connection, "public", ["users"]))
            assert "temporary" in kept["tried"]
            assert "users_hash" not in kept
        assert dump(server, database) == before
    finally:
        await run_sql(
            database,
            "REASSIGN OWNED BY landlord TO bulkseed; DROP OWNED BY landlord; DROP OWNED BY tenant",
            "DROP ROLE tenant; DROP ROLE landlord",
        )


async def test_a_table_that_is_not_analyzed_gets_its_foreign_keys(database: Address, connection: Connection) -> None:
    deferred = [key for key in (await read(connection)).deferred if key.kind == "foreign key"]
    await drop(connection, deferred)
    complete, users = anyio.Event(), identifier("public", "users")
    complete.set()
    notes: list[str] = []
    async with open_connection(database) as app, anyio.create_task_group() as tasks:
        await app.execute("BEGIN; LOCK TABLE users IN SHARE UPDATE EXCLUSIVE MODE")

        def on_note(message: str) -> None:
            notes.append(message)
            tasks.start_soon(app.execute, "ROLLBACK")

        await rebuild(
            connector(database), deferred, rows_complete={users: complete}, on_note=on_note, lock_timeout=0.02
        )
    assert [note for note in notes if "ANALYZE" in note and "users" in note]
    assert await rows(database, "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated") == [(9,)]
