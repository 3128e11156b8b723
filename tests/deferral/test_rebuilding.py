"""Deferral: what is dropped for a load comes back exactly as it was, whatever happens in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from bulkseed.cleaner.references import Reference, references
from bulkseed.deferral import DDL, Deferred, drop, mark_rebuilt, rebuild, save, unfinished
from bulkseed.deferral.definitions import Captured
from bulkseed.embedded import Server
from bulkseed.errors import ConnectionLost, RunError, TargetError
from bulkseed.ledger import Ledger
from bulkseed.plan.scenario import Scenario
from bulkseed.plan.tables import TABLE_NAMES, Model, Names
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, connected
from support.indexes_and_keys import Connect, connector, read, stays
from support.pg_dump import dump
from support.queries import run_sql

DEFERRED = Ledger().deferred


async def shape(connection: Connection) -> list[str]:
    """A quick stand-in for the dump: every index and constraint outside the system's schemas, with its marks."""
    rows = await connection.fetch(
        """
        SELECT pg_get_indexdef(i.indexrelid) || i.indisclustered || i.indisreplident || i.indimmediate
               || coalesce(obj_description(i.indexrelid, 'pg_class'), '')
               || (SELECT string_agg(coalesce(a.attstattarget::text, '-'), ',') FROM pg_attribute AS a
                   WHERE a.attrelid = i.indexrelid) AS told
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid WHERE c.relnamespace::regnamespace::text
             IN ('public', 'app')
        UNION ALL
        SELECT conrelid::regclass || conname || pg_get_constraintdef(oid) || coalesce(obj_description(oid), '')
        FROM pg_constraint WHERE connamespace::regnamespace::text IN ('public', 'app') ORDER BY 1
        """
    )
    return [row[0] for row in rows]


@pytest.mark.core
@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("rows", [True, False], ids=["with rows", "without rows"])
async def test_dump_is_the_same_after(server: Server, museum: Address, lanes: int, rows: bool) -> None:
    steps: list[str] = []
    async with connected(museum) as connection:
        if not rows:
            await connection.execute(f"TRUNCATE {', '.join(TABLE_NAMES)}, app.bookmarks, app.audit")
        before, shown = dump(server, museum), await shape(connection)
        captured = await read(connection)
        assert stays(captured) == {"messages_no_overlap": "it is an exclusion constraint"}
        await drop(connection, captured.deferred)
        left = await shape(connection)
        assert [each for each in left if "INDEX" in each] != []
        assert len(left) == len(shown) - len(captured.deferred) - sum(
            each.kind in {"primary key", "unique"} for each in captured.deferred
        )
        await drop(connection, captured.deferred)  # already gone
        await connection.execute("SET default_tablespace = 'elsewhere'")
        again = [Deferred.from_json(each.to_json()) for each in captured.deferred]
        assert again == list(captured.deferred)
    await rebuild(connector(museum), again, lanes=lanes, cores=lanes, on_step=lambda name, seconds: steps.append(name))
    assert dump(server, museum) == before
    async with connected(museum) as connection:
        assert await shape(connection) == shown
        assert (await read(connection)).deferred == tuple(sorted_as(again, (await read(connection)).deferred))
    assert sum(name.startswith("index ") for name in steps) == sum(each.kind != "foreign key" for each in again)
    assert 'validate "app"."audit".audit_identity' in steps
    assert 'validate "app"."audit".audit_user' not in steps


def sorted_as(these: list[Deferred], those: tuple[Deferred, ...]) -> list[Deferred]:
    """``these`` in the order of ``those``: PostgreSQL numbers what is made in parallel as it comes."""
    return sorted(these, key=those.index)


async def test_statements_make_it_again_by_hand(server: Server, museum: Address) -> None:
    async with connected(museum) as connection:
        before = dump(server, museum)
        captured = await read(connection)
        await drop(connection, captured.deferred)
        await connection.execute("SET default_tablespace = 'elsewhere'")
        for each in captured.deferred:
            for statement in each.statements:
                await connection.execute(statement)
    assert dump(server, museum) == before


class Cut(Exception):
    """Where a test ends a rebuild."""


@dataclass
class Budget:
    left: int


class Failing:
    """A connection that dies, as by kill -9, at a statement."""

    def __init__(self, real: Connection, budget: Budget) -> None:
        self.real = real
        self.budget = budget

    def __getattr__(self, name: str) -> Any:
        if name in {"execute", "fetch", "fetchrow", "fetchval"}:
            self.budget.left -= 1
            if self.budget.left < 0:
                self.real.terminate()
                raise Cut
        return getattr(self.real, name)


def failing(address: Address, after: int) -> Connect:
    budget = Budget(after)

    @asynccontextmanager
    async def connect() -> AsyncIterator[Connection]:
        async with connected(address) as connection:
            yield Failing(connection, budget)

    return connect


async def latest_signup(connection: Connection) -> None:
    """Wait until the server has noticed that the others are gone."""
    while await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"
    ):
        await anyio.sleep(0.01)


@pytest.mark.parametrize("lanes", [1, 2])
async def test_crash_at_any_statement_loses_nothing(server: Server, museum: Address, lanes: int) -> None:
    async with connected(museum) as connection:
        before, shown = dump(server, museum), await shape(connection)
        saved = [each.to_json() for each in (await read(connection)).deferred]
        cuts = 0
        for after in range(3 - lanes, 10_000, 33 - lanes):
            await drop(connection, [Deferred.from_json(each) for each in saved])
            try:
                await rebuild(failing(museum, after), [Deferred.from_json(each) for each in saved], lanes=lanes)
            except (Cut, ConnectionLost):
                cuts += 1
                await latest_signup(connection)
                await rebuild(connector(museum), [Deferred.from_json(each) for each in saved], lanes=lanes)
                assert await shape(connection) == shown, f"cut at statement {after}"
            else:
                break
        assert cuts > 8
    assert dump(server, museum) == before


async def test_crash_while_dropping_drops_nothing(museum: Address) -> None:
    async with connected(museum) as connection:
        shown = await shape(connection)
        deferred = (await read(connection)).deferred
        for after in range(1, 10_000, 11):
            try:
                async with failing(museum, after)() as dying:
                    await drop(dying, deferred)
            except (Cut, ConnectionLost):
                await latest_signup(connection)
                assert await shape(connection) == shown
            else:
                break
        assert after > 50
        assert len(await shape(connection)) < len(shown)


async def test_ledger_keeps_what_is_not_rebuilt(museum: Address) -> None:
    async with connected(museum) as connection:
        assert await unfinished(connection, DEFERRED) == {}
        await run_sql(museum, "DROP SCHEMA bulkseed CASCADE; CREATE SCHEMA bulkseed", DDL.format(table=DEFERRED))
        captured = await read(connection)
        await save(connection, DEFERRED, 7, captured.deferred)
        await save(connection, DEFERRED, 8, captured.deferred[:1])
        assert await unfinished(connection, DEFERRED) == {7: captured.deferred, 8: captured.deferred[:1]}
        await mark_rebuilt(connection, DEFERRED, 7, captured.deferred[:5])
        assert await unfinished(connection, DEFERRED) == {7: captured.deferred[5:], 8: captured.deferred[:1]}
        await mark_rebuilt(connection, DEFERRED, 7, captured.deferred)
        await mark_rebuilt(connection, DEFERRED, 8, captured.deferred)
        assert await unfinished(connection, DEFERRED) == {}


async def test_capture_changes_nothing_of_the_session(connection: Connection) -> None:
    await connection.execute("SET search_path = public, pg_temp; SET datestyle = 'SQL, DMY'")
    async with connection.transaction():
        await read(connection)
        assert await connection.fetchval("SHOW search_path") == "public, pg_temp"
    assert await connection.fetchval("SHOW search_path") == "public, pg_temp"
    assert await connection.fetchval("SHOW datestyle") == "SQL, DMY"


async def test_dates_in_predicates_mean_the_same_in_any_style(database: Address, connection: Connection) -> None:
    await connection.execute("SET datestyle = 'SQL, DMY'; SET bytea_output = 'escape'")
    await connection.execute(
        r"CREATE INDEX dated ON users (id) WHERE created_at > '03/02/2020' AND sha256(email::bytea) > '\x00ff'"
    )
    shown = await connection.fetchval(
        "SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indpred IS NOT NULL AND indrelid = 'users'::regclass"
    )
    deferred = (await read(connection, "users")).deferred
    await drop(connection, deferred)
    assert "2020-02-03" in next(each.create for each in deferred if each.name == "dated")

    @asynccontextmanager
    async def styled() -> AsyncIterator[Connection]:
        async with connected(database) as opened:
            await opened.execute("SET datestyle = 'SQL, MDY'")
            yield opened

    await rebuild(styled, deferred)
    assert shown == await connection.fetchval(
        "SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indpred IS NOT NULL AND indrelid = 'users'::regclass"
    )


@pytest.mark.core
async def test_foreign_keys_fire_in_the_same_order(database: Address, connection: Connection) -> None:
    await connection.execute(
        "ALTER TABLE channels ADD moderator_id bigint CONSTRAINT moderators REFERENCES users ON DELETE CASCADE, "
        "ADD host_id bigint CONSTRAINT hosts REFERENCES users; "
        "INSERT INTO users (id, auth0_id, email, is_active, created_at, name) OVERRIDING SYSTEM VALUE "
        "VALUES (1, '', '', true, now(), ''), (2, 'b', 'b', true, now(), ''); "
        "INSERT INTO channels (name, owner_id, created_at, is_private, is_dm, moderator_id, host_id) "
        "VALUES ('', 2, now(), false, false, 1, 1)"
    )
    for lanes in range(1, 5):
        deferred = (await read(connection)).deferred
        await drop(connection, deferred)
        await rebuild(connector(database), deferred, lanes=lanes)
        await connection.execute("BEGIN; DELETE FROM users WHERE id = 1; ROLLBACK")


async def test_foreign_keys_depend_on_the_same_index_as_before(database: Address, connection: Connection) -> None:
    await connection.execute(
        "ALTER TABLE users ADD CONSTRAINT users_again UNIQUE (id); "
        "CREATE TABLE pairs (a int, b int, PRIMARY KEY (a, b), UNIQUE (b, a), UNIQUE (b)); "
        "CREATE TABLE pointing (a int, b int, FOREIGN KEY (a, b) REFERENCES pairs)"
    )
    depends = "SELECT conname, conindid::regclass::text FROM pg_constraint WHERE contype = 'f' ORDER BY 1, 2"
    before = await connection.fetch(depends)
    steps: list[str] = []
    deferred = (await read(connection, *TABLE_NAMES, "pairs", "pointing")).deferred
    await drop(connection, deferred)
    await rebuild(connector(database), deferred, lanes=3, on_step=lambda name, seconds: steps.append(name))
    assert await connection.fetch(depends) == before
    assert {"index users_pkey", "index users_again", "index pairs_b_a_key"} <= set(steps)


async def test_index_that_is_not_unique_stops_no_foreign_key(database: Address, connection: Connection) -> None:
    deferred = (await read(connection)).deferred
    await drop(connection, deferred)
    await connection.execute("CREATE TABLE messages_user_id_idx ()")
    with pytest.raises(RunError, match=r"messages_user_id_idx of .*: something else has its name.* 1 of 23 "):
        await rebuild(connector(database), deferred, lanes=2)


async def test_all_rows_are_marked_visible(seeded: Address) -> None:
    async with connected(seeded) as connection:
        deferred = (await read(connection)).deferred
        await drop(connection, deferred)
        await rebuild(connector(seeded), deferred)
        assert await connection.fetchval(
            # COPY leaves empty pages at the end, which VACUUM does not mark
            "SELECT relallvisible = (SELECT count(DISTINCT (ctid::text::point)[0]) FROM messages) "
            "FROM pg_class WHERE oid = 'messages'::regclass"
        )


async def test_lock_held_by_an_app_is_named(database: Address, connection: Connection) -> None:
    shown = await shape(connection)
    deferred = (await read(connection)).deferred
    async with connected(database) as app:
        await app.execute("SET application_name = 'the app'")
        await app.execute("BEGIN; SELECT FROM channels")
        with pytest.raises(
            TargetError,
            match=rf"process {app.get_server_pid()} of bulkseed \(the app\), since .*"
            "nothing was dropped",
        ):
            await drop(connection, deferred, lock_timeout=0.1, tries=2)
        assert await shape(connection) == shown
        await app.execute("ROLLBACK")
        await drop(connection, deferred)
        await app.execute("BEGIN; LOCK TABLE messages IN ROW EXCLUSIVE MODE")
        with pytest.raises(
            RunError,
            match=rf"messages_pkey.* no lock on .* in 2 times 0.1 s: process "
            rf"{app.get_server_pid()} of bulkseed \(the app\)",
        ):
            await rebuild(connector(database), deferred, lanes=2, lock_timeout=0.1, tries=2)
        await app.execute("ROLLBACK")
    await rebuild(connector(database), deferred, lanes=2)
    assert await shape(connection) == shown


async def test_waits_for_an_app_that_lets_go(database: Address, connection: Connection) -> None:
    shown = await shape(connection)
    deferred = (await read(connection)).deferred
    await drop(connection, deferred)
    async with connected(database) as app, anyio.create_task_group() as tasks:
        await app.execute("BEGIN; LOCK TABLE messages IN ROW EXCLUSIVE MODE")

        async def let_go() -> None:
            await anyio.sleep(0.5)
            await app.execute("COMMIT")

        tasks.start_soon(let_go)
        await rebuild(connector(database), deferred, lock_timeout=0.1, tries=20)
    assert await shape(connection) == shown


async def test_duplicate_is_named_and_the_rest_is_made(server: Server, museum: Address) -> None:
    await run_sql(museum, "ALTER TABLE messages DROP CONSTRAINT messages_no_overlap")
    before = dump(server, museum)
    async with connected(museum) as connection:
        deferred = (await read(connection)).deferred
        await drop(connection, deferred)
        await connection.execute("INSERT INTO messages SELECT * FROM messages WHERE id = 1")
        with pytest.raises(
            RunError,
            match=r'primary key messages_pkey of "public"."messages" cannot be made again.*'
            r"\bid\b.* rebuild again",
        ):
            await rebuild(connector(museum), deferred, lanes=2)
        left = {each.name for each in deferred} - {each.name for each in (await read(connection)).deferred}
        assert left == {
            "messages_pkey",
            "messages_parent_id_fkey",
            "message_reactions_message_id_fkey",
            "bookmarks_message",
        }
        await connection.execute("DELETE FROM messages WHERE ctid = (SELECT max(ctid) FROM messages WHERE id = 1)")
    await rebuild(connector(museum), deferred, lanes=2)
    assert dump(server, museum) == before


async def test_orphan_is_named(server: Server, museum: Address) -> None:
    before = dump(server, museum)
    async with connected(museum) as connection:
        deferred = (await read(connection)).deferred
        await drop(connection, deferred)
        await connection.execute("UPDATE messages SET user_id = -5 WHERE id = (SELECT min(id) FROM messages)")
        with pytest.raises(RunError, match=r'messages_user_id_fkey of "public"."messages" .*user_id.*-5'):
            await rebuild(connector(museum), deferred)
        await connection.execute("UPDATE messages SET user_id = (SELECT min(id) FROM users) WHERE user_id = -5")
    await rebuild(connector(museum), deferred)
    assert dump(server, museum) == before


async def test_changed_definition_is_not_dropped_or_replaced(database: Address, connection: Connection) -> None:
    deferred = (await read(connection)).deferred
    await connection.execute("DROP INDEX messages_user_id_idx; CREATE INDEX messages_user_id_idx ON messages (content)")
    shown = await shape(connection)
    with pytest.raises(TargetError, match=r"index messages_user_id_idx of .* has changed since it was read"):
        await drop(connection, deferred)
    with pytest.raises(RunError, match=r"messages_user_id_idx of .*: something else has its name"):
        await rebuild(connector(database), deferred)
    assert await shape(connection) == shown


async def test_new_dependent_stops_the_drop(connection: Connection) -> None:
    deferred = (await read(connection)).deferred
    await connection.execute("CREATE VIEW busy AS SELECT id, name FROM users GROUP BY id")
    shown = await shape(connection)
    with pytest.raises(TargetError, match=r"busy.*users_pkey"):
        await drop(connection, deferred)
    assert await shape(connection) == shown


async def test_table_is_indexed_when_it_is_full(museum: Address) -> None:
    events = {f'"public"."{name}"': anyio.Event() for name in TABLE_NAMES}
    steps: list[str] = []
    async with connected(museum) as connection:
        deferred = (await read(connection)).deferred
        await drop(connection, deferred)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:

                async def make() -> None:
                    await rebuild(
                        connector(museum),
                        deferred,
                        full=events,
                        lanes=2,
                        on_step=lambda name, seconds: steps.append(name),
                    )

                tasks.start_soon(make)
                await anyio.sleep(0.3)
                assert steps == []
                events['"public"."channels"'].set()
                while 'analyze "public"."channels"' not in steps:
                    await anyio.sleep(0.01)
                assert not any("messages" in name for name in steps)
                for event in events.values():
                    event.set()
    assert sum(name.startswith("analyze") for name in steps) == len(TABLE_NAMES)


async def test_lost_server_process_ends_it_at_once(database: Address, connection: Connection) -> None:
    deferred = (await read(connection)).deferred
    await drop(connection, deferred)

    killed = False

    def on_step(name: str, seconds: float) -> None:
        nonlocal killed
        if not killed:
            killed = True
            tasks.start_soon(kill)

    async def kill() -> None:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )

    async with anyio.create_task_group() as tasks:
        with pytest.raises(ConnectionLost):
            await rebuild(connector(database), deferred, lanes=2, on_step=on_step)
    await rebuild(connector(database), deferred)


async def test_a_connection_that_is_lost_as_soon_as_it_is_made(database: Address, connection: Connection) -> None:
    deferred = (await read(connection)).deferred
    await drop(connection, deferred)

    @asynccontextmanager
    async def lost() -> AsyncIterator[Connection]:
        async with connected(database) as made:
            await connection.execute("SELECT pg_terminate_backend($1, 5000)", made.get_server_pid())
            yield made

    with pytest.raises(ConnectionLost, match="beginning to rebuild"):
        await rebuild(lost, deferred)
    await rebuild(connector(database), deferred)


async def test_nothing_to_do(connection: Connection) -> None:
    captured = await read(connection, "no such table")
    assert captured == Captured((), ())
    await drop(connection, ())

    def connect() -> AbstractAsyncContextManager[Connection]:
        raise AssertionError

    await rebuild(connect, ())


async def test_not_null_of_a_key_and_inheritance_stay(
    server: Server, database: Address, connection: Connection
) -> None:
    await connection.execute(
        "CREATE TABLE plain (a int, b int, c text, PRIMARY KEY (a) INCLUDE (b), UNIQUE (c, b)); "
        "CREATE TABLE heir (d int) INHERITS (plain)"
    )
    before = dump(server, database)
    captured = await read(connection, "plain")
    assert {each.name for each in captured.deferred} == {"plain_pkey", "plain_c_b_key"}
    await drop(connection, captured.deferred)
    await rebuild(connector(database), captured.deferred)
    assert dump(server, database) == before


async def test_table_that_is_gone_does_not_stop_the_rest(connection: Connection, database: Address) -> None:
    await connection.execute("CREATE TABLE fleeting (id bigint PRIMARY KEY, user_id bigint REFERENCES users)")
    deferred = (await read(connection, *TABLE_NAMES, "fleeting")).deferred
    await drop(connection, deferred)
    await connection.execute("DROP TABLE fleeting")
    with pytest.raises(RunError, match=r'"fleeting" is gone.* 2 of 25 indexes, keys and foreign keys'):
        await rebuild(connector(database), deferred, lanes=2)
    assert len((await read(connection)).deferred) == 23


async def test_without_the_ledger_is_none_unfinished(connection: Connection) -> None:
    assert await unfinished(connection, DEFERRED) == {}


async def test_dropped_foreign_keys_still_tell_what_points_at_what(museum: Address) -> None:
    async with connected(museum) as connection:
        deferred = (await read(connection)).deferred
        declared = await references(connection, [Names("public", Model(Scenario()))])
        assert [each for each in declared if not each.declared] == []
        assert set(await references(connection, [Names("public", Model(Scenario()))], deferred)) == set(declared)
        await drop(connection, deferred)
        saved = [Deferred.from_json(each.to_json()) for each in deferred]
        assert set(await references(connection, [Names("public", Model(Scenario()))], saved)) == set(declared)
        assert Reference(
            '"app"."bookmarks"',
            ("user_id", "channel_id"),
            '"public"."user_channels"',
            ("user_id", "channel_id"),
            on_delete_sets_null=True,
        ) in await references(connection, [], saved)
        assert len(await references(connection, [Names("public", Model(Scenario()))])) < len(declared)
        await connection.execute("DROP TABLE app.bookmarks; ALTER TABLE app.audit DROP COLUMN identity_id")
        gone = {"bookmarks_pair", "bookmarks_message", "audit_identity"}
        assert len(await references(connection, [Names("public", Model(Scenario()))], saved)) == len(declared) - len(
            gone
        )


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "view"}',
        "{}",
        "[]",
        "7",
        '{"kind": "index", "attributes": []}',
        '{"kind": "index", "schema": "s", "relation": "r", "name": 1, "create": ""}',
        '{"kind": "index", "schema": "s", "relation": "r", "name": "n", "create": "", "keys": "ab"}',
        '{"kind": "index", "schema": "s", "relation": "r", "name": "n", "create": "", "keys": [1]}',
        '{"kind": "index", "schema": "s", "relation": "r", "name": "n", "create": "", "lets_go": 1}',
        '{"kind": "index", "schema": "s", "relation": "r", "name": "n", "create": "", "other": ""}',
        "no JSON",
    ],
)
def test_bad_definition_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        Deferred.from_json(text)


@pytest.mark.parametrize("after", [1, 8, 20])
async def test_cancelled_rebuild_can_be_finished(database: Address, connection: Connection, after: int) -> None:
    shown = await shape(connection)
    deferred = (await read(connection)).deferred
    await drop(connection, deferred)
    steps = 0

    def on_step(name: str, seconds: float) -> None:
        nonlocal steps
        steps += 1
        if steps == after:
            scope.cancel()

    with anyio.CancelScope() as scope:
        await rebuild(connector(database), deferred, lanes=2, on_step=on_step)
    assert scope.cancelled_caught
    await latest_signup(connection)
    await rebuild(connector(database), [*deferred, *deferred])
    assert await shape(connection) == shown


async def test_drop_is_part_of_the_callers_transaction(connection: Connection) -> None:
    shown = await shape(connection)
    safe_transaction = connection.transaction()
    await safe_transaction.start()
    await drop(connection, (await read(connection)).deferred)
    assert (await read(connection)).deferred == ()
    await safe_transaction.rollback()
    assert await shape(connection) == shown
