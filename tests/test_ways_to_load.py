"""Workers, lanes and deferral: none of them touches a row, and whatever goes wrong, all is as it was."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import anyio
import pytest
from conftest import MakeDatabase, digest, plan_of, run_sql
from test_deferral import MUSEUM, dump
from test_load import APP_ROWS, CHECK, EMPTY, FAIL, Interfering, counts, has_ledger

from bulkseed.address import Address
from bulkseed.choices import Defer
from bulkseed.cleaning import cleanup
from bulkseed.connection import Connection, connected
from bulkseed.deferring import is_worth_it
from bulkseed.embedded import Server
from bulkseed.errors import InputError, RunError, TargetError
from bulkseed.loading import load, useful_workers
from bulkseed.patience import Patience
from bulkseed.resuming import resume
from bulkseed.rowcount import estimated_rows
from bulkseed.shards import Shard
from bulkseed.tables import TABLE_NAMES
from bulkseed.transaction import begun
from bulkseed.verifying import verify
from bulkseed.watch import Silent
from bulkseed.workers import parent
from bulkseed.workers.turns import Turns
from bulkseed.workers.wire import HELLO, frame

WAYS: list[dict[str, Any]] = [
    {"workers": 1, "format": "records", "defer": "never"},
    {"workers": 1, "format": "binary", "defer": "always"},
    {"workers": 2, "format": "binary", "defer": "never"},
    {"workers": 2, "format": "records", "defer": "always"},
    {"workers": 3, "format": "records", "defer": "never"},
    {"workers": 3, "format": "binary", "defer": "always"},
]


class Notes(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        """Keep it."""
        self.said.append(message)


async def test_rows_are_the_same_for_any_workers_lanes_and_deferral(make_database: MakeDatabase) -> None:
    found = []
    for way in WAYS:
        database = await make_database()
        report = await load(plan_of("5x"), database, rows_per_shard=1000, **way)
        assert (report.workers, report.deferred) == (way["workers"], way["defer"] == "always")
        assert await counts(database) == report.rows
        found.append(await digest(database))
    assert all(each == found[0] for each in found)
    assert all(report.holds for report in await verify(database))


@pytest.mark.core
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_deferred_load_leaves_the_schema_as_it_was(database: Address, server: Server, workers: int) -> None:
    await run_sql(database, *APP_ROWS, MUSEUM)
    before = dump(server, database)
    report = await load(plan_of("3x"), database, rows_per_shard=2000, workers=workers, defer="always")
    assert report.deferred
    assert dump(server, database) == before
    async with connected(database) as connection:
        assert await connection.fetchval("SELECT every(rebuilt_at IS NOT NULL) FROM bulkseed.deferred")
        assert await connection.fetchval(
            "SELECT every(last_analyze IS NOT NULL) FROM pg_stat_user_tables WHERE relname = ANY ($1)", TABLE_NAMES
        )
    await cleanup(database, [report.run])
    assert dump(server, database) == before
    assert not await has_ledger(database)


@pytest.mark.core
@pytest.mark.parametrize(("workers", "defer"), [(1, "always"), (2, "always"), (2, "never")])
@pytest.mark.parametrize(("obstacle", "said"), [(FAIL, "message_reactions.*no more"), (CHECK, "messages_id_check")])
async def test_an_error_in_the_middle_is_undone(
    database: Address, server: Server, workers: int, defer: Defer, obstacle: str, said: str
) -> None:
    await run_sql(database, *APP_ROWS, MUSEUM, obstacle)
    before = await digest(database), dump(server, database)
    with pytest.raises(RunError, match=f"{said}.*; what had begun was undone$"):
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


async def test_a_key_that_cannot_be_rebuilt_for_seeded_rows_is_rebuilt_without_them(
    database: Address, server: Server
) -> None:
    await run_sql(database, TWIN)
    before = dump(server, database)
    with pytest.raises(RunError, match=r"users_email_key.*same values.*; what had begun was undone$"):
        await load(plan_of("5x"), database, rows_per_shard=5000, defer="always")
    assert await counts(database) == EMPTY | {"users": 1}
    assert dump(server, database) == before


@pytest.mark.parametrize("table", ["users", "messages"])
def test_a_worker_that_dies_is_an_error_that_names_it(
    seeded: Address, processes: list[Any], any_loop: dict[str, Any], table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "MOST_DEATHS", 0)

    async def main() -> None:
        before = await digest(seeded)
        watcher = Interfering(table, lambda: os.kill(processes[0].pid, signal.SIGKILL))
        with anyio.fail_after(60), pytest.raises(RunError, match=r"worker 2 \(process \d+\) was ended by signal 9"):
            await load(plan_of("10x"), seeded, rows_per_shard=5000, workers=2, watcher=watcher, defer="always")
        assert await digest(seeded) == before
        assert all(process.returncode is not None for process in processes)

    anyio.run(main, backend_options=any_loop)


async def test_a_worker_that_cannot_be_started_is_one_sentence(
    database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(RunError, match=r"no worker process can be started .*--workers 1"):
        await load(plan_of("10x"), database, rows_per_shard=5000, workers=2)
    assert not await has_ledger(database)


async def test_an_unforeseen_error_of_a_worker_is_told_with_its_traceback(
    database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "COMMAND", ("-c", BROKEN_WORKER))
    with pytest.raises(RunError, match=r"worker 2 failed .*ZeroDivisionError") as caught:
        await load(plan_of("10x"), database, rows_per_shard=5000, workers=2)
    assert caught.value.__cause__ is not None
    assert not await has_ledger(database)


BROKEN_WORKER = """
import os
from bulkseed.workers import child
child.ShardLoader = lambda *_: 1 / 0
child.main(os.fdopen(os.dup(1), "wb"))
"""


async def test_a_cancelled_load_is_kept_for_resume(database: Address, server: Server, processes: list[Any]) -> None:
    await run_sql(database, *APP_ROWS)
    before = await digest(database), dump(server, database)
    with anyio.CancelScope() as scope:
        watcher = Interfering("message_reactions", scope.cancel)
        await load(plan_of("10x"), database, rows_per_shard=5000, workers=2, watcher=watcher, defer="always")
    assert scope.cancelled_caught
    assert all(process.returncode is not None for process in processes)
    assert await resume(database) is not None
    assert dump(server, database) == before[1]
    assert all(report.holds for report in await verify(database))
    await cleanup(database, [1])
    assert (await digest(database), dump(server, database)) == before
    assert not await has_ledger(database)


@pytest.mark.core
async def test_what_was_interrupted_is_in_the_way_until_it_is_undone(database: Address, server: Server) -> None:
    await run_sql(database, *APP_ROWS)
    before = await digest(database), dump(server, database)
    await cut_off(database)
    assert dump(server, database) != before[1]
    with pytest.raises(TargetError, match=r"run 1 was interrupted, .*`bulkseed cleanup 1`"):
        await load(plan_of(), database)
    with pytest.raises(InputError, match=r"run 1 is being loaded, or was interrupted: .*`bulkseed cleanup 1`"):
        await verify(database)
    report = await cleanup(database, [1])
    assert report.rebuilt > 10
    assert (await digest(database), dump(server, database)) == before
    assert not await has_ledger(database)


async def cut_off(database: Address) -> None:
    """A deferred load that ends in the middle, as if it were killed."""
    task = asyncio.ensure_future(load(plan_of("10x"), database, rows_per_shard=5000, defer="always"))
    async with connected(database) as connection:
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


async def test_a_table_that_an_app_holds_is_named_and_nothing_is_touched(
    database: Address, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkseed.completion.LOCK_SECONDS", 0.1)
    before = dump(server, database)
    async with connected(database) as app:
        await app.execute("BEGIN; SELECT FROM channels")
        with pytest.raises(TargetError, match=r"no lock on .*nothing was dropped.*what had begun was undone"):
            await load(plan_of(), database, defer="always")
    assert dump(server, database) == before
    assert not await has_ledger(database)


async def test_what_cannot_be_dropped_stays_and_is_told(database: Address, server: Server) -> None:
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
        report = await load(plan_of(), login, defer="always", watcher=notes)
        assert not report.deferred
        assert any("messages" in said and "not the owner of its table" in said for said in notes.said)
        assert dump(server, database) == before
    finally:
        await run_sql(
            database,
            "DROP SCHEMA IF EXISTS bulkseed CASCADE; REASSIGN OWNED BY stranger TO bulkseed",
            "DROP OWNED BY loader; DROP OWNED BY stranger; DROP ROLE loader; DROP ROLE stranger",
        )


@pytest.mark.parametrize("defer", ["never", "always"])
async def test_losing_the_connection_that_keeps_the_turn_does_not_end_the_load(database: Address, defer: Defer) -> None:
    tasks: set[asyncio.Task[None]] = set()
    ours = "application_name = 'bulkseed' AND datname = current_database()"
    holder = f"""
        SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE locktype = 'advisory' AND {ours} AND pid <> pg_backend_pid()"""
    watcher = Interfering("users", lambda: tasks.add(asyncio.ensure_future(run_sql(database, holder))))
    report = await load(plan_of("10x"), database, rows_per_shard=5000, workers=2, watcher=watcher, defer=defer)
    assert tasks
    assert any("waiting for the load: the server ended the connection" in said for said in watcher.said)
    assert await counts(database) == report.rows
    assert all(each.holds for each in await verify(database))


async def test_what_a_worker_said_before_it_ended_is_told(database: Address) -> None:
    await run_sql(
        database,
        "CREATE ROLE few LOGIN SUPERUSER CONNECTION LIMIT 2",
        f"ALTER DATABASE {database.url.database} CONNECTION LIMIT 2",
        "ALTER ROLE few NOSUPERUSER",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO few",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO few",
        f"GRANT CREATE ON DATABASE {database.url.database} TO few",
    )
    try:
        login = Address(database.url._replace(username="few"))
        with pytest.raises(RunError, match=r"refuses a connection .*; what had begun was undone$"):
            await load(plan_of("10x"), login, rows_per_shard=5000, workers=3, patience=Patience(seconds=0))
        assert await counts(database) == EMPTY
    finally:
        await run_sql(database, "DROP OWNED BY few", "DROP ROLE few")


def test_a_worker_whose_parent_dies_in_the_middle_of_a_word_ends() -> None:
    said = frame({"a": "job"})
    for told in (said[:2], said[:-1], said[:4] + b"nothing that was pickled"):
        done = subprocess.run(
            [sys.executable, "-m", "bulkseed.workers.child"], input=told, capture_output=True, timeout=30, check=False
        )
        assert done.returncode == 1
        assert done.stdout == HELLO


async def test_a_begin_that_is_cut_off_leaves_no_transaction(connection: Connection) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with begun(connection):
            raise AssertionError
    assert connection.is_closed()


GUEST = """
CREATE FUNCTION guest() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO channels (name, owner_id, created_at, is_private, is_dm)
    SELECT 'app', max(id), now(), false, false FROM users;
    RETURN NULL;
END $$;
CREATE TRIGGER guest AFTER INSERT ON channels WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION guest();
"""
"""An app that points at seeded rows while they come in."""


async def test_where_rows_cannot_be_taken_out_keys_are_rebuilt_all_the_same(
    database: Address, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run_sql(database, FAIL, GUEST)
    before = dump(server, database)
    with pytest.raises(RunError, match=r"no more.*run 1 could not be undone .*--cascade.* keys of the run are rebuilt"):
        await load(plan_of("3x"), database, rows_per_shard=500, defer="always")
    assert dump(server, database) == before
    notes = Notes()
    with pytest.raises(RunError, match="--cascade"):
        await cleanup(database, [1], watcher=notes)
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
            def phase(self, name: str) -> None:
                """Stop at the second step of the rebuilding."""
                if name == "rebuild, step 2":
                    scope.cancel()

        notes = Stopping()
        await cleanup(database, [1], watcher=notes)
    assert any("`bulkseed cleanup 1` goes on" in said for said in notes.said)
    assert await counts(database) == EMPTY
    assert dump(server, database) != before
    await cleanup(database, [1])
    assert dump(server, database) == before
    assert not await has_ledger(database)


async def test_what_acts_at_insert_keeps_indexes_and_keys_in_place(
    database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkseed.deferring.LEAST_ROWS", 0)
    await run_sql(database, GUEST)
    notes = Notes()
    assert not (await load(plan_of(), database, watcher=notes)).deferred
    assert any("the trigger guest of channels may want them" in said for said in notes.said)
    await run_sql(database, "ALTER TABLE channels DISABLE TRIGGER guest")
    assert (await load(plan_of(), database, watcher=notes)).deferred


def test_deferral_is_for_loads_that_outweigh_what_is_there() -> None:
    assert not is_worth_it(500, 0)
    assert is_worth_it(5_000_000, 0)
    assert is_worth_it(5_000_000, 5_000_000)
    assert not is_worth_it(5_000_000, 500_000_000)


async def test_the_rows_that_are_there_are_estimated(database: Address) -> None:
    async with connected(database) as connection:
        assert await estimated_rows(connection, TABLE_NAMES) == 0
        rows = sum((await load(plan_of("5x"), database)).rows.values())
        assert await estimated_rows(connection, TABLE_NAMES) == pytest.approx(rows, rel=0.01)
        await connection.execute("CREATE SCHEMA other; CREATE TABLE other.messages AS SELECT * FROM messages")
        there = await connection.fetchval("SELECT count(*) FROM messages")
        assert there / 3 < await estimated_rows(connection, ["other.messages"]) < there * 3
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
        assert await estimated_rows(connection, ["parts.messages"]) == pytest.approx(there, rel=0.01)
        assert await estimated_rows(connection, ["none.messages", "nobody"]) == 0


async def test_a_ledger_of_the_first_version_is_understood_and_brought_up_to_date(seeded: Address) -> None:
    await run_sql(
        seeded,
        "ALTER TABLE bulkseed.runs DROP token, DROP origin, DROP login, DROP client, DROP resumed",
        "UPDATE bulkseed.version SET number = 2",
    )
    assert all(report.holds for report in await verify(seeded))
    await run_sql(
        seeded,
        "DROP TABLE bulkseed.shards, bulkseed.deferred; UPDATE bulkseed.version SET number = 1",
        "ALTER TABLE bulkseed.runs DROP state, DROP expected, DROP rows_per_shard",
    )
    assert all(report.holds for report in await verify(seeded))
    before = await digest(seeded, *TABLE_NAMES)
    assert (await load(plan_of(), seeded)).run == 2
    async with connected(seeded) as connection:
        assert await connection.fetchval("SELECT array_agg(state ORDER BY id) FROM bulkseed.runs") == ["whole"] * 2
    await cleanup(seeded, [2])
    assert await digest(seeded, *TABLE_NAMES) == before
    await cleanup(seeded, [1])
    assert await counts(seeded) == EMPTY


def test_no_more_workers_than_shards() -> None:
    assert useful_workers(plan_of(), 8) == 1
    assert useful_workers(plan_of("100x"), 8) == 8


async def test_channels_wait_for_all_users() -> None:
    users = [Shard(number, "users", number, number + 1) for number in range(3)]
    channels = [Shard(number, "channels", number, number + 1) for number in range(3, 6)]
    turns = Turns([*users, *channels])
    assert [await turns.following() for _ in range(3)] == users
    turns.done(users[2])
    turns.done(users[0])
    given: list[Shard | None] = []

    async def ask() -> None:
        given.append(await turns.following())

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert not given
        turns.done(users[1])
    assert given == [*channels, None]
