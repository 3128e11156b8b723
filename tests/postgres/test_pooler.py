"""Through a real PgBouncer: a pool of sessions is as good as the server; any other is refused in a sentence."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from functools import partial

import asyncpg
import pytest

from bulkseed.embedded import Server
from bulkseed.errors import ConnectError, TargetError
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, connect, connected, translate_errors
from bulkseed.postgres.pooler import ANOTHER_SESSION, refusal
from support.app_rows import APP_ROWS
from support.commands import FIXED, inside
from support.databases import MakeDatabase
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
    """Starts poolers in a mode, and gives a database's address through them."""
    with ExitStack() as stack:

        def start(mode: str, database: Address, *, before: Server = server, **settings: str) -> Address:
            folder = enterable(tmp_path_factory.mktemp("pool"))
            through = stack.enter_context(pooled(before, folder, mode, **settings))
            return Address(through.url._replace(database=database.database))

        yield start


@with_pgbouncer
def test_all_commands_through_a_pool_of_sessions(database: Address, server: Server, pool: Pool) -> None:
    asyncio.run(run_sql(database, *APP_ROWS, MUSEUM))
    before = asyncio.run(digest(database)), dump(server, database)
    url = {"DATABASE_URL": pool("session", database).dsn}
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
    for arguments in ([], ["verify"], ["cleanup", "--yes"], ["init"]):
        done = inside(*arguments, DATABASE_URL=through.dsn)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(r"bulkseed: \S+ is a pooler that .*: name the server itself, .*session mode\n", done.stderr)
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
        with pytest.raises(TargetError, match=re.escape(ANOTHER_SESSION)):
            await connect(through)
    app = await asyncpg.connect(through.dsn, statement_cache_size=0)
    assert await app.fetchval("SELECT current_setting('client_connection_check_interval')") == "0"
    await app.close()


@with_pgbouncer
async def test_a_pool_of_transactions_is_seen_while_apps_use_it(database: Address, pool: Pool) -> None:
    through = pool("transaction", database, default_pool_size="4")
    apps = [await asyncpg.connect(through.dsn, statement_cache_size=0) for _ in range(3)]
    for app in apps:
        await app.execute("BEGIN")
    for _ in range(5):
        with pytest.raises(TargetError, match=re.escape(ANOTHER_SESSION)):
            await connect(through)
    for app in apps:
        await app.close()


@with_pgbouncer
async def test_a_pool_with_one_session_is_enough_for_one_connection(database: Address, pool: Pool) -> None:
    through = pool("session", database, default_pool_size="1")
    async with connected(through) as connection:
        assert await connection.fetchval("SELECT current_setting('statement_timeout')") == "0"


@with_pgbouncer
async def test_what_a_pool_refuses_is_a_sentence(
    make_database: MakeDatabase, server: Server, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await make_database()
    through = pool("session", database, default_pool_size="1", query_wait_timeout="1")
    parameter = through.url._replace(query=(*through.url.query, ("search_path", "x")))
    nowhere = through.url._replace(database="nowhere")
    nobody = through.url._replace(username="nobody")
    locked = pool("session", database, auth_type="scram-sha-256").url._replace(password="wrong")
    empty = pool("session", database, before=replace(server, port=1), query_wait_timeout="1")
    for url, said in (
        (parameter, "does not take search_path from the database URL"),
        (nowhere, "no database 'nowhere' at"),
        (nobody, "does not let us in"),
        (locked, "does not let us in"),
        (empty.url, "no connection left for us .query_wait_timeout.*look if the server"),
    ):
        with pytest.raises(ConnectError, match=said):
            await connect(Address(url))
    async with connected(through):
        with pytest.raises(ConnectError, match=r"no connection left for us .query_wait_timeout.*larger pool"):
            await connect(through)
        monkeypatch.setattr("bulkseed.postgres.connection.CONNECT_SECONDS", 0.3)
        with pytest.raises(ConnectError, match=r"let us in and then said nothing .*larger pool"):
            await connect(through)
    crowded = pool("session", database, max_client_conn="2")
    with pytest.raises(ConnectError, match=r"no connection left for us .*max_client_conn"):
        await crowd(crowded, 3)


async def crowd(address: Address, count: int) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(connected(address))


def test_other_words_of_pgbouncer() -> None:
    place = Address.parse("postgresql://u@h/d")
    for words, said in (
        ("no such database: d", "no database 'd' at h:5432"),
        ("server login has been failing, try again later (server_login_retry)", "cannot reach the server behind it"),
        ("pgbouncer cannot connect to server", "cannot reach the server behind it"),
        ("server login failed: FATAL password authentication failed", "cannot reach the server behind it"),
        ("client_login_timeout", None),
    ):
        found = refusal(asyncpg.ProtocolViolationError(words), place)
        assert (found is None) if said is None else (said in str(found))


async def test_a_statement_that_another_session_had_prepared_is_told_as_what_it_is(connection: Connection) -> None:
    for made in (partial(connection.execute, "EXECUTE nothing"), partial(twice_prepared, connection)):
        with (
            pytest.raises(TargetError, match=f"testing: this {re.escape(ANOTHER_SESSION)}"),
            translate_errors(connection, "testing"),
        ):
            await made()


async def twice_prepared(connection: Connection) -> None:
    await connection.execute("PREPARE one AS SELECT 1; PREPARE one AS SELECT 1")
