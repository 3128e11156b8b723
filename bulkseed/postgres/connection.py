"""Connections for COPY and plain SQL: opened, set up and closed in one way, with the driver's errors as bulkseed's."""

from __future__ import annotations

import logging
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
    ConnectionLostError,
    DiskFullError,
    RunError,
    ServerUnavailableError,
    TargetError,
    TransientError,
    reraise_first,
)
from bulkseed.postgres.driver import Connection, ConnectionParams, connect_first, set_socket_options
from bulkseed.postgres.pooler import NO_SESSION, backend_pid, check_session, is_pooling_error, pooler_error
from bulkseed.sql import compose

__all__ = [
    "LOST",
    "Connection",
    "ConnectionParams",
    "backend_pid",
    "close",
    "connect",
    "is_transient",
    "keep_alive",
    "open_connection",
    "preflight_errors",
    "server_message",
    "translate_errors",
]

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 20.0
"""The time limit for each host where the parameters set none, and the least for setting up a session, for which a
pooler may let it wait."""
OLDEST_MAJOR: Final = 15
KEEP_ALIVE_SECONDS: Final = 30.0

SESSION: Final = compose("""
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
""")
"""The statement that sets up a session.

The limits that a role has for an app's short statements would end a long COPY. Committed rows must survive a crash of
the server, because a load that continues afterwards does not load them again. A backend holds locks, so it must notice
that its client was killed while it waits for a lock (the setting exists where the server can check this), and within a
minute that its client's machine is gone. Where the user is called bulkseed, ``"$user"`` in its search_path would put
the ledger's schema before the app's."""


@asynccontextmanager
async def open_connection(params: ConnectionParams) -> AsyncIterator[Connection]:
    """Open a connection for the block, and close it at the end. Raises the errors of :func:`connect`."""
    connection = await connect(params)
    try:
        yield connection
    finally:
        await close(connection)


async def connect(params: ConnectionParams) -> Connection:
    """Open a connection, set up its session and return it; the caller closes it.

    Raises ConnectError where there is no connection, ServerUnavailableError where there may be one later, and
    TargetError for a server that is too old and for a pooler without sessions.
    """
    connection = await connect_driver(params)
    given = params.client_options.seconds(CONNECT_SECONDS)
    seconds = given and max(given, CONNECT_SECONDS)
    try:
        with anyio.fail_after(seconds):
            await begin_session(connection, params)
    except BaseException as error:
        lost = connection.is_closed()
        connection.terminate()
        if isinstance(error, BulkseedError):
            raise
        if isinstance(error, TimeoutError):
            raise ServerUnavailableError(
                f"{params.server} accepted the connection but did not answer within {seconds:.0f} s: "
                "try again when it is less busy; if it is a pooler, give it a larger pool or try fewer --workers",
                code="no-session",
            ) from error
        if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError) and (
            translated := pooler_error(error, params)
        ):
            raise translated from error
        if isinstance(error, asyncpg.QueryCanceledError):
            raise ConnectError(
                f"the server at {params.server} cancelled the first statement ({server_message(error)}): raise "
                "statement_timeout where it is set: the URL's options, PGOPTIONS, ALTER ROLE or ALTER DATABASE",
                code="session-limit",
            ) from error
        if lost and isinstance(error, Exception):
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ServerUnavailableError(
                f"the server at {params.server} accepted a connection and ended it ({reason}): {TRY_LATER}",
                code="connection-refused",
            ) from error
        raise
    version = connection.get_server_version()
    major = version.major
    logger.info(
        "connected to %s, database %s: PostgreSQL %s.%s, server process %s",
        params.server,
        params.database,
        major,
        version.minor,
        connection.get_server_pid(),
    )
    if major < OLDEST_MAJOR:
        connection.terminate()
        raise TargetError(
            f"the server at {params.server} is PostgreSQL {major}: bulkseed needs {OLDEST_MAJOR} or newer",
            code="server-too-old",
        )
    return connection


async def begin_session(connection: Connection, params: ConnectionParams) -> None:
    # one statement of the simple protocol, which changes nothing in a backend that may be shared with an app
    only_own = compose("{setup} WHERE pg_backend_pid() = {pid}", setup=SESSION, pid=connection.get_server_pid())
    logger.debug("setting up the session: %s", " ".join(SESSION.split()))
    if await connection.execute(only_own) == "SELECT 0":
        logger.debug("the server process is another one than announced: %s is a pooler", params.server)
        await check_session(connection, params, partial(connect_driver, params))
        await connection.execute(SESSION)


async def connect_driver(params: ConnectionParams) -> Connection:
    # no statement cache: a cached statement encodes by a table's old types, and PgBouncer cannot keep it
    arguments = {**params.arguments, "statement_cache_size": 0}
    options = params.client_options
    try:
        connection = await connect_first(arguments, options, CONNECT_SECONDS)
    except asyncpg.PostgresError as error:
        raise connect_error(error, params) from error
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
        raise ConnectError(
            f"no TLS connection to {params.server} can be made ({reason}): correct sslmode and its files",
            code="tls-failed",
        ) from error
    except (TimeoutError, OSError) as error:
        seconds = options.seconds(CONNECT_SECONDS)
        reason = error.strerror or str(error) or (f"no answer in {seconds:.0f} s" if seconds else "no answer")
        if "SSL" in reason:
            raise ConnectError(
                f"no TLS connection to {params.server} can be made ({reason}): correct sslmode in the database URL",
                code="tls-failed",
            ) from error
        raise ServerUnavailableError(
            f"no PostgreSQL answers at {params.server} ({reason}): start it, or correct the database URL",
            code="no-answer",
        ) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError) as error:
        # the cause may quote more of the parameters, one of which is the password
        reason = str(error).partition("\n")[0]
        raise ConnectError(
            f"the connection to {params.server} cannot be made ({reason}): correct the database URL",
            code="invalid-url",
        ) from None
    try:
        set_socket_options(connection, options)
    except OSError as error:
        connection.terminate()
        raise ConnectError(
            "the operating system refuses keepalives_idle, keepalives_interval, keepalives_count or tcp_user_timeout "
            f"of the connection to {params.server} ({error.strerror}): write smaller values",
            code="invalid-parameter",
        ) from None
    result: Connection = connection
    return result


def user_fix(reason: str) -> str:
    """Return how to fix a user or a password that the server rejects for ``reason``."""
    if "certificate" in reason:
        return "correct sslcert and sslkey, or connect as another user"
    if "pg_hba.conf" in reason:
        return "correct the user, the database or sslmode, or allow the connection in pg_hba.conf"
    return "correct the user or password in the database URL, in PGPASSWORD or in ~/.pgpass"


INVALID_SETTINGS: Final = (
    asyncpg.InvalidParameterValueError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.PostgresSyntaxError,
)
"""The server's errors for settings in the parameters of a connection."""


def connect_error(error: asyncpg.PostgresError, params: ConnectionParams) -> ConnectError:
    """Return the error for a connection that the server, or a pooler before it, rejects."""
    message = server_message(error)
    if isinstance(error, asyncpg.InvalidPasswordError | asyncpg.InvalidAuthorizationSpecificationError):
        reason = "; ".join(filter(None, [message, params.unread]))
        return ConnectError(
            f"the server at {params.server} does not let the user connect ({reason}): {user_fix(reason)}",
            code="login-rejected",
        )
    if isinstance(error, asyncpg.UndefinedObjectError):
        return ConnectError(
            f"the server at {params.server} does not know a parameter of the database URL ({message}): "
            "correct it, or leave it out",
            code="unsupported-parameter",
        )
    if isinstance(error, INVALID_SETTINGS):
        return ConnectError(
            f"the server at {params.server} refuses a parameter of the database URL, or PGOPTIONS ({message}): "
            "correct it, or leave it out",
            code="invalid-parameter",
        )
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return ConnectError(
            f"the server at {params.server} refuses the connection ({message}): grant the user this privilege, "
            "or leave out the parameter that needs it",
            code="missing-privilege",
        )
    if translated := pooler_error(error, params):
        return translated
    if is_transient(error) or str(error.sqlstate or "")[:2] in SERVER_FAULTS:
        return ServerUnavailableError(
            f"the server at {params.server} refuses a connection ({message}): {TRY_LATER}", code="connection-refused"
        )
    return ConnectError(
        f"the server at {params.server} allows no connection to {params.database!r} ({message}): "
        "allow connections to it, or name another database",
        code="connection-not-allowed",
    )


async def close(connection: Connection) -> None:
    """Close the connection in any state: orderly where this takes at most two seconds, even if cancelled."""
    # a cancelled command still ends its session, but does not wait long for a busy server
    with anyio.move_on_after(2, shield=True):
        try:
            await connection.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()
        return
    connection.terminate()


@asynccontextmanager
async def keep_alive(connection: Connection) -> AsyncIterator[None]:
    """Use ``connection`` every 30 s while the block leaves it idle, or a firewall or pooler might close it.

    Raises ConnectionLostError, cancelling the block, as soon as the connection is lost.
    """
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ping_until_lost, connection)
            yield
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        reraise_first(group)


async def ping_until_lost(connection: Connection) -> None:
    lost = anyio.Event()

    def set_lost(_: Connection) -> None:
        lost.set()

    connection.add_termination_listener(set_lost)
    try:
        with translate_errors(connection, "waiting for the load"):
            while not connection.is_closed():
                with anyio.move_on_after(KEEP_ALIVE_SECONDS):
                    await lost.wait()
                    break
                await connection.execute("SELECT 1")
    finally:
        connection.remove_termination_listener(set_lost)
    raise ConnectionLostError(f"waiting for the load: {LOST}", code="connection-lost")


TRY_LATER: Final = "try again when it accepts connections, or with fewer --workers if it allows too few"

TRANSIENT_STATES: Final = {"08", "40", "53300", "57P01", "57P02", "57P03", "57P05"}
"""SQLSTATE codes, and classes of two characters, of temporary failures: lost connections, deadlocks and serialization
failures, too many connections, a server that stops or starts.
https://www.postgresql.org/docs/current/errcodes-appendix.html"""


SERVER_FAULTS: Final = {"53", "58", "XX"}
"""Classes of SQLSTATE codes for faults of the server or its machine, such as too little memory to start a session."""


def is_transient(error: asyncpg.PostgresError) -> bool:
    """Return whether the same statement may succeed a moment later."""
    state = str(error.sqlstate or "")
    return state in TRANSIENT_STATES or state[:2] in TRANSIENT_STATES


LOST: Final = "the server ended the connection, or went away (its log says why)"


@contextmanager
def translate_errors(connection: Connection, doing: str) -> Iterator[None]:
    """Raise the driver's errors in the block as bulkseed's; ``doing`` (such as "loading messages") begins each message.

    Raises ConnectionLostError, TransientError for other temporary failures, DiskFullError, TargetError for a pooler
    without sessions, and RunError for the other errors of the server.
    """
    try:
        yield
    except BulkseedError:
        raise
    except Exception as error:
        # the error after a lost connection differs by event loop and moment: the connection's state decides
        if connection.is_closed():
            raise ConnectionLostError(f"{doing}: {LOST}", code="connection-lost") from error
        if is_pooling_error(error):
            raise TargetError(f"{doing}: this {NO_SESSION}", code="pooler-without-sessions") from error
        if not isinstance(error, asyncpg.PostgresError):
            raise
        message = server_message(error)
        if isinstance(error, asyncpg.DiskFullError):
            raise DiskFullError(
                f"{doing}: the server's disk is full ({message}): free some space, or load fewer rows",
                code="disk-full",
            ) from error
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            raise RunError(
                f"{doing}: {message}: grant the user this privilege, or connect as another user",
                code="missing-privilege",
            ) from error
        if is_transient(error):
            raise TransientError(f"{doing}: the server refuses: {message}", code="transient-server-error") from error
        raise RunError(f"{doing}: the server refuses: {message}", code="server-error") from error


@contextmanager
def preflight_errors(connection: Connection, doing: str) -> Iterator[None]:
    """Raise errors as :func:`translate_errors` does before a write: a missing privilege is a TargetError."""
    try:
        with translate_errors(connection, doing):
            yield
    except RunError as error:
        if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            raise TargetError(str(error), code=error.code) from error
        raise


def server_message(error: asyncpg.PostgresError) -> str:
    """Return the server's message, detail and context of an error, in one line."""
    parts = (error.args[0] if error.args else "", getattr(error, "detail", None), getattr(error, "context", None))
    return "; ".join(" ".join(str(part).split()) for part in parts if part)
