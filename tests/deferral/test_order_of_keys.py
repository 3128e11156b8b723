"""Deferral: foreign keys act in the same order after a load, which is that of the names of their triggers as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkseed.deferral import drop, rebuild
from bulkseed.embedded.programs import account_for, run_as
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from support.databases import address_of, make_reference
from support.indexes_and_keys import connector, read, stays
from support.installed import running_with
from support.queries import rows, run_sql
from support.server_homes import home_for

ORDER = """
SELECT g.tgtype::int & 24, array_agg(k.conname::text ORDER BY g.tgname COLLATE "C")
FROM pg_trigger AS g JOIN pg_constraint AS k ON k.oid = g.tgconstraint
WHERE g.tgrelid = 'users'::regclass AND g.tgname LIKE 'RI\\_ConstraintTrigger\\_a%' GROUP BY 1 ORDER BY 1
"""
"""The keys that reference the users, in the order in which they act on DELETE (8) and UPDATE (16)."""

MODERATOR = "ALTER TABLE channels ADD moderator_id bigint CONSTRAINT moderators REFERENCES users ON DELETE CASCADE"
HOST = "ALTER TABLE channels ADD host_id bigint CONSTRAINT hosts REFERENCES users"


@pytest.mark.core
@pytest.mark.parametrize("connections", [1, 3])
async def test_keys_of_several_tables_act_in_the_same_order(
    database: Address, connection: Connection, connections: int
) -> None:
    await connection.execute(f"{MODERATOR}; {HOST}")
    before = await rows(database, ORDER)
    deferred = (await read(connection)).deferred
    await drop(connection, deferred)
    await rebuild(connector(database), deferred, connections=connections)
    assert await rows(database, ORDER) == before


@pytest.mark.parametrize("connections", [1, 3])
async def test_keys_that_come_back_in_another_order_are_added_again(
    database: Address, connection: Connection, connections: int
) -> None:
    await connection.execute(f"{MODERATOR}; {HOST}; COMMENT ON CONSTRAINT hosts ON channels IS 'host'")
    before, shown = await rows(database, ORDER), "SELECT pg_get_constraintdef(oid), convalidated, conname, "
    shown += "obj_description(oid) FROM pg_constraint WHERE contype = 'f' ORDER BY conname"
    definitions = await rows(database, shown)
    deferred = (await read(connection)).deferred
    await drop(connection, [key for key in deferred if key.name == "moderators"])
    await connection.execute(next(key.create for key in deferred if key.name == "moderators"))
    assert await rows(database, ORDER) != before
    steps: list[str] = []
    on_step = lambda name, seconds: steps.append(name)  # noqa: E731
    await rebuild(connector(database), deferred, connections=connections, on_step=on_step)
    assert await rows(database, ORDER) == before
    assert await rows(database, shown) == definitions
    assert len(steps) == len(set(steps))


async def test_a_key_that_acts_is_not_dropped_without_the_others(database: Address, connection: Connection) -> None:
    await connection.execute(
        "CREATE TABLE teams (id bigint PRIMARY KEY); CREATE TABLE budgets (team_id bigint REFERENCES teams);"
        "ALTER TABLE users ADD team_id bigint REFERENCES teams; ALTER TABLE channels ADD team_id bigint "
        "REFERENCES teams"
    )
    assert stays(await read(connection)) == {}  # the order of keys that only refuse does not matter
    await connection.execute(
        "ALTER TABLE channels DROP CONSTRAINT channels_team_id_fkey, ADD FOREIGN KEY (team_id) REFERENCES teams "
        "ON DELETE CASCADE"
    )
    kept = stays(await read(connection))
    assert kept.keys() == {"users_team_id_fkey", "channels_team_id_fkey"}
    assert all("order" in reason for reason in kept.values())
    await connection.execute("DROP TABLE budgets")
    assert stays(await read(connection)) == {}


async def test_keys_whose_oids_get_another_digit_act_in_the_same_order(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config, caplog: pytest.LogCaptureFixture
) -> None:
    named = pytestconfig.getoption("--postgres")
    binaries = Path(named).absolute() if named else None
    with home_for("oids", tmp_path_factory) as home:
        with running_with(home, binaries) as server:
            database = address_of(server, "postgres")
            await make_reference(database)
            await run_sql(database, MODERATOR, HOST)
            before = await rows(database, ORDER)
            async with open_connection(database) as connection:
                keys = [key for key in (await read(connection)).deferred if key.kind == "foreign key"]
                await drop(connection, keys)
        program = server.binaries / "pg_resetwal"
        if not program.exists():
            pytest.skip("these programs lack pg_resetwal")
        # each of the eleven keys takes five OIDs
        done = run_as(account_for(home, server.data), [program, "--next-oid=99970", server.data])
        assert done.returncode == 0, done.stderr
        with running_with(home, binaries) as server:
            database = address_of(server, "postgres")
            with caplog.at_level("INFO", "bulkseed"):
                await rebuild(connector(database), keys)
            assert await rows(database, ORDER) == before
            assert await rows(database, "SELECT FROM pg_trigger WHERE tgname LIKE 'RI%\\_a\\_1_____'")
            assert await rows(database, "SELECT FROM pg_constraint WHERE NOT convalidated") == []
    assert any("added again" in record.message for record in caplog.records)
