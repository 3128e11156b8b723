"""Deferral: dropped indexes and keys are rebuilt with the same definitions, whatever happens in between."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from bulkseed.cleaner.references import Reference, references
from bulkseed.deferral import DDL, Deferred, drop, mark_rebuilt, read_unfinished, rebuild, save
from bulkseed.deferral.definitions import Captured
from bulkseed.embedded import Server
from bulkseed.errors import ConnectionLostError, RunError, TargetError
from bulkseed.ledger import Ledger
from bulkseed.plan.scenario import Scenario
from bulkseed.plan.tables import TABLE_NAMES, Model, Names
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from bulkseed.sql import compose, identifier
from support.errors import raises
from support.indexes_and_keys import Connect, connector, read, stays
from support.pg_dump import dump
from support.queries import run_sql

DEFERRED = Ledger().deferred


async def describe_schema(connection: Connection) -> list[str]:
    """Return a quick substitute for the dump: all indexes and constraints of the app's schemas, with attributes."""
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
@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("rows", [True, False], ids=["with rows", "without rows"])
async def test_dump_is_the_same_after(server: Server, museum: Address, connections: int, rows: bool) -> None:
    steps: list[str] = []
    async with open_connection(museum) as connection:
        if not rows:
            await connection.execute(f"TRUNCATE {', '.join(TABLE_NAMES)}, app.bookmarks, app.audit")
        before, shown = dump(server, museum), await describe_schema(connection)
        captured = await read(connection)
        assert stays(captured) == {"messages_no_overlap": "an exclusion constraint"}
        await drop(connection, captured.deferred)
        left = await describe_schema(connection)
        assert [each for each in left if "INDEX" in each] != []
        assert len(left) == len(shown) - len(captured.deferred) - sum(
            each.kind in {"primary key", "unique"} for each in captured.deferred
        )
        await drop(connection, captured.deferred)  # already gone
        await connection.execute("SET default_tablespace = 'elsewhere'")
        again = [Deferred.from_json(each.to_json()) for each in captured.deferred]
        assert again == list(captured.deferred)
    await rebuild(
        connector(museum),
        again,
        connections=connections,
        cores=connections,
        on_step=lambda name, seconds: steps.append(name),
    )
    assert dump(server, museum) == before
    async with open_connection(museum) as connection:
        assert await describe_schema(connection) == shown
        assert (await read(connection)).deferred == tuple(sorted_as(again, (await read(connection)).deferred))
    assert sum(name.startswith("index ") for name in steps) == sum(each.kind != "foreign key" for each in again)
    assert 'validate "app"."audit".audit_identity' in steps
    assert 'validate "app"."audit".audit_user' not in steps


def sorted_as(these: list[Deferred], those: tuple[Deferred, ...]) -> list[Deferred]:
    """``these`` in the order of ``those``: PostgreSQL numbers what is made in parallel as it comes."""
    return sorted(these, key=those.index)


async def test_statements_make_it_again_by_hand(server: Server, museum: Address) -> None:
    async with open_connection(museum) as connection:
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
        async with open_connection(address) as connection:
            yield Failing(connection, budget)

    return connect


async def wait_for_other_backends(connection: Connection) -> None:
    """Wait until the server has ended the processes of all other connections."""
    while await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"
    ):
        await anyio.sleep(0.01)


@pytest.mark.parametrize("connections", [1, 2])
async def test_crash_at_any_statement_loses_nothing(server: Server, museum: Address, connections: int) -> None:
    async with open_connection(museum) as connection:
        before, shown = dump(server, museum), await describe_schema(connection)
        saved = [each.to_json() for each in (await read(connection)).deferred]
        cuts = 0
        for after in range(3 - connections, 10_000, 33 - connections):
            await drop(connection, [Deferred.from_json(each) for each in saved])
            try:
                await rebuild(
                    failing(museum, after), [Deferred.from_json(each) for each in saved], connections=connections
                )
            except (Cut, ConnectionLostError):
                cuts += 1
                await wait_for_other_backends(connection)
                await rebuild(connector(museum), [Deferred.from_json(each) for each in saved], connections=connections)
                assert await describe_schema(connection) == shown, f"cut at statement {after}"
            else:
                break
        assert cuts > 8
    assert dump(server, museum) == before


async def test_crash_while_dropping_drops_nothing(museum: Address) -> None:
    async with open_connection(museum) as connection:
        shown = await describe_schema(connection)
        deferred = (await read(connection)).deferred
        for after in range(1, 10_000, 11):
            try:
                async with failing(museum, after)() as dying:
                    await drop(dying, deferred)
            except (Cut, ConnectionLostError):
                await wait_for_other_backends(connection)
                assert await describe_schema(connection) == shown
            else:
                break
        assert after > 50
        assert len(await describe_schema(connection)) < len(shown)


async def test_ledger_keeps_what_is_not_rebuilt(museum: Address) -> None:
    async with open_connection(museum) as connection:
        assert await read_unfinished(connection, DEFERRED) == {}
        await run_sql(museum, "DROP SCHEMA bulkseed CASCADE; CREATE SCHEMA bulkseed", compose(DDL, table=DEFERRED))
        captured = await read(connection)
        await save(connection, DEFERRED, 7, captured.deferred)
        await save(connection, DEFERRED, 8, captured.deferred[:1])
        assert await read_unfinished(connection, DEFERRED) == {7: captured.deferred, 8: captured.deferred[:1]}
        await mark_rebuilt(connection, DEFERRED, 7, captured.deferred[:5])
        assert await read_unfinished(connection, DEFERRED) == {7: captured.deferred[5:], 8: captured.deferred[:1]}
        await mark_rebuilt(connection, DEFERRED, 7, captured.deferred)
        await mark_rebuilt(connection, DEFERRED, 8, captured.deferred)
        assert await read_unfinished(connection, DEFERRED) == {}


async def test_definitions_have_the_json_of_earlier_ledgers(connection: Connection) -> None:
    await connection.execute(
        """
        CREATE TABLE "an ""odd {table}" (
            a int, b text, c int, CONSTRAINT pkey PRIMARY KEY (a),
            CONSTRAINT "odd key" UNIQUE (b) DEFERRABLE INITIALLY DEFERRED,
            CONSTRAINT parent FOREIGN KEY (c) REFERENCES "an ""odd {table}" ON DELETE SET NULL);
        COMMENT ON CONSTRAINT "odd key" ON "an ""odd {table}" IS 'it''s odd'
        """
    )
    table = '"public"."an ""odd {table}"'
    common: dict[str, object] = {"schema": "public", "relation": 'an "odd {table}'}
    expected = [
        {"kind": "primary key"}
        | common
        | {
            "name": "pkey",
            "create": 'CREATE UNIQUE INDEX pkey ON public."an ""odd {table}" USING btree (a)',
            "tablespace": "",
            "attach": f'ALTER TABLE {table} ADD CONSTRAINT "pkey" PRIMARY KEY USING INDEX "pkey"',
            "attributes": [],
            "parent": "",
            "validate": "",
            "columns": ["a"],
            "keys": [],
            "lets_go": False,
        },
        {"kind": "unique"}
        | common
        | {
            "name": "odd key",
            "create": 'CREATE UNIQUE INDEX "odd key" ON public."an ""odd {table}" USING btree (b)',
            "tablespace": "",
            "attach": f'ALTER TABLE {table} ADD CONSTRAINT "odd key" UNIQUE USING INDEX "odd key" '
            "DEFERRABLE INITIALLY DEFERRED",
            "attributes": [f"COMMENT ON CONSTRAINT \"odd key\" ON {table} IS 'it''s odd'"],
            "parent": "",
            "validate": "",
            "columns": ["b"],
            "keys": [],
            "lets_go": False,
        },
        {"kind": "foreign key"}
        | common
        | {
            "name": "parent",
            "create": f'ALTER TABLE {table} ADD CONSTRAINT "parent" FOREIGN KEY (c) '
            'REFERENCES public."an ""odd {table}"(a) ON DELETE SET NULL NOT VALID',
            "tablespace": "",
            "attach": "",
            "attributes": [],
            "parent": table,
            "validate": f'ALTER TABLE {table} VALIDATE CONSTRAINT "parent"',
            "columns": ["c"],
            "keys": ["a"],
            "lets_go": True,
        },
    ]
    definitions = (await read(connection, 'an "odd {table}')).deferred
    assert [definition.to_json() for definition in definitions] == [json.dumps(values) for values in expected]
    assert [Deferred.from_json(json.dumps(values)) for values in expected] == list(definitions)
    await drop(connection, definitions)
    for definition in definitions:
        for statement in definition.statements:
            await connection.execute(statement)
    assert (await read(connection, 'an "odd {table}')).deferred == definitions


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
        async with open_connection(database) as opened:
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
    for connections in range(1, 5):
        deferred = (await read(connection)).deferred
        await drop(connection, deferred)
        await rebuild(connector(database), deferred, connections=connections)
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
    await rebuild(connector(database), deferred, connections=3, on_step=lambda name, seconds: steps.append(name))
    assert await connection.fetch(depends) == before
    assert {"index users_pkey", "index users_again", "index pairs_b_a_key"} <= set(steps)


async def test_index_that_is_not_unique_stops_no_foreign_key(database: Address, connection: Connection) -> None:
    deferred = (await read(connection)).deferred
    await drop(connection, deferred)
    await connection.execute("CREATE TABLE messages_user_id_idx ()")
    with raises("name-taken", "messages_user_id_idx", "1 of 23", kind=RunError):
        await rebuild(connector(database), deferred, connections=2)


async def test_all_rows_are_marked_visible(seeded: Address) -> None:
    async with open_connection(seeded) as connection:
        deferred = (await read(connection)).deferred
        await drop(connection, deferred)
        await rebuild(connector(seeded), deferred)
        assert await connection.fetchval(
            # COPY leaves empty pages at the end, which VACUUM does not mark
            "SELECT relallvisible = (SELECT count(DISTINCT (ctid::text::point)[0]) FROM messages) "
            "FROM pg_class WHERE oid = 'messages'::regclass"
        )


async def test_lock_held_by_an_app_is_named(database: Address, connection: Connection) -> None:
    shown = await describe_schema(connection)
    deferred = (await read(connection)).deferred
    async with open_connection(database) as app:
        await app.execute("SET application_name = 'the app'")
        await app.execute("BEGIN; SELECT FROM channels")
        holder = f"process {app.get_server_pid()} of bulkseed (the app), since "
        with raises("no-lock", '"public"."channels"', holder, kind=TargetError):
            await drop(connection, deferred, lock_timeout=0.1, tries=2)
        assert await describe_schema(connection) == shown
        await app.execute("ROLLBACK")
        await drop(connection, deferred)
        await app.execute("BEGIN; LOCK TABLE messages IN ROW EXCLUSIVE MODE")
        with raises("no-lock", "messages_pkey", "2 times 0.1 s", holder, kind=RunError):
            await rebuild(connector(database), deferred, connections=2, lock_timeout=0.1, tries=2)
        await app.execute("ROLLBACK")
    await rebuild(connector(database), deferred, connections=2)
    assert await describe_schema(connection) == shown


async def test_waits_for_an_app_that_lets_go(database: Address, connection: Connection) -> None:
    shown = await describe_schema(connection)
    deferred = (await read(connection)).deferred
    await drop(connection, deferred)
    async with open_connection(database) as app, anyio.create_task_group() as tasks:
        await app.execute("BEGIN; LOCK TABLE messages IN ROW EXCLUSIVE MODE")

        async def let_go() -> None:
            await anyio.sleep(0.5)
            await app.execute("COMMIT")

        tasks.start_soon(let_go)
        await rebuild(connector(database), deferred, lock_timeout=0.1, tries=20)
    assert await describe_schema(connection) == shown


async def test_duplicate_is_named_and_the_rest_is_made(server: Server, museum: Address) -> None:
    await run_sql(museum, "ALTER TABLE messages DROP CONSTRAINT messages_no_overlap")
    before = dump(server, museum)
    async with open_connection(museum) as connection:
        deferred = (await read(connection)).deferred
        await drop(connection, deferred)
        await connection.execute("INSERT INTO messages SELECT * FROM messages WHERE id = 1")
        with raises("duplicate-rows", 'primary key messages_pkey of "public"."messages"', "(id)=(1)", kind=RunError):
            await rebuild(connector(museum), deferred, connections=2)
        left = {each.name for each in deferred} - {each.name for each in (await read(connection)).deferred}
        assert left == {
            "messages_pkey",
            "messages_parent_id_fkey",
            "message_reactions_message_id_fkey",
            "bookmarks_message",
        }
        await connection.execute("DELETE FROM messages WHERE ctid = (SELECT max(ctid) FROM messages WHERE id = 1)")
    await rebuild(connector(museum), deferred, connections=2)
    assert dump(server, museum) == before


async def test_orphan_is_named(server: Server, museum: Address) -> None:
    before = dump(server, museum)
    async with open_connection(museum) as connection:
        deferred = (await read(connection)).deferred
        await drop(connection, deferred)
        await connection.execute("UPDATE messages SET user_id = -5 WHERE id = (SELECT min(id) FROM messages)")
        with raises("orphan-rows", 'messages_user_id_fkey of "public"."messages"', "(user_id)=(-5)", kind=RunError):
            await rebuild(connector(museum), deferred)
        await connection.execute("UPDATE messages SET user_id = (SELECT min(id) FROM users) WHERE user_id = -5")
    await rebuild(connector(museum), deferred)
    assert dump(server, museum) == before


async def test_changed_definition_is_not_dropped_or_replaced(database: Address, connection: Connection) -> None:
    deferred = (await read(connection)).deferred
    await connection.execute("DROP INDEX messages_user_id_idx; CREATE INDEX messages_user_id_idx ON messages (content)")
    shown = await describe_schema(connection)
    with raises("changed-definition", "index messages_user_id_idx", kind=TargetError):
        await drop(connection, deferred)
    with raises("name-taken", "messages_user_id_idx", kind=RunError):
        await rebuild(connector(database), deferred)
    assert await describe_schema(connection) == shown


async def test_new_dependent_stops_the_drop(connection: Connection) -> None:
    deferred = (await read(connection)).deferred
    await connection.execute("CREATE VIEW busy AS SELECT id, name FROM users GROUP BY id")
    shown = await describe_schema(connection)
    with raises("new-dependent", "busy", "users_pkey", kind=TargetError):
        await drop(connection, deferred)
    assert await describe_schema(connection) == shown


async def test_table_is_indexed_when_its_rows_are_complete(museum: Address) -> None:
    events = {identifier("public", name): anyio.Event() for name in TABLE_NAMES}
    steps: list[str] = []
    async with open_connection(museum) as connection:
        deferred = (await read(connection)).deferred
        await drop(connection, deferred)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:

                async def make() -> None:
                    await rebuild(
                        connector(museum),
                        deferred,
                        rows_complete=events,
                        connections=2,
                        on_step=lambda name, seconds: steps.append(name),
                    )

                tasks.start_soon(make)
                await anyio.sleep(0.3)
                assert steps == []
                events[identifier("public", "channels")].set()
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
        with raises("connection-lost", kind=ConnectionLostError):
            await rebuild(connector(database), deferred, connections=2, on_step=on_step)
    await rebuild(connector(database), deferred)


async def test_a_connection_that_is_lost_as_soon_as_it_is_made(database: Address, connection: Connection) -> None:
    deferred = (await read(connection)).deferred
    await drop(connection, deferred)

    @asynccontextmanager
    async def lost() -> AsyncIterator[Connection]:
        async with open_connection(database) as made:
            await connection.execute("SELECT pg_terminate_backend($1, 5000)", made.get_server_pid())
            yield made

    with raises("connection-lost", kind=ConnectionLostError):
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
    with raises("missing-table", '"fleeting"', "2 of 25", kind=RunError):
        await rebuild(connector(database), deferred, connections=2)
    assert len((await read(connection)).deferred) == 23


async def test_different_errors_have_a_code_together(connection: Connection, database: Address) -> None:
    await connection.execute("CREATE TABLE fleeting (id bigint PRIMARY KEY)")
    deferred = (await read(connection, *TABLE_NAMES, "fleeting")).deferred
    await drop(connection, deferred)
    await connection.execute("DROP TABLE fleeting; CREATE TABLE messages_user_id_idx ()")
    with raises("not-rebuilt", '"fleeting"', "messages_user_id_idx", "2 of 24", kind=RunError):
        await rebuild(connector(database), deferred, connections=2)


async def test_without_the_ledger_is_none_unfinished(connection: Connection) -> None:
    assert await read_unfinished(connection, DEFERRED) == {}


async def test_dropped_foreign_keys_still_tell_what_points_at_what(museum: Address) -> None:
    async with open_connection(museum) as connection:
        deferred = (await read(connection)).deferred
        declared = await references(connection, [Names("public", Model(Scenario()))])
        assert [each for each in declared if not each.declared] == []
        assert set(await references(connection, [Names("public", Model(Scenario()))], deferred)) == set(declared)
        await drop(connection, deferred)
        saved = [Deferred.from_json(each.to_json()) for each in deferred]
        assert set(await references(connection, [Names("public", Model(Scenario()))], saved)) == set(declared)
        assert Reference(
            identifier("app", "bookmarks"),
            ("user_id", "channel_id"),
            identifier("public", "user_channels"),
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
    shown = await describe_schema(connection)
    deferred = (await read(connection)).deferred
    await drop(connection, deferred)
    steps = 0

    def on_step(name: str, seconds: float) -> None:
        nonlocal steps
        steps += 1
        if steps == after:
            scope.cancel()

    with anyio.CancelScope() as scope:
        await rebuild(connector(database), deferred, connections=2, on_step=on_step)
    assert scope.cancelled_caught
    await wait_for_other_backends(connection)
    await rebuild(connector(database), [*deferred, *deferred])
    assert await describe_schema(connection) == shown


async def test_drop_is_part_of_the_callers_transaction(connection: Connection) -> None:
    shown = await describe_schema(connection)
    block = connection.transaction()
    await block.start()
    await drop(connection, (await read(connection)).deferred)
    assert (await read(connection)).deferred == ()
    await block.rollback()
    assert await describe_schema(connection) == shown
