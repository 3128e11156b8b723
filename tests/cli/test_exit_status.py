"""The exit statuses of commands: what each kind of error ends with, and that they tell a server away from a mistake."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from bulkseed import errors
from bulkseed.embedded import Server
from bulkseed.errors import ConnectError, EmbeddedError, InputError, RunError, ServerUnavailableError
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.postgres.transaction import RetryPolicy
from support.commands import inside
from support.databases import address_of
from support.errors import raises
from support.listeners import Interfering
from support.obstacles import FAIL
from support.plans import plan_of
from support.queries import run_sql

STATUSES = {
    "BulkseedError": 1,
    "ConnectError": 2,
    "ConnectionLostError": 1,
    "DiskFullError": 1,
    "EmbeddedError": 4,
    "InputError": 2,
    "NoEmbeddedServerError": 2,
    "RunError": 1,
    "ServerUnavailableError": 4,
    "StoppedError": 1,
    "TargetError": 2,
    "TransientError": 1,
    "ViolatingRowsError": 1,
}


def test_each_class_of_errors_has_its_status() -> None:
    classes = {name: getattr(errors, name) for name in errors.__all__ if name.endswith("Error")}
    assert {name: kind.exit_status for name, kind in classes.items()} == STATUSES
    # nothing was changed: what a program may rely on, and the only errors with these statuses
    for kind in classes.values():
        assert issubclass(kind, InputError) == (kind.exit_status in {2, 4})


def error_of(*arguments: str, **environment: str) -> tuple[int, str]:
    """Return the exit status and the code of a command that fails; both are those of its JSON object."""
    done = inside(*arguments, "--json", **environment)
    error = json.loads(done.stdout)["error"]
    assert error["exit_status"] == done.returncode
    assert error["code"] in done.stderr
    return done.returncode, error["code"]


COMMANDS = (["load"], ["verify"], ["cleanup", "--yes"], ["init"], ["runs"], ["resume"])


@pytest.fixture
def closing() -> Iterator[str]:
    """The URL of a port that accepts connections and closes them, as a proxy without its server does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close_all() -> None:
            with suppress(OSError):  # the listener is closed
                while True:
                    listener.accept()[0].close()

        Thread(target=close_all, daemon=True).start()
        yield f"postgresql://u@127.0.0.1:{listener.getsockname()[1]}/d"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_without_a_server_it_is_4(command: list[str]) -> None:
    assert error_of(*command, BULKSEED_DATABASE_URL="postgresql://u@127.0.0.1:1/d") == (4, "no-answer")


def test_an_unknown_host_and_a_missing_socket_are_4(tmp_path: Path) -> None:
    assert error_of("verify", BULKSEED_DATABASE_URL="postgresql://u@nowhere.invalid/d") == (4, "no-answer")
    assert error_of("verify", BULKSEED_DATABASE_URL=f"postgresql://u@/d?host={tmp_path}") == (4, "no-answer")


def test_a_connection_that_is_closed_at_once_is_4(closing: str) -> None:
    status, code = error_of("verify", BULKSEED_DATABASE_URL=closing)
    assert (status, code) in {(4, "connection-refused"), (4, "no-answer")}


def test_a_full_server_is_4_and_a_login_without_rights_2(database: Address, server: Server) -> None:
    admin = address_of(server, "postgres")
    name = database.url.database
    login = Address(database.url._replace(username="visitor")).dsn
    asyncio.run(run_sql(database, "CREATE ROLE visitor LOGIN", f"ALTER DATABASE {name} CONNECTION LIMIT 0"))
    try:
        assert error_of("verify", BULKSEED_DATABASE_URL=login) == (4, "connection-refused")
        asyncio.run(
            run_sql(
                database,
                f"ALTER DATABASE {name} CONNECTION LIMIT -1",
                f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
            )
        )
        assert error_of("verify", BULKSEED_DATABASE_URL=login) == (2, "missing-privilege")
        asyncio.run(run_sql(admin, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        assert error_of("verify", BULKSEED_DATABASE_URL=database.dsn) == (2, "connection-not-allowed")
    finally:
        asyncio.run(run_sql(admin, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
        asyncio.run(run_sql(database, f"GRANT CONNECT ON DATABASE {name} TO PUBLIC", "DROP ROLE visitor"))


def test_mistakes_are_2(listening: Server, database: Address) -> None:
    wrong_password = f"postgresql://bulkseed:wrong@127.0.0.1:{listening.tcp_port}/bulkseed"
    assert error_of("verify", BULKSEED_DATABASE_URL=wrong_password) == (2, "login-rejected")
    assert error_of("verify", BULKSEED_DATABASE_URL=address_of(listening, "absent").dsn) == (2, "missing-database")
    assert error_of("verify", BULKSEED_DATABASE_URL=database.dsn) == (2, "no-runs")
    assert error_of("load", "--scale", "0x", BULKSEED_DATABASE_URL=database.dsn)[0] == 2
    assert error_of("load", "--nope") == (2, "usage-error")


def test_an_embedded_server_that_cannot_start_is_4(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a file").touch()
    status, code = error_of("verify", BULKSEED_HOME=str(tmp_path))
    assert status == 4
    assert code in {"not-a-data-folder", "blocked-home"}
    (tmp_path / "file").touch()
    assert error_of("verify", BULKSEED_HOME=str(tmp_path / "file")) == (4, "unusable-home")


def test_a_broken_rule_is_3(seeded: Address) -> None:
    asyncio.run(run_sql(seeded, "UPDATE users SET bio = '' WHERE id = 3"))
    done = inside("verify", "--json", BULKSEED_DATABASE_URL=seeded.dsn)
    assert done.returncode == 3
    assert json.loads(done.stdout)["holds"] is False
    assert inside("verify", "--quiet", BULKSEED_DATABASE_URL=seeded.dsn).returncode == 3


def test_a_failed_run_is_1(database: Address) -> None:
    asyncio.run(run_sql(database, FAIL))
    assert error_of("load", "--scale", "3x", "--workers", "1", BULKSEED_DATABASE_URL=database.dsn) == (
        1,
        "server-error",
    )


async def test_a_server_lost_in_a_load_is_1(database: Address) -> None:
    """It ends all connections and accepts none, once the load has begun to write."""
    name = database.url.database
    await run_sql(
        database,
        "CREATE ROLE loading LOGIN",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO loading",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO loading",
        f"GRANT CREATE ON DATABASE {name} TO loading",
    )
    tasks: list[asyncio.Future[None]] = []
    end = (
        f"ALTER DATABASE {name} CONNECTION LIMIT 0",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'loading'",
    )
    listener = Interfering("users", lambda: tasks.append(asyncio.ensure_future(run_sql(database, *end))))
    login = Address(database.url._replace(username="loading"))
    try:
        with raises("connection-refused", "run 1", kind=RunError) as caught:
            await load(plan_of("5x"), login, listener=listener, retry_policy=RetryPolicy(seconds=0.2))
        await asyncio.gather(*tasks)
        assert caught.value.exit_status == 1
        async with open_connection(database) as connection:
            assert await connection.fetchval("SELECT count(*) FROM bulkseed.runs") == 1
    finally:
        await run_sql(database, "DROP OWNED BY loading", "DROP ROLE loading")


def test_the_classes_of_a_server_away_are_errors_of_a_connection() -> None:
    assert issubclass(ServerUnavailableError, ConnectError)
    assert not issubclass(EmbeddedError, ConnectError)
