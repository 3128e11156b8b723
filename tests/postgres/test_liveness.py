"""A server that is gone without a word ends what waits for it; one that is only slow does not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

import anyio
import asyncpg
import pytest

from bulkseed.copy.writer import CopyPlan, copy_records
from bulkseed.embedded import Server
from bulkseed.errors import ConnectionLostError, ServerUnavailableError
from bulkseed.ledger.control import open_control
from bulkseed.listeners import NullListener
from bulkseed.postgres import liveness
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, close, connect, keep_alive, open_connection, translate_errors
from bulkseed.postgres.liveness import Loss
from bulkseed.postgres.transaction import RetryPolicy, safe_transaction
from chaos.proxy import Proxy, proxied
from support.errors import raises
from support.queries import run_sql

PATIENCE = 0.6


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the server after fractions of a second."""
    for name, seconds in {"FIRST_LOOK": 0.2, "LATER_LOOK": 0.2, "REPEATED_LOOK": 0.05, "IDLE": 0.5}.items():
        monkeypatch.setattr(liveness, f"{name}_SECONDS", seconds)
    monkeypatch.setattr("bulkseed.postgres.connection.LOOK_SECONDS", 0.3)


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    """A proxy in front of the session's server."""
    async with proxied(server) as started:
        yield started


async def test_a_statement_ends_when_the_network_swallows_everything(database: Address, proxy: Proxy) -> None:
    connection = await connect(proxy.address(database.database), PATIENCE)
    proxy.black_hole()
    began = time.monotonic()
    with raises("no-answer", kind=ConnectionLostError), translate_errors(connection, "waiting"):
        await connection.execute("SELECT 1")
    assert connection.is_closed()
    assert PATIENCE < time.monotonic() - began < PATIENCE + 3


async def test_a_slow_statement_is_waited_for(database: Address, proxy: Proxy) -> None:
    connection = await connect(proxy.address(database.database), 0)
    await connection.execute("SELECT pg_sleep(1.5)")
    assert await connection.fetchval("SELECT 1") == 1
    await close(connection)


async def test_a_lock_is_waited_for(database: Address, proxy: Proxy) -> None:
    async with open_connection(database) as holder:
        await holder.execute("SELECT pg_advisory_lock(1)")
        connection = await connect(proxy.address(database.database), 0)

        async def release() -> None:
            await anyio.sleep(1.2)
            await holder.execute("SELECT pg_advisory_unlock(1)")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(release)
            await connection.execute("SELECT pg_advisory_lock(1)")
        await close(connection)


async def test_a_network_that_recovers_loses_nothing(database: Address, proxy: Proxy) -> None:
    connection = await connect(proxy.address(database.database), 30)

    async def heal() -> None:
        await anyio.sleep(1)
        proxy.heal()

    proxy.black_hole()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(heal)
        assert await connection.fetchval("SELECT 7") == 7
    await close(connection)


async def test_a_server_without_free_connections_is_waited_for(
    database: Address, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await connect(proxy.address(database.database), 0)

    async def too_many(*_: object) -> None:
        raise asyncpg.TooManyConnectionsError("sorry, too many clients already")

    monkeypatch.setattr("bulkseed.postgres.connection.connect_to", too_many)
    await connection.execute("SELECT pg_sleep(1)")
    await close(connection)


async def test_a_connection_that_alone_is_lost_ends_with_its_session(database: Address, proxy: Proxy) -> None:
    """As a firewall forgets one flow: the server is there, and waits for the client that waits for it."""
    connection = await connect(proxy.address(database.database), 30)
    await connection.execute("BEGIN; SELECT pg_advisory_xact_lock(1)")
    for pair in proxy.pairs:
        pair.stall()
    with raises("connection-lost", kind=ConnectionLostError), translate_errors(connection, "waiting"):
        await connection.execute("COMMIT")
    assert connection.loss is Loss.NO_ANSWER
    async with open_connection(database) as other:
        with anyio.fail_after(2):
            await other.execute("SELECT pg_advisory_lock(1)")


async def copy_text(connection: Connection, rows: int, pause: Callable[[int], float] = lambda number: 0) -> int:
    """COPY rows of 10 kB into a table, which are made with pauses."""
    send, receive = anyio.create_memory_object_stream[list[tuple[str]]](1)

    async def make() -> None:
        with send:
            for number in range(rows):
                await anyio.sleep(pause(number))
                await send.send([("x" * 10_000,)])

    async with receive, anyio.create_task_group() as tasks:
        tasks.start_soon(make)
        plan = CopyPlan("copied", ("t",), types={})
        return await copy_records(connection, plan, receive, lambda _: None)
    raise AssertionError("a task group ends by returning or raising")


SLOW = """CREATE TABLE copied (t text); CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF NOT EXISTS (SELECT FROM copied) THEN PERFORM pg_sleep(1.5); END IF; RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON copied FOR EACH ROW EXECUTE FUNCTION slow()"""


async def test_a_copy_whose_server_does_not_read_for_a_while_is_waited_for(database: Address, proxy: Proxy) -> None:
    await run_sql(database, SLOW)
    connection = await connect(proxy.address(database.database), 0)
    assert await copy_text(connection, 2000) == 2000
    await close(connection)


async def test_a_copy_whose_rows_are_made_slowly_is_waited_for(database: Address, proxy: Proxy) -> None:
    await run_sql(database, "CREATE TABLE copied (t text)")
    connection = await connect(proxy.address(database.database), 0)
    assert await copy_text(connection, 5, lambda number: 1.5 if number == 3 else 0) == 5
    await close(connection)


@pytest.mark.parametrize("everything", [True, False])
async def test_a_paused_copy_ends_when_the_network_swallows_everything(
    database: Address, proxy: Proxy, everything: bool
) -> None:
    await run_sql(database, "CREATE TABLE copied (t text)")
    connection = await connect(proxy.address(database.database), PATIENCE)

    def stall(number: int) -> float:
        if number == 50:
            if everything:
                proxy.black_hole()
            for pair in proxy.pairs:
                pair.stall()
        return 0

    with anyio.fail_after(6), pytest.raises(ExceptionGroup) as caught:
        await copy_text(connection, 3000, stall)
    (error,) = caught.value.exceptions
    assert isinstance(error, ConnectionLostError)
    assert error.code == ("no-answer" if everything else "connection-lost")


async def test_a_ping_ends_when_the_network_swallows_everything(
    database: Address, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkseed.postgres.connection.KEEP_ALIVE_SECONDS", 0.1)
    connection = await connect(proxy.address(database.database), PATIENCE)
    proxy.black_hole()
    with anyio.fail_after(6), raises("no-answer", kind=ConnectionLostError):
        async with keep_alive(connection):
            await anyio.sleep_forever()


async def test_a_held_control_connection_ends_the_block(
    database: Address, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkseed.postgres.connection.KEEP_ALIVE_SECONDS", 0.1)
    policy = RetryPolicy(seconds=PATIENCE)
    with anyio.fail_after(7), raises("no-answer", kind=ServerUnavailableError):
        async with open_control(proxy.address(database.database), policy, NullListener()) as control:
            proxy.black_hole()
            async with control.held():
                await anyio.sleep_forever()


async def test_a_commit_without_an_answer_is_given_up_soon_after_a_cancellation(
    database: Address, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkseed.postgres.transaction.COMMIT_SECONDS", 0.3)
    connection = await connect(proxy.address(database.database), 60)
    began = time.monotonic()
    with anyio.move_on_after(0.3) as limit:
        async with safe_transaction(connection):
            proxy.black_hole()
    assert limit.cancelled_caught
    assert connection.is_closed()
    assert time.monotonic() - began < 2


async def test_a_commit_is_not_cut_off_by_a_cancellation(database: Address, connection: Connection) -> None:
    await connection.execute("CREATE TABLE t (i int)")
    with anyio.CancelScope() as scope:
        async with safe_transaction(connection):
            await connection.execute("INSERT INTO t VALUES (1)")
            scope.cancel()
    assert await connection.fetchval("SELECT count(*) FROM t") == 1


async def test_closing_is_bounded_where_the_other_end_stays_open(database: Address, proxy: Proxy) -> None:
    connection = await connect(proxy.address(database.database))
    proxy.black_hole()
    began = time.monotonic()
    await close(connection)
    assert connection.is_closed()
    assert time.monotonic() - began < 4
