"""What a session of ours is set to."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import anyio
import pytest
from conftest import run_sql

from bulkseed.address import Address
from bulkseed.connection import Connection, connected
from bulkseed.embedded import Listen, running

SECRET: Final = "s3cret"
WATCHED: Final = {
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "4",
    "tcp_user_timeout": "60000",
}


async def shown(connection: Connection, *names: str) -> dict[str, str]:
    return {name: await connection.fetchval(f"SHOW {name}") for name in names}


async def test_a_session_has_no_limits_of_an_app(database: Address) -> None:
    limits = ("statement_timeout", "lock_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout")
    await run_sql(database, *(f"ALTER DATABASE {database.database} SET {name} = '7s'" for name in limits))
    await run_sql(database, f"ALTER DATABASE {database.database} SET TimeZone = 'Asia/Tokyo'")
    async with connected(database) as connection:
        assert await shown(connection, *limits) == dict.fromkeys(limits, "0")
        assert await shown(connection, "TimeZone") == {"TimeZone": "UTC"}


async def test_through_a_socket_there_is_nothing_to_watch(connection: Connection) -> None:
    assert set((await shown(connection, *WATCHED)).values()) == {"0"}


def test_over_tcp_a_host_that_is_gone_is_noticed(tmp_path_factory: pytest.TempPathFactory) -> None:
    home: Path = tmp_path_factory.mktemp("tcp")
    home.chmod(0o755)
    with running(home, listen=Listen(0)) as server:

        async def look() -> dict[str, str]:
            await run_sql(Address.parse(server.url), f"ALTER ROLE {server.user} PASSWORD '{SECRET}'")
            over_tcp = f"postgresql://{server.user}:{SECRET}@127.0.0.1:{server.tcp_port}/{server.database}"
            async with connected(Address.parse(over_tcp)) as connection:
                return await shown(connection, *WATCHED)

        assert anyio.run(look) == WATCHED
