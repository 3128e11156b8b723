"""The settings of bulkseed's sessions, and the servers that it accepts."""

from __future__ import annotations

from typing import Final

import pytest

from bulkseed.embedded import Server
from bulkseed.errors import TargetError
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import OLDEST_MAJOR, Connection, open_connection
from bulkseed.sql import compose, literal
from support.databases import address_of
from support.errors import raises
from support.installed import version_of
from support.queries import run_sql

SECRET: Final = "s3cret"
WATCHED: Final = {
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "4",
    "tcp_user_timeout": "60000",
}


async def shown(connection: Connection, *names: str) -> dict[str, str]:
    return {name: await connection.fetchval(f"SHOW {name}") for name in names}


@pytest.mark.core
async def test_the_server_is_that_of_the_programs(server: Server, connection: Connection) -> None:
    assert (await connection.fetchval("SHOW server_version")) in version_of(server.binaries)
    assert connection.get_server_version().major >= OLDEST_MAJOR


async def test_composed_sql_is_sent_by_every_method(connection: Connection) -> None:
    query = compose("SELECT {value} AS value", value=literal("it's"))
    assert await connection.execute(query) == "SELECT 1"
    assert await connection.fetchval(query) == "it's"
    assert (await connection.fetchrow(query))["value"] == "it's"
    assert [row["value"] for row in await connection.fetch(query)] == ["it's"]
    async with connection.transaction():
        assert [row["value"] async for row in connection.cursor(query)] == ["it's"]


async def test_a_server_that_is_too_old_is_refused(database: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkseed.postgres.connection.OLDEST_MAJOR", 99)
    with raises("server-too-old", database.server, 99, kind=TargetError):
        async with open_connection(database):
            pass


async def test_a_server_that_only_resembles_postgresql_is_refused(
    database: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkseed.postgres.connection.UNSUPPORTED", {"PostgreSQL": "another product"})
    with raises("unsupported-server", database.server, "another product", kind=TargetError):
        async with open_connection(database):
            pass


@pytest.mark.core
async def test_a_session_has_no_limits_of_an_app(database: Address) -> None:
    limits = ("statement_timeout", "lock_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout")
    await run_sql(database, *(f"ALTER DATABASE {database.database} SET {name} = '7s'" for name in limits))
    await run_sql(database, f"ALTER DATABASE {database.database} SET TimeZone = 'Asia/Tokyo'")
    async with open_connection(database) as connection:
        assert await shown(connection, *limits) == dict.fromkeys(limits, "0")
        assert await shown(connection, "TimeZone") == {"TimeZone": "UTC"}


async def test_through_a_socket_there_is_nothing_to_watch(connection: Connection) -> None:
    assert set((await shown(connection, *WATCHED)).values()) == {"0"}


async def test_over_tcp_a_host_that_is_gone_is_noticed(listening: Server) -> None:
    admin = address_of(listening, "postgres")
    await run_sql(admin, f"CREATE ROLE watcher LOGIN PASSWORD '{SECRET}'")
    over_tcp = f"postgresql://watcher:{SECRET}@127.0.0.1:{listening.tcp_port}/postgres"
    async with open_connection(Address.parse(over_tcp)) as connection:
        assert await shown(connection, *WATCHED) == WATCHED
    await run_sql(admin, "DROP ROLE watcher")
