"""Connections for COPY and plain SQL: opened, set up and closed in one way, with the driver's errors as bulkseed's."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

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
from bulkseed.postgres.driver import (
    Connection,
    ConnectionParams,
    DriverConnection,
    connect_first,
    connect_to,
    set_socket_options,
)
from bulkseed.postgres.liveness import LOOK_SECONDS, Liveness, Loss, Sign
from bulkseed.postgres.pooler import NO_SESSION, backend_pid, check_session, is_pooling_error, pooler_error
from bulkseed.sql import compose

__all__ = [
    "LOST",
    "NO_ANSWER",
    "Connection",
    "ConnectionParams",
    "backend_pid",
    "check_errors",
    "close",
    "connect",
    "is_answering",
    "is_transient",
    "keep_alive",
    "lost_error",
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
PATIENCE_SECONDS: Final = 10.0
"""How long a server that is no longer reachable is waited for where nothing is written, and nothing is lost."""
ANSWER_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 1.0

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


async def connect(params: ConnectionParams, patience: float | None = None) -> Connection:
    """Open a connection, set up its session and return it; the caller closes it.

    A statement on it waits as long as the server works on it, but at most ``patience`` seconds (by default
    PATIENCE_SECONDS) for a server that is no longer reachable. Raises ConnectError where there is no connection,
    ServerUnavailableError where there may be one later, and TargetError for a server that is too old or only resembles
    PostgreSQL, and for a pooler without sessions.
    """
    connection = await connect_driver(params)
    try:
        check_version(connection, params)
    except TargetError:
        connection.terminate()
        raise
    given = params.client_options.seconds(CONNECT_SECONDS)
    seconds = given and max(given, CONNECT_SECONDS)
    try:
        with anyio.fail_after(seconds):
            is_pooled = await begin_session(connection, params)
            backend = await read_backend(connection, params, is_pooled=is_pooled)
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
    connection.liveness = Liveness(
        partial(look_for_server, connection.attempt, backend),
        partial(end_session, connection.attempt, backend),
        connection.give_up,
        connection.unsent,
        PATIENCE_SECONDS if patience is None else patience,
    )
    version = connection.get_server_version()
    logger.info(
        "connected to %s, database %s: PostgreSQL %s.%s, server process %s",
        params.server,
        params.database,
        version.major,
        version.minor,
        connection.get_server_pid(),
    )
    return connection


def check_version(connection: Connection, params: ConnectionParams) -> None:
    """Raise TargetError for a server that is too old."""
    major = connection.get_server_version().major
    if major < OLDEST_MAJOR:
        raise TargetError(
            f"the server at {params.server} is PostgreSQL {major}: bulkseed needs {OLDEST_MAJOR} or newer",
            code="server-too-old",
        )


UNSUPPORTED: Final = {
    "PGlite": "PGlite, which has one session for all connections, and whose socket server ends a connection at COPY",
    "-YB-": "YugabyteDB, which has no ctid, by which bulkseed finds the rows to remove",
}
"""What ``version()`` contains of servers that resemble PostgreSQL and lack what bulkseed needs; what they are.

Others, such as CockroachDB, Redshift and CrateDB, call themselves a PostgreSQL that is too old."""

READ_BACKEND: Final = """
SELECT version() AS version, pg_backend_pid() AS pid, extract(epoch FROM pg_postmaster_start_time())::text AS server,
       (SELECT extract(epoch FROM backend_start)::text FROM pg_stat_activity WHERE pid = pg_backend_pid()) AS session
"""


@dataclass(frozen=True, slots=True)
class Backend:
    """The server process of a connection, and when its server and session began: seconds of the epoch, as text."""

    pid: int
    server_start: str
    session_start: str
    is_pooled: bool


async def read_backend(connection: Connection, params: ConnectionParams, *, is_pooled: bool) -> Backend:
    """Return the backend of a session. Raises TargetError for a server that is not PostgreSQL in a way that matters."""
    row = await connection.fetchrow(READ_BACKEND)
    for name, product in UNSUPPORTED.items():
        if name in row["version"]:
            raise TargetError(
                f"the server at {params.server} is {product}: name a PostgreSQL server", code="unsupported-server"
            )
    return Backend(row["pid"], row["server"], row["session"], is_pooled)


LOOK: Final = """
SELECT extract(epoch FROM pg_postmaster_start_time())::text = $2 AND NOT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE pid = $1 AND coalesce(state NOT LIKE 'idle%' AND wait_event IS DISTINCT FROM 'ClientRead', true)
)
"""
"""Whether the backend $1 of the server that was started at $2 waits for its client, or has ended."""


END_SESSION: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND extract(epoch FROM backend_start)::text = $2
"""
"""Else the backend would keep its locks until the server notices that its client is gone."""


@asynccontextmanager
async def connected_beside(attempt: Mapping[str, Any]) -> AsyncIterator[DriverConnection]:
    """Open another connection to the host that ``attempt`` names, without setting up its session."""
    connection = await connect_to({**attempt, "target_session_attrs": "any"}, LOOK_SECONDS)
    try:
        yield connection
    finally:
        connection.terminate()


async def look_for_server(attempt: Mapping[str, Any], backend: Backend) -> Sign:
    """Return the sign of life that a new connection gets within LOOK_SECONDS."""
    sign = Sign.NONE
    try:
        with anyio.move_on_after(LOOK_SECONDS):
            async with connected_beside(attempt) as connection:
                if backend.is_pooled:
                    sign = Sign.WORKING  # the pooler may have no free session for this one
                is_idle = await connection.fetchval(LOOK, backend.pid, backend.server_start)
                sign = Sign.IDLE if is_idle else Sign.WORKING
    except asyncpg.PostgresConnectionError:
        pass  # ended without an answer, as by a proxy that cannot reach the server
    except ssl.SSLError:
        sign = Sign.WORKING
    except (OSError, TimeoutError):
        pass
    except Exception as error:
        # an answer, such as too many connections; and what cannot be judged must not end a long statement
        logger.debug("looking at the server: %r", error)
        sign = Sign.WORKING
    logger.debug("looking at the server, since process %s does not answer: %s", backend.pid, sign.name)
    return sign


async def end_session(attempt: Mapping[str, Any], backend: Backend) -> None:
    """End the backend of a lost connection, if it can be reached within LOOK_SECONDS."""
    with anyio.move_on_after(LOOK_SECONDS), suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        async with connected_beside(attempt) as connection:
            await connection.fetchval(END_SESSION, backend.pid, backend.session_start)


async def begin_session(connection: Connection, params: ConnectionParams) -> bool:
    """Set up the session; return whether the connection goes through a pooler."""
    # one statement of the simple protocol, which changes nothing in a backend that may be shared with an app
    only_own = compose("{setup} WHERE pg_backend_pid() = {pid}", setup=SESSION, pid=connection.get_server_pid())
    logger.debug("setting up the session: %s", " ".join(SESSION.split()))
    if await connection.execute(only_own) == "SELECT 0":
        logger.debug("the server process is another one than announced: %s is a pooler", params.server)
        await check_session(connection, params, partial(connect_driver, params))
        await connection.execute(SESSION)
        return True
    return False


async def connect_driver(params: ConnectionParams) -> DriverConnection:
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
    return connection


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
    """Close the connection in any state: orderly where this takes at most a second, even if cancelled."""
    # a cancelled command still ends its session, but does not wait long for a busy server
    with anyio.move_on_after(CLOSE_SECONDS, shield=True):
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
    raise lost_error(connection, "waiting for the load")


async def is_answering(connection: Connection) -> bool:
    """Return whether an idle connection answers within ANSWER_SECONDS; terminate it if not."""
    try:
        with anyio.move_on_after(ANSWER_SECONDS):
            await connection.execute("SELECT 1")
            return True
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pass
    connection.terminate()
    return False


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

NO_ANSWER: Final = "no-answer"
"""The code of errors for a server that answers neither on a connection nor to new ones."""


def lost_error(connection: Connection, doing: str) -> ConnectionLostError:
    """Return the error for a connection that is closed; ``doing`` begins the message."""
    if connection.loss is Loss.NO_SERVER:
        return ConnectionLostError(
            f"{doing}: the server has stopped answering, and new connections get no answer either: "
            "check the network, and any proxy or firewall in it",
            code="no-answer",
        )
    if connection.loss is Loss.NO_ANSWER:
        return ConnectionLostError(
            f"{doing}: the server waits for this client, which waits for it, so that data were lost on the way: "
            "check any proxy or firewall between them",
            code="connection-lost",
        )
    return ConnectionLostError(f"{doing}: {LOST}", code="connection-lost")


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
            raise lost_error(connection, doing) from error
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
    """Raise errors as :func:`translate_errors` does, before anything is written.

    A missing privilege is a TargetError, and a server that has stopped answering a ServerUnavailableError.
    """
    try:
        with translate_errors(connection, doing):
            yield
    except ConnectionLostError as error:
        if error.code == NO_ANSWER:
            raise ServerUnavailableError(str(error), code=error.code) from error
        raise
    except RunError as error:
        if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            raise TargetError(str(error), code=error.code) from error
        raise


@contextmanager
def check_errors(connection: Connection, doing: str) -> Iterator[None]:
    """Raise errors as :func:`preflight_errors` does, in checks of a target: what it refuses is a TargetError."""
    try:
        with preflight_errors(connection, doing):
            yield
    except RunError as error:
        cause = error.__cause__
        is_refusal = isinstance(cause, asyncpg.PostgresError) and str(cause.sqlstate)[:2] not in SERVER_FAULTS
        if is_refusal and type(error) is RunError:
            raise TargetError(str(error), code=error.code) from cause
        raise


def server_message(error: asyncpg.PostgresError) -> str:
    """Return the server's message, detail and context of an error, in one line."""
    parts = (error.args[0] if error.args else "", getattr(error, "detail", None), getattr(error, "context", None))
    return "; ".join(" ".join(str(part).split()) for part in parts if part)
