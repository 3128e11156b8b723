"""Deferral: what is dropped for a load comes back exactly as it was, whatever happens in between."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import anyio
import anyio.lowlevel
import asyncpg
import pytest
from conftest import MakeDatabase, address_of, run_sql

from bulkseed.address import Address
from bulkseed.connection import Connection, connected
from bulkseed.deferral import DDL, Deferred, capture, drop, mark_rebuilt, rebuild, save, unfinished
from bulkseed.deferral.definition import Captured
from bulkseed.deferral.work import Lock, Task, Work
from bulkseed.embedded import Server
from bulkseed.errors import ConnectionLost, RunError, TargetError
from bulkseed.ledger import Ledger
from bulkseed.model import Model, Names
from bulkseed.references import Reference, references
from bulkseed.scenario import Scenario
from bulkseed.tables import TABLE_NAMES

DEFERRED = Ledger().deferred

MUSEUM = """
CREATE SCHEMA app;
CREATE FUNCTION app.short(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT left($1, 20) $$;
CREATE COLLATION app."Numbers" FROM "C";

CREATE INDEX users_lower ON users (lower(email) text_pattern_ops, app.short(name) DESC NULLS LAST)
    INCLUDE (id, name) WITH (fillfactor = 71) WHERE is_active AND created_at > '2020-02-03 04:05:06';
ALTER INDEX users_lower ALTER COLUMN 1 SET STATISTICS 321;
ALTER INDEX users_lower ALTER COLUMN 2 SET STATISTICS 0;
COMMENT ON INDEX users_lower IS 'it''s a \\ comment';
CREATE UNIQUE INDEX "Users ""odd"" name" ON users (name COLLATE app."Numbers" DESC, id) NULLS NOT DISTINCT;
CREATE INDEX users_hash ON users USING hash (auth0_id);
CREATE INDEX users_brin ON users USING brin (created_at) WITH (pages_per_range = 7);
CREATE INDEX users_gin ON users USING gin (to_tsvector('english', coalesce(bio, ''))) WITH (fastupdate = off);
CREATE INDEX users_gist ON users USING gist (to_tsvector('english', name) tsvector_ops (siglen = 100))
    WITH (buffering = off);
CREATE STATISTICS app.pairs (ndistinct) ON lower(name), id FROM users;
CREATE UNIQUE INDEX users_identity ON users (email, id);
ALTER TABLE users REPLICA IDENTITY USING INDEX users_identity;
ALTER TABLE users CLUSTER ON "Users ""odd"" name";
COMMENT ON CONSTRAINT users_email_key ON users IS 'one account each';
COMMENT ON INDEX users_email_key IS 'the index behind it';
ALTER TABLE users DROP CONSTRAINT users_auth0_id_key;
ALTER TABLE users ADD CONSTRAINT users_auth0_id_key UNIQUE NULLS NOT DISTINCT (auth0_id) INCLUDE (name)
    WITH (fillfactor = 80) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE channels ADD CONSTRAINT "channels, named" UNIQUE (id, name) DEFERRABLE;
ALTER TABLE channels CLUSTER ON channels_join_code_key;
ALTER TABLE message_reactions REPLICA IDENTITY FULL;
ALTER TABLE messages ADD CONSTRAINT messages_no_overlap EXCLUDE USING hash (id WITH =);
COMMENT ON CONSTRAINT messages_parent_id_fkey ON messages IS 'replies';
ALTER TABLE messages DROP CONSTRAINT messages_user_id_fkey;
ALTER TABLE messages ADD CONSTRAINT messages_user_id_fkey FOREIGN KEY (user_id) REFERENCES users
    ON UPDATE CASCADE ON DELETE RESTRICT DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE users ADD COLUMN best_friend bigint CONSTRAINT users_friend REFERENCES users ON DELETE SET NULL;

CREATE TABLE app.bookmarks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bigint NOT NULL, channel_id bigint, message_id bigint NOT NULL,
    CONSTRAINT bookmarks_pair FOREIGN KEY (user_id, channel_id) REFERENCES public.user_channels (user_id, channel_id)
        ON DELETE SET NULL (channel_id),
    CONSTRAINT bookmarks_message FOREIGN KEY (message_id) REFERENCES public.messages ON DELETE CASCADE
);
CREATE INDEX bookmarks_message ON app.bookmarks (message_id);
CREATE TABLE app.audit (user_id bigint, name text, identity_email varchar, identity_id bigint);
INSERT INTO app.audit VALUES (-17, 'orphan', NULL, NULL);
ALTER TABLE app.audit ADD CONSTRAINT audit_user FOREIGN KEY (user_id) REFERENCES public.users ON DELETE SET DEFAULT
    NOT VALID;
ALTER TABLE app.audit ADD CONSTRAINT audit_identity FOREIGN KEY (identity_email, identity_id)
    REFERENCES public.users (email, id) MATCH FULL;
COMMENT ON CONSTRAINT audit_user ON app.audit IS 'not valid';
"""

Connect = Callable[[], AbstractAsyncContextManager[Connection]]


def connector(address: Address) -> Connect:
    return lambda: connected(address)


def dump(server: Server, address: Address) -> str:
    """The schema as pg_dump tells it, without the key that newer ones make up for each run."""
    url = server.url.replace(f"/{server.database}?", f"/{address.url.database}?")
    done = subprocess.run(
        [server.binaries / "pg_dump", "--schema-only", "--exclude-schema=bulkseed", url],
        capture_output=True,
        text=True,
        check=True,
    )
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


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


async def read(connection: Connection, *tables: str) -> Captured:
    return await capture(connection, "public", tables or TABLE_NAMES)


def stays(captured: Captured) -> dict[str, str]:
    return {each.name: each.reason for each in captured.kept}


@pytest.fixture
async def tablespace(server: Server) -> AsyncIterator[str]:
    """A tablespace in a folder that the server's account owns."""
    folder = server.data.parent / "elsewhere"
    folder.mkdir()
    owner = server.data.stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    admin = address_of(server, "postgres")
    await run_sql(admin, f"CREATE TABLESPACE elsewhere LOCATION '{folder}'")
    yield "elsewhere"
    await run_sql(admin, "DROP TABLESPACE elsewhere")
    folder.rmdir()


@pytest.fixture
async def museum(tablespace: str, make_database: MakeDatabase) -> Address:
    """One of each kind of index, key and mark, and some rows."""
    address = await make_database("seeded")
    await run_sql(
        address,
        MUSEUM,
        f"ALTER INDEX users_hash SET TABLESPACE {tablespace}",
        f"ALTER INDEX channels_pkey SET TABLESPACE {tablespace}",
        "INSERT INTO app.bookmarks (user_id, channel_id, message_id) "
        "SELECT u.user_id, u.channel_id, m.id FROM user_channels AS u JOIN messages AS m USING (user_id, channel_id)",
    )
    return address


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


async def settled(connection: Connection) -> None:
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
                await settled(connection)
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
                await settled(connection)
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


@pytest.mark.parametrize(
    ("sql", "kept"),
    [
        (
            "CREATE VIEW busy AS SELECT u.id, u.name, count(*) FROM users AS u JOIN messages AS m ON m.user_id = u.id "
            "GROUP BY u.id",
            {"users_pkey": "rule _RETURN on view public.busy depends on it"},
        ),
        (
            "CREATE TABLE parted (user_id bigint REFERENCES users) PARTITION BY LIST (user_id)",
            {
                "parted_user_id_fkey": "one of its tables is partitioned",
                "users_pkey": "constraint parted_user_id_fkey on table public.parted points at it, and stays: "
                "one of its tables is partitioned",
            },
        ),
        (
            "CREATE TABLE loose (user_id bigint REFERENCES users NOT ENFORCED)",
            {
                "loose_user_id_fkey": "it is NOT ENFORCED, and costs nothing",
                "users_pkey": "constraint loose_user_id_fkey on table public.loose points at it, and stays: "
                "it is NOT ENFORCED, and costs nothing",
            },
        ),
        (
            "ALTER TABLE messages DISABLE TRIGGER ALL",
            {
                "messages_channel_id_fkey": "its triggers are switched off",
                "messages_user_id_fkey": "its triggers are switched off",
                "messages_parent_id_fkey": "its triggers are switched off",
                "message_reactions_message_id_fkey": "its triggers are switched off",
                "users_pkey": "constraint messages_user_id_fkey",
                "channels_pkey": "constraint messages_channel_id_fkey",
                "messages_pkey": "constraint message",
            },
        ),
        (
            "CREATE PUBLICATION p FOR TABLE messages; ALTER TABLE users REPLICA IDENTITY FULL; "
            "CREATE PUBLICATION q FOR TABLE users",
            {"messages_pkey": "logical replication tells"},
        ),
        (
            "CREATE TABLE stay (id int4range, during tsrange, CONSTRAINT stay_key UNIQUE (id, during WITHOUT OVERLAPS))"
            ";CREATE TABLE visit (id int4range, during tsrange, CONSTRAINT visit_stay FOREIGN KEY (id, PERIOD during)"
            " REFERENCES stay (id, PERIOD during))",
            {"stay_key": "it is temporal", "visit_stay": "it is temporal"},
        ),
        (
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'messages_user_id_idx'::regclass",
            {"messages_user_id_idx": "it is invalid"},
        ),
        (
            "CREATE FUNCTION tag(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1'; "
            "CREATE INDEX users_tag ON users (tag(name)); ALTER FUNCTION tag STABLE",
            {"users_tag": "a function in it is no longer IMMUTABLE"},
        ),
        (
            "CREATE TABLE base (id bigint NOT NULL); CREATE TABLE loose () INHERITS (base); "
            "ALTER TABLE loose ADD PRIMARY KEY (id)",
            {"loose_pkey": "its columns are NOT NULL by inheritance"},
        ),
        (
            "CREATE EXTENSION plpgsql_x; ALTER INDEX messages_user_id_idx DEPENDS ON EXTENSION plpgsql_x",
            {"messages_user_id_idx": "it belongs to, or depends on, the extension"},
        ),
    ],
    ids=[
        "view",
        "partitioned",
        "not enforced",
        "triggers",
        "published",
        "temporal",
        "invalid",
        "mutable",
        "inherited",
        "extension",
    ],
)
async def test_what_cannot_come_back_stays(
    server: Server, database: Address, connection: Connection, sql: str, kept: dict[str, str]
) -> None:
    if connection.get_server_version().major < 18:
        if "NOT ENFORCED" in sql or "WITHOUT OVERLAPS" in sql:
            pytest.skip("what it makes came with PostgreSQL 18")
        # before 18 a column is NOT NULL, and does not say by whom
        kept = {name: reason for name, reason in kept.items() if "by inheritance" not in reason}
    await connection.execute(sql.replace("CREATE EXTENSION plpgsql_x; ", "").replace("plpgsql_x", "plpgsql"))
    before = dump(server, database)
    captured = await read(connection, *TABLE_NAMES, "stay", "visit", "parted", "loose")
    found = stays(captured)
    assert found.keys() == kept.keys()
    for name, reason in kept.items():
        assert found[name].startswith(reason), found[name]
    await drop(connection, captured.deferred)
    await rebuild(connector(database), captured.deferred)
    assert dump(server, database) == before


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


async def test_keys_from_outside_stay_with_the_key_they_point_at(connection: Connection) -> None:
    await connection.execute(
        "CREATE TABLE pinned (user_id bigint CONSTRAINT pinned_user REFERENCES users); "
        "CREATE VIEW busy AS SELECT id, name FROM users GROUP BY id"
    )
    found = stays(await read(connection))
    assert found.keys() == {"users_pkey", "pinned_user"}
    assert found["pinned_user"].startswith("the key that it points at stays")


async def test_partitioned_table_keeps_all(connection: Connection) -> None:
    await connection.execute(
        "CREATE TABLE events (id bigint PRIMARY KEY, user_id bigint REFERENCES users) PARTITION BY HASH (id); "
        "CREATE TABLE events_0 PARTITION OF events FOR VALUES WITH (MODULUS 1, REMAINDER 0); "
        "CREATE INDEX ON events (user_id)"
    )
    captured = await read(connection, "events", "events_0")
    assert captured.deferred == ()
    assert len(captured.kept) == 6


async def test_login_that_is_not_the_owner(museum: Address) -> None:
    await run_sql(
        museum,
        "DO $$ BEGIN CREATE ROLE guest; EXCEPTION WHEN duplicate_object THEN END $$",
        "ALTER TABLE messages OWNER TO guest; GRANT USAGE ON SCHEMA public, app TO guest",
    )
    async with connected(museum) as connection:
        await connection.execute("SET ROLE guest")
        captured = await read(connection)
        found = stays(captured)
        assert found["users_pkey"] == "this login is not the owner of its table"
        assert found["messages_user_id_idx"] == "this login may not make it again: it lacks CREATE on the schema"
        assert found["messages_user_id_fkey"] == (
            "this login may not make it again: it lacks REFERENCES on the table that it points at"
        )
        assert found["message_reactions_message_id_fkey"] == "this login is not the owner of its table"
        assert {each.name for each in captured.deferred} == {"messages_parent_id_fkey"}
        await run_sql(museum, "GRANT CREATE ON SCHEMA public TO guest; GRANT REFERENCES (id) ON users TO guest")
        captured = await read(connection)
        assert {each.name for each in captured.deferred} == {
            "messages_parent_id_fkey",
            "messages_user_id_fkey",
            "messages_user_id_idx",
            "messages_channel_id_created_at_idx",
            "messages_parent_id_idx",
        }
        await drop(connection, captured.deferred)

    @asynccontextmanager
    async def as_guest() -> AsyncIterator[Connection]:
        async with connected(museum) as opened:
            await opened.execute("SET ROLE guest")
            yield opened

    await rebuild(as_guest, captured.deferred)
    await run_sql(museum, "REASSIGN OWNED BY guest TO bulkseed; DROP OWNED BY guest; DROP ROLE guest")


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
            lets_go=True,
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
    await settled(connection)
    await rebuild(connector(database), [*deferred, *deferred])
    assert await shape(connection) == shown


async def lanes_of(work: Work, count: int) -> None:
    """Do the jobs of ``work`` over lanes that have no connection."""
    with anyio.fail_after(5):
        await work.run([cast(Connection, None)] * count)


class Jobs:
    """Jobs that note when they begin and end, and end in their own time."""

    def __init__(self) -> None:
        self.work = Work()
        self.log: list[str] = []

    def add(self, name: str, urgency: float = 0, moments: int = 3, **locks: Lock) -> None:
        """A job that takes ``locks``, by table."""

        async def do(_: Connection) -> None:
            self.log.append(f"+{name}")
            for _moment in range(moments):
                await anyio.lowlevel.checkpoint()
            self.log.append(f"-{name}")

        self.work.add(Task(do, locks, lambda: urgency))


async def test_the_most_urgent_goes_first() -> None:
    jobs = Jobs()
    jobs.add("a", 1)
    jobs.add("b", 3)
    jobs.add("c", 2)
    jobs.add("d", 3)
    await lanes_of(jobs.work, 1)
    assert [each for each in jobs.log if each.startswith("+")] == ["+b", "+d", "+c", "+a"]


async def test_no_lane_waits_for_a_lock_of_another() -> None:
    jobs = Jobs()
    jobs.add("validate", 9, t=Lock.SHARE_UPDATE_EXCLUSIVE, u=Lock.ROW_SHARE)
    jobs.add("validate too", 8, t=Lock.SHARE_UPDATE_EXCLUSIVE)
    jobs.add("index", 7, u=Lock.SHARE)
    jobs.add("index too", 6, u=Lock.SHARE)
    await lanes_of(jobs.work, 3)
    assert jobs.log[:3] == ["+validate", "+index", "+index too"]
    assert jobs.log.index("-validate") < jobs.log.index("+validate too")


async def test_what_keeps_the_urgent_waiting_comes_after_what_does_not() -> None:
    jobs = Jobs()
    jobs.add("running", 9, t=Lock.SHARE)
    jobs.add("urgent", 8, t=Lock.SHARE_ROW_EXCLUSIVE, u=Lock.SHARE_ROW_EXCLUSIVE)
    jobs.add("in its way", 7, u=Lock.SHARE)
    jobs.add("beside", 1, v=Lock.SHARE)
    await lanes_of(jobs.work, 2)
    assert jobs.log[:2] == ["+running", "+beside"]
    assert jobs.log.index("+urgent") < jobs.log.index("+in its way")
    jobs.log.clear()
    jobs.add("running", 9, t=Lock.SHARE)
    jobs.add("urgent", 8, t=Lock.SHARE_ROW_EXCLUSIVE, u=Lock.SHARE_ROW_EXCLUSIVE)
    jobs.add("in its way", 7, u=Lock.SHARE)
    await lanes_of(jobs.work, 2)
    assert jobs.log[:2] == ["+running", "+in its way"], "an idle lane helps nobody"


@pytest.mark.core
async def test_locks_are_those_of_the_server(database: Address) -> None:
    async def do(_: Connection) -> None:
        raise AssertionError

    async with connected(database) as first, connected(database) as second:
        for one, other in itertools.product(Lock, Lock):
            try:
                async with first.transaction(), second.transaction():
                    await first.execute(f"LOCK TABLE users IN {one.name.replace('_', ' ')} MODE")
                    await second.execute(f"LOCK TABLE users IN {other.name.replace('_', ' ')} MODE NOWAIT")
                together = True
            except asyncpg.LockNotAvailableError:
                together = False
            assert Task(do, {"users": one}).excludes(Task(do, {"users": other})) is not together


async def test_drop_is_part_of_the_callers_transaction(connection: Connection) -> None:
    shown = await shape(connection)
    begun = connection.transaction()
    await begun.start()
    await drop(connection, (await read(connection)).deferred)
    assert (await read(connection)).deferred == ()
    await begun.rollback()
    assert await shape(connection) == shown
