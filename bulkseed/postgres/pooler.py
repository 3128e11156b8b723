"""Poolers such as PgBouncer: which of them a session can be had through, and what they say when they refuse one."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import asyncpg

from bulkseed.errors import ConnectError, ServerUnavailable, TargetError
from bulkseed.postgres.driver import Connection, ConnectionParams

__all__ = ["ANOTHER_SESSION", "check_session", "is_of_pooling", "refusal"]

ROUNDS: Final = 3
ROUND_SECONDS: Final = 2.0
"""A session pool of one connection has no second for us, and lets us wait."""

SESSION_POOLS: Final[set[tuple[str, str]]] = set()
"""Servers and databases that were found to be pools of sessions."""

POOLING_ERRORS: Final = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
"""A statement prepared a moment ago is unknown, or one never prepared is there: another backend answers."""

NO_TRANSACTIONS: Final = "transaction blocks not allowed in statement pooling mode"

ANOTHER_SESSION: Final = (
    "is a pooler that gives each transaction another session, in which no lock of ours would last: "
    "name the server itself, or a pool in session mode"
)

NO_DATABASE: Final = re.compile("no such database|database .* does not exist")
NOT_LET_IN: Final = re.compile("authentication failed|auth failed|no such user|login rejected")
FULL: Final = re.compile("no more connections allowed|query_wait_timeout|max_client_conn|max_db_conn|max_user_conn")
PARAMETER: Final = re.compile("unsupported startup parameter(?: in options)?: (.*)")
BEHIND: Final = re.compile(
    "server_login_retry|server login|login failed|cannot connect to server|connect failed|connect_timeout"
    "|server_connect|server conn crashed|paused|suspended|disabled|shutting down"
)
"""What PgBouncer says, some of it with other words in other versions: https://www.pgbouncer.org/changelog.html."""


def is_of_pooling(error: BaseException) -> bool:
    """Whether ``error`` comes of a session that is not ours alone."""
    return isinstance(error, POOLING_ERRORS) or NO_TRANSACTIONS in str(error)


async def check_session(
    connection: Connection, place: ConnectionParams, another: Callable[[], Awaitable[Connection]]
) -> None:
    """Raises TargetError where the session behind ``connection`` is not its own for as long as it is open.

    To be asked only where the backend is not the one that the login named, as behind every pooler. ``another`` opens
    a second connection to the same place, and is awaited ``ROUNDS`` times at most, once for all connections of a
    process. The same backend under both at once, or another one under the first than before, is proof: a pool of
    sessions gives each connection its own. Else the backend that got free last is the next to be given, so that one
    round is enough where no app is at work. Raises what asyncpg raises.
    """
    if (place.server, place.database) in SESSION_POOLS:
        return
    try:
        mine = await backend(connection)
        for _ in range(ROUNDS):
            theirs = await backend_of(another)
            if theirs == mine or await backend(connection) != mine:
                raise TargetError(f"{place.server} {ANOTHER_SESSION}")
            if theirs is None:
                return
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if is_of_pooling(error):
            raise TargetError(f"{place.server} {ANOTHER_SESSION}") from error
        raise
    SESSION_POOLS.add((place.server, place.database))


async def backend_of(another: Callable[[], Awaitable[Connection]]) -> int | None:
    """The backend of a new connection; None where there is none to be had."""
    found: int | None = None
    second: Connection | None = None
    try:
        with anyio.move_on_after(ROUND_SECONDS):
            second = await another()
            found = await backend(second)
    except ConnectError:
        return None
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if is_of_pooling(error):
            raise
        return None
    finally:
        if second is not None:
            second.terminate()
    return found


async def backend(connection: Connection) -> int:
    """The server's process that answers; a transaction keeps it the same between the messages of a statement."""
    await connection.execute("BEGIN")
    found: int = await connection.fetchval("SELECT pg_backend_pid()")
    await connection.execute("COMMIT")
    return found


def refusal(error: Exception, place: ConnectionParams) -> ConnectError | None:
    """What a pooler's own refusal means, in a sentence; None for what is not one."""
    said = " ".join(str(error).split()).removeprefix("connection was closed in the middle of operation: ")
    if found := PARAMETER.search(said):
        return ConnectError(
            f"the pooler at {place.server} does not take {found[1]} from the database URL: leave it out, "
            "or name the server itself"
        )
    if isinstance(error, asyncpg.InvalidCatalogNameError) or NO_DATABASE.search(said):
        return ConnectError(
            f"there is no database {place.database!r} at {place.server}: "
            "create it with createdb, or correct the name in the database URL"
        )
    if FULL.search(said):
        return ServerUnavailable(
            f"the pooler at {place.server} has no connection left for us ({said}): give it a larger pool, "
            "try fewer --workers, or look if the server behind it is up"
        )
    if BEHIND.search(said):
        return ServerUnavailable(
            f"the pooler at {place.server} cannot reach the server behind it ({said}): "
            "start that, or correct the pooler's settings"
        )
    if NOT_LET_IN.search(said):
        return ConnectError(
            f"{place.server} does not let us in ({said}): "
            "correct the user or password in the database URL, in PGPASSWORD or in ~/.pgpass"
        )
    return None
