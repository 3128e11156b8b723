"""Connections of asyncpg, for COPY and plain SQL, with one way to fail."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final

import anyio
import asyncpg

from bulkseed.errors import (
    BulkseedError,
    ConnectError,
    ConnectionLost,
    DiskFull,
    RunError,
    ServerUnavailable,
    TargetError,
    TransientError,
    first_cause,
)
from bulkseed.postgres.driver import Connection, ConnectionParams, DriverConnection
from bulkseed.postgres.pooler import ANOTHER_SESSION, check_session, is_of_pooling, refusal

__all__ = [
    "LOST",
    "Connection",
    "ConnectionParams",
    "close",
    "connect",
    "connected",
    "is_transient",
    "kept_alive",
    "preflight_errors",
    "told",
    "translate_errors",
]


CONNECT_SECONDS: Final = 20.0
OLDEST_MAJOR: Final = 15
KEEP_ALIVE_SECONDS: Final = 30.0

SESSION: Final = """
SELECT set_config(name, value, false) FROM (
    SELECT name, '0' FROM pg_settings
    WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_session_timeout',
                   'idle_in_transaction_session_timeout')
    UNION ALL VALUES ('TimeZone', 'UTC'), ('standard_conforming_strings', 'on'), ('quote_all_identifiers', 'off')
    UNION ALL SELECT 'synchronous_commit', 'local' WHERE current_setting('synchronous_commit') = 'off'
    UNION ALL SELECT 'client_connection_check_interval', '2s' WHERE version() LIKE '%linux%'
    UNION ALL SELECT * FROM (VALUES ('tcp_keepalives_idle', '20s'), ('tcp_keepalives_interval', '10s'),
                                    ('tcp_keepalives_count', '4'), ('tcp_user_timeout', '60s')) AS tcp
    WHERE inet_client_addr() IS NOT NULL
    UNION ALL SELECT 'search_path', string_agg(quote_ident(schema), ', ') FROM unnest(current_schemas(false)) AS schema
    WHERE schema <> 'bulkseed' HAVING 'bulkseed' = ANY (current_schemas(false))
) AS session (name, value)
"""
"""Limits that a role sets for an app's short statements would end a long COPY. What was committed must still be so when
a server that crashed is back, for a load that goes on then would not load it again. A backend that waits for a lock is
to notice that its client was killed (the setting exists where the server can see that), and any that its client's
machine is gone, in a minute: it has locks. Where the login is called bulkseed, ``"$user"`` in its search_path would put
the ledger's schema before the app's."""


@asynccontextmanager
async def connected(place: ConnectionParams) -> AsyncIterator[Connection]:
    """A connection to ``place``, closed at the end. Raises ConnectError where it cannot be had."""
    connection = await connect(place)
    try:
        yield connection
    finally:
        await close(connection)


async def connect(place: ConnectionParams) -> Connection:
    """A connection that is the caller's to close. Raises ConnectError where it cannot be had."""
    connection = await open_connection(place)
    try:
        with anyio.fail_after(CONNECT_SECONDS):
            await begin_session(connection, place)
    except BaseException as error:
        lost = connection.is_closed()
        connection.terminate()
        if isinstance(error, BulkseedError):
            raise
        if isinstance(error, TimeoutError):
            raise ServerUnavailable(
                f"{place.server} let us in and then said nothing for {CONNECT_SECONDS:.0f} s: try again when it is "
                "less busy, or, where it is a pooler with no connection left, with a larger pool or fewer --workers"
            ) from None
        if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError) and (told_why := refusal(error, place)):
            raise told_why from error
        if lost and isinstance(error, Exception):
            raise ServerUnavailable(f"the server at {place.server} took a connection and ended it: {AGAIN}") from error
        raise
    major = connection.get_server_version().major
    if major < OLDEST_MAJOR:
        connection.terminate()
        raise TargetError(f"the server at {place.server} is PostgreSQL {major}: bulkseed needs {OLDEST_MAJOR} or newer")
    return connection


async def begin_session(connection: Connection, place: ConnectionParams) -> None:
    # in one statement, which does nothing to a backend that may be an app's too
    if await connection.execute(f"{SESSION} WHERE pg_backend_pid() = {connection.get_server_pid()}") == "SELECT 0":
        await check_session(connection, place, partial(open_connection, place))
        await connection.execute(SESSION)


async def open_connection(place: ConnectionParams) -> Connection:
    # no statement cache: a cached statement encodes by a table's old types, and PgBouncer cannot keep it
    arguments = {**place.arguments, "timeout": CONNECT_SECONDS, "statement_cache_size": 0}
    arguments["server_settings"] = {**arguments["server_settings"], "application_name": "bulkseed"}
    try:
        found: Connection = await asyncpg.connect(**arguments, connection_class=DriverConnection)
        return found
    except asyncpg.PostgresError as error:
        raise refused(error, place) from None
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
        raise ConnectError(
            f"no TLS connection to {place.server} can be made ({reason}): correct sslmode and its files"
        ) from None
    except (TimeoutError, OSError) as error:
        reason = error.strerror or str(error) or f"no answer in {CONNECT_SECONDS:.0f} s"
        if "SSL" in reason:
            raise ConnectError(
                f"no PostgreSQL answers at {place.server} ({reason}): correct sslmode in the database URL"
            ) from None
        raise ServerUnavailable(
            f"no PostgreSQL answers at {place.server} ({reason}): start it, or correct the database URL"
        ) from None
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError) as error:
        said = str(error).partition("\n")[0]
        raise ConnectError(
            f"the connection to {place.server} cannot be made ({said}): correct the database URL"
        ) from None


def mend_of(refusal: str) -> str:
    """What to do where the server does not let a login in."""
    if "certificate" in refusal:
        return "correct sslcert and sslkey, or use another login"
    if "pg_hba.conf" in refusal:
        return "correct the user, the database or sslmode, or have the server let it in"
    return "correct the user or password in the database URL, in PGPASSWORD or in ~/.pgpass"


def refused(error: asyncpg.PostgresError, place: ConnectionParams) -> ConnectError:
    """Why the server, or a pooler before it, does not let us in, and what to do about that."""
    if isinstance(error, asyncpg.InvalidPasswordError | asyncpg.InvalidAuthorizationSpecificationError):
        said = "; ".join(filter(None, [told(error), place.unread]))
        return ConnectError(f"the server at {place.server} does not let us in ({said}): {mend_of(said)}")
    if isinstance(error, asyncpg.UndefinedObjectError):
        return ConnectError(f"the server at {place.server} does not know a part of the URL: {told(error)}")
    if found := refusal(error, place):
        return found
    kind = ServerUnavailable if is_transient(error) else ConnectError
    return kind(f"the server at {place.server} refuses a connection ({told(error)}): {AGAIN}")


async def close(connection: Connection) -> None:
    """Close it, within two seconds and whatever state it is in."""
    # a cancelled command still says goodbye, but does not wait long for a server that is busy
    with anyio.move_on_after(2, shield=True):
        try:
            await connection.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()
        return
    connection.terminate()


@asynccontextmanager
async def kept_alive(connection: Connection) -> AsyncIterator[None]:
    """For a block that leaves ``connection`` idle: it is used now and then, lest a firewall or pooler cut it.

    Raises ConnectionLost, cancelling the block, as soon as it is lost.
    """
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_alive, connection)
            yield
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise first_cause(group) from group


async def keep_alive(connection: Connection) -> None:
    lost = anyio.Event()

    def ended(_: Connection) -> None:
        lost.set()

    connection.add_termination_listener(ended)
    try:
        with translate_errors(connection, "waiting for the load"):
            while not connection.is_closed():
                with anyio.move_on_after(KEEP_ALIVE_SECONDS):
                    await lost.wait()
                    break
                await connection.execute("SELECT 1")
    finally:
        connection.remove_termination_listener(ended)
    raise ConnectionLost(f"waiting for the load: {LOST}")


AGAIN: Final = "try again when it accepts them, or with fewer --workers where it has too few"

PASSING: Final = {"08", "40", "53300", "57P01", "57P02", "57P03", "57P05"}
"""Classes and codes of what passes: lost connections, deadlocks and serialization failures, too many connections, a
server that stops or starts. https://www.postgresql.org/docs/current/errcodes-appendix.html"""


def is_transient(error: asyncpg.PostgresError) -> bool:
    """Whether the same may well succeed a moment later."""
    state = str(error.sqlstate or "")
    return state in PASSING or state[:2] in PASSING


LOST: Final = "the server ended the connection, or went away (its log says why)"


@contextmanager
def translate_errors(connection: Connection, doing: str) -> Iterator[None]:
    """Turns what the driver raises while ``doing`` (such as "loading messages") into one of ours.

    ConnectionLost, TransientError for what else passes, DiskFull, TargetError for a pooler that is none of sessions;
    else RunError.
    """
    try:
        yield
    except BulkseedError:
        raise
    except Exception as error:
        # what arrives after a lost connection differs by loop and moment: the connection's state decides
        if connection.is_closed():
            raise ConnectionLost(f"{doing}: {LOST}") from error
        if is_of_pooling(error):
            raise TargetError(f"{doing}: this {ANOTHER_SESSION}") from error
        if isinstance(error, asyncpg.DiskFullError):
            raise DiskFull(
                f"{doing}: the server's disk is full ({told(error)}): free some space, or load fewer rows"
            ) from error
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            raise RunError(
                f"{doing}: this login may not ({told(error)}): grant it the right, or use another"
            ) from error
        if isinstance(error, asyncpg.PostgresError):
            kind = TransientError if is_transient(error) else RunError
            raise kind(f"{doing}: the server refuses: {told(error)}") from error
        raise


@contextmanager
def preflight_errors(connection: Connection, doing: str) -> Iterator[None]:
    """As :func:`translate_errors`, before anything is written: a right that this login lacks is then a TargetError."""
    try:
        with translate_errors(connection, doing):
            yield
    except RunError as error:
        if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            raise TargetError(str(error)) from error
        raise


def told(error: asyncpg.PostgresError) -> str:
    """What the server says of an error, in one line."""
    parts = (error.args[0] if error.args else "", getattr(error, "detail", None), getattr(error, "context", None))
    return "; ".join(" ".join(str(part).split()) for part in parts if part)
