"""Poolers such as PgBouncer: a check that a connection through one keeps its session, and the poolers' own errors."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import asyncpg

from bulkseed.errors import ConnectError, ServerUnavailableError, TargetError
from bulkseed.postgres.driver import Connection, ConnectionParams

__all__ = ["NO_SESSION", "backend_pid", "check_session", "is_pooling_error", "pooler_error"]

ROUNDS: Final = 3
ROUND_SECONDS: Final = 2.0
"""The time limit of a round: a session pool with a single connection lets the second one wait."""

SESSION_POOLS: Final[set[tuple[str, str, str | None]]] = set()
"""The servers, databases and users that are known to be session pools: PgBouncer has modes of databases and users."""

POOLING_ERRORS: Final = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
"""A statement just prepared is unknown, or one never prepared exists: another backend answers."""

STATEMENT_POOLING: Final = "transaction blocks not allowed in statement pooling mode"

NO_SESSION: Final = (
    "is a pooler that gives each transaction another session, so that no lock lasts: "
    "name the server itself, or a pool in session mode"
)

NO_DATABASE: Final = re.compile("no such database|database .* does not exist")
LOGIN_REJECTED: Final = re.compile("authentication failed|auth failed|no such user|login rejected")
FULL: Final = re.compile("no more connections allowed|query_wait_timeout|max_client_conn|max_db_conn|max_user_conn")
UNSUPPORTED_PARAMETER: Final = re.compile("unsupported startup parameter(?: in options)?: (.*)")
NO_SERVER: Final = re.compile(
    "server_login_retry|server login|login failed|cannot connect to server|connect failed|connect_timeout"
    "|server_connect|server conn crashed|paused|suspended|disabled|shutting down"
)
"""Parts of PgBouncer's messages, with the wordings of several versions: https://www.pgbouncer.org/changelog.html."""


def is_pooling_error(error: BaseException) -> bool:
    """Return whether ``error`` shows that the session changes between transactions or statements."""
    return isinstance(error, POOLING_ERRORS) or STATEMENT_POOLING in str(error)


async def check_session(
    connection: Connection, params: ConnectionParams, open_second: Callable[[], Awaitable[Connection]]
) -> None:
    """Raise TargetError where ``connection`` has no session of its own for as long as it is open.

    Call this only where the backend is not the one that was announced when connecting, as behind every pooler.
    ``open_second`` opens another connection with the same parameters; it is awaited at most ``ROUNDS`` times, once
    for all connections of a process. A session pool gives each connection a backend of its own, so two observations
    are proof against one: both connections have the same backend at once, or that of the first has changed.
    Otherwise the pooler hands out the backend that was released last, so that one round is enough where no app uses
    the pool. Raises asyncpg's errors too.
    """
    pool = (params.server, params.database, params.arguments.get("user"))
    if pool in SESSION_POOLS:
        return
    no_session = TargetError(f"{params.server} {NO_SESSION}", code="pooler-without-sessions")
    try:
        first = await backend_pid(connection)
        for _ in range(ROUNDS):
            second = await second_backend_pid(open_second)
            if second == first or await backend_pid(connection) != first:
                raise no_session
            if second is None:
                return
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if is_pooling_error(error):
            raise no_session from error
        raise
    SESSION_POOLS.add(pool)


async def second_backend_pid(open_second: Callable[[], Awaitable[Connection]]) -> int | None:
    """Return the backend of a new connection; None where the pooler gives no connection in time."""
    pid: int | None = None
    second: Connection | None = None
    try:
        with anyio.move_on_after(ROUND_SECONDS):
            second = await open_second()
            pid = await backend_pid(second)
    except ConnectError:
        return None
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if is_pooling_error(error):
            raise
        return None
    finally:
        if second is not None:
            second.terminate()
    return pid


async def backend_pid(connection: Connection) -> int:
    """Return the process id of the backend that answers.

    Behind a pooler it is not the one that was announced when connecting. A transaction keeps it the same between the
    the messages of a statement.
    """
    await connection.execute("BEGIN")
    pid: int = await connection.fetchval("SELECT pg_backend_pid()")
    await connection.execute("COMMIT")
    return pid


def pooler_error(error: Exception, params: ConnectionParams) -> ConnectError | None:
    """Return the error for a message of the pooler itself; None for any other ``error``."""
    message = " ".join(str(error).split()).removeprefix("connection was closed in the middle of operation: ")
    if unsupported := UNSUPPORTED_PARAMETER.search(message):
        return ConnectError(
            f"the pooler at {params.server} does not accept the parameter {unsupported[1]} of the database URL: "
            "leave it out, or name the server itself",
            code="unsupported-parameter",
        )
    if isinstance(error, asyncpg.InvalidCatalogNameError) or NO_DATABASE.search(message):
        return ConnectError(
            f"there is no database {params.database!r} at {params.server}: "
            "create it with createdb, or correct the name in the database URL",
            code="missing-database",
        )
    if FULL.search(message):
        return ServerUnavailableError(
            f"the pooler at {params.server} has no free connection ({message}): give it a larger pool, "
            "try fewer --workers, or check that the server behind it is running",
            code="pooler-full",
        )
    if NO_SERVER.search(message):
        return ServerUnavailableError(
            f"the pooler at {params.server} cannot reach the server behind it ({message}): "
            "start the server, or correct the pooler's settings",
            code="pooler-without-server",
        )
    if LOGIN_REJECTED.search(message):
        return ConnectError(
            f"{params.server} does not let the user connect ({message}): "
            "correct the user or password in the database URL, in PGPASSWORD or in ~/.pgpass",
            code="login-rejected",
        )
    return None
