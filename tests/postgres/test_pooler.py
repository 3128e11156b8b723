"""A real PgBouncer: a session pool works like the server itself; any other is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from functools import partial

import asyncpg
import pytest

from bulkseed.embedded import Server
from bulkseed.errors import ConnectError, ServerUnavailableError, TargetError
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, connect, open_connection, translate_errors
from bulkseed.postgres.pooler import pooler_error
from support.app_rows import APP_ROWS
from support.commands import FIXED, inside
from support.databases import MakeDatabase
from support.errors import raises
from support.museum import MUSEUM
from support.pg_dump import dump
from support.pgbouncer import PROGRAM, pooled
from support.queries import digest, run_sql
from support.server_homes import enterable

Pool = Callable[..., Address]

with_pgbouncer = pytest.mark.skipif(
    PROGRAM is None, reason="pgbouncer is not installed (Debian: apt install pgbouncer)"
)


@pytest.fixture
def pool(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A function that starts a pooler in a mode, and returns a database's address through it."""
    with ExitStack() as stack:

        def start(
            mode: str,
            database: Address,
            *,
            before: Server = server,
            user_modes: dict[str, str] | None = None,
            **settings: str,
        ) -> Address:
            folder = enterable(tmp_path_factory.mktemp("pool"))
            through = stack.enter_context(pooled(before, folder, mode, user_modes, **settings))
            return Address(through.url._replace(database=database.database))

        yield start


@with_pgbouncer
def test_all_commands_through_a_pool_of_sessions(database: Address, server: Server, pool: Pool) -> None:
    asyncio.run(run_sql(database, *APP_ROWS, MUSEUM))
    before = asyncio.run(digest(database)), dump(server, database)
    url = {"BULKSEED_DATABASE_URL": pool("session", database).dsn}
    assert inside("init", **url).returncode == 0
    small = ("--scale", "3x", *FIXED, "--rows-per-shard", "1000", "--quiet")
    for workers, defer in (("2", "always"), ("1", "never")):
        done = inside(*small, "--workers", workers, "--defer", defer, **url)
        assert (done.returncode, done.stderr) == (0, "")
    done = inside("verify", **url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert inside("cleanup", "--yes", "--quiet", **url).returncode == 0
    assert (asyncio.run(digest(database)), dump(server, database)) == before


@with_pgbouncer
def test_no_command_uses_a_pool_of_transactions(seeded: Address, pool: Pool) -> None:
    before = asyncio.run(digest(seeded))
    through = pool("transaction", seeded)
    for arguments in (["load"], ["verify"], ["cleanup", "--yes"], ["init"]):
        done = inside(*arguments, BULKSEED_DATABASE_URL=through.dsn)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"bulkseed: error [pooler-without-sessions]: {through.server} ")
        assert done.stderr.count("\n") == 1
        assert "session" in done.stderr
    assert asyncio.run(digest(seeded)) == before


@with_pgbouncer
@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"default_pool_size": "1"}, {"server_round_robin": "1", "min_pool_size": "3"}],
    ids=["many", "one", "in turns"],
)
async def test_a_pool_of_transactions_is_refused_before_its_sessions_are_changed(
    database: Address, pool: Pool, mode: str, settings: dict[str, str]
) -> None:
    through = pool(mode, database, **settings)
    for _ in range(3):
        with raises("pooler-without-sessions", through.server, kind=TargetError):
            await connect(through)
    app = await asyncpg.connect(through.dsn, statement_cache_size=0)
    assert await app.fetchval("SELECT current_setting('client_connection_check_interval')") == "0"
    await app.close()


@with_pgbouncer
async def test_a_pool_may_have_another_mode_for_another_user(database: Address, pool: Pool) -> None:
    await run_sql(database, "CREATE ROLE brief LOGIN")
    through = pool("session", database, user_modes={"brief": "transaction"})
    async with open_connection(through):
        pass
    with raises("pooler-without-sessions", through.server, kind=TargetError):
        await connect(Address(through.url._replace(username="brief")))
    await run_sql(database, "DROP ROLE brief")


@with_pgbouncer
async def test_a_pool_of_transactions_is_seen_while_apps_use_it(database: Address, pool: Pool) -> None:
    through = pool("transaction", database, default_pool_size="4")
    apps = [await asyncpg.connect(through.dsn, statement_cache_size=0) for _ in range(3)]
    for app in apps:
        await app.execute("BEGIN")
    for _ in range(5):
        with raises("pooler-without-sessions", through.server, kind=TargetError):
            await connect(through)
    for app in apps:
        await app.close()


@with_pgbouncer
async def test_a_pool_with_one_session_is_enough_for_one_connection(database: Address, pool: Pool) -> None:
    through = pool("session", database, default_pool_size="1")
    # PgBouncer refuses the limits of a session as parameters; bulkseed sets them itself
    given = {"application_name": "seeding", "statement_timeout": "5s", "connect_timeout": "5", "keepalives_idle": "9"}
    named = Address(through.url._replace(query=(*through.url.query, *given.items())))
    async with open_connection(named) as connection:
        assert await connection.fetchval("SELECT current_setting('application_name')") == "seeding"
        assert await connection.fetchval("SELECT current_setting('statement_timeout')") == "0"


@with_pgbouncer
async def test_errors_of_a_pool(
    make_database: MakeDatabase, server: Server, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await make_database()
    through = pool("session", database, default_pool_size="1", query_wait_timeout="1")
    parameter = through.url._replace(query=(*through.url.query, ("search_path", "x")))
    nowhere = through.url._replace(database="nowhere")
    nobody = through.url._replace(username="nobody")
    locked = pool("session", database, auth_type="scram-sha-256").url._replace(password="wrong")
    empty = pool("session", database, before=replace(server, port=1), query_wait_timeout="1")
    for url, code, fact in (
        (parameter, "unsupported-parameter", "search_path"),
        (nowhere, "missing-database", "'nowhere'"),
        (nobody, "login-rejected", "PGPASSWORD"),
        (locked, "login-rejected", "PGPASSWORD"),
        (empty.url, "pooler-full", "query_wait_timeout"),
    ):
        address = Address(url)
        with raises(code, address.server, fact, kind=ConnectError):
            await connect(address)
    async with open_connection(through):
        with raises("pooler-full", through.server, "query_wait_timeout", kind=ServerUnavailableError):
            await connect(through)
        monkeypatch.setattr("bulkseed.postgres.connection.CONNECT_SECONDS", 0.3)
        with raises("no-session", through.server, "--workers", kind=ServerUnavailableError):
            await connect(through)
    small = pool("session", database, max_client_conn="2")
    with raises("pooler-full", small.server, "max_client_conn", kind=ServerUnavailableError):
        await connect_several(small, 3)


async def connect_several(address: Address, count: int) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(open_connection(address))


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("no such database: d", "missing-database"),
        ("server login has been failing, try again later (server_login_retry)", "pooler-without-server"),
        ("pgbouncer cannot connect to server", "pooler-without-server"),
        ("server login failed: FATAL password authentication failed", "pooler-without-server"),
        ("client_login_timeout", None),
    ],
)
def test_other_messages_of_pgbouncer(message: str, code: str | None) -> None:
    error = pooler_error(asyncpg.ProtocolViolationError(message), Address.parse("postgresql://u@h/d"))
    if code is None:
        assert error is None
    else:
        assert error is not None
        assert error.code == code
        assert "h:5432" in str(error)


async def test_a_statement_that_another_session_prepared(connection: Connection) -> None:
    for execute in (partial(connection.execute, "EXECUTE nothing"), partial(prepare_twice, connection)):
        with (
            raises("pooler-without-sessions", "testing", kind=TargetError),
            translate_errors(connection, "testing"),
        ):
            await execute()


async def prepare_twice(connection: Connection) -> None:
    await connection.execute("PREPARE one AS SELECT 1; PREPARE one AS SELECT 1")
