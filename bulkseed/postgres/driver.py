"""The driver, asyncpg: the types of the parts that bulkseed uses, as asyncpg ships none, and the event loop."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any, Final, Protocol, cast

import asyncpg

from bulkseed.postgres.liveness import Liveness, Loss
from bulkseed.postgres.parameters import ClientOptions

__all__ = [
    "LOOP",
    "ClientOptions",
    "Connection",
    "ConnectionParams",
    "DriverConnection",
    "connect_first",
    "connect_to",
    "ignore_lost_connection",
    "set_socket_options",
]

LOOP: Final = {"use_uvloop": find_spec("uvloop") is not None}
"""The ``backend_options`` of :func:`anyio.run`."""


class ConnectionParams(Protocol):
    """The parameters of a connection.

    ``arguments`` are those of :func:`asyncpg.connect`, and may contain a password; messages show only the rest.
    ``client_options`` are what bulkseed does itself.
    ``unread`` is the reason why an existing password file was not used, ``server`` the hosts and ports as text.
    """

    @property
    def arguments(self) -> Mapping[str, Any]: ...
    @property
    def client_options(self) -> ClientOptions: ...
    @property
    def unread(self) -> str | None: ...
    @property
    def server(self) -> str: ...
    @property
    def database(self) -> str: ...


class Connection(Protocol):
    """The methods of an asyncpg connection that bulkseed calls."""

    async def execute(self, query: str, *args: object) -> str: ...
    async def fetch(self, query: str, *args: object) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: object) -> Any: ...
    async def fetchval(self, query: str, *args: object) -> Any: ...
    def is_in_transaction(self) -> bool: ...
    async def prepare(self, query: str) -> Any: ...
    def cursor(self, query: str, *args: object, prefetch: int | None = None) -> Any: ...
    async def copy_records_to_table(
        self, table_name: str, *, records: object, columns: Sequence[str], schema_name: str | None
    ) -> str: ...
    async def copy_to_table(
        self, table_name: str, *, source: object, columns: Sequence[str], schema_name: str | None, format: str
    ) -> str: ...
    def transaction(self, *, isolation: str | None = None, readonly: bool = False) -> Any: ...
    async def set_builtin_type_codec(self, typename: str, *, schema: str, codec_name: str) -> None: ...
    async def set_type_codec(
        self,
        typename: str,
        *,
        schema: str,
        encoder: Callable[[Any], Any],
        decoder: Callable[[Any], Any],
        format: str,
    ) -> None: ...
    def add_termination_listener(self, callback: Callable[[Connection], None]) -> None: ...
    def remove_termination_listener(self, callback: Callable[[Connection], None]) -> None: ...
    def get_server_version(self) -> Any: ...
    def get_server_pid(self) -> int: ...
    def is_closed(self) -> bool: ...
    @property
    def loss(self) -> Loss | None: ...
    def waiting(self) -> AbstractContextManager[None]: ...
    def making_rows(self) -> AbstractContextManager[None]: ...
    async def close(self) -> None: ...
    def terminate(self) -> None: ...


class DriverConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg ships no types
    """The connection of asyncpg, which by itself refuses the subclass :class:`bulkseed.sql.SQL` of str.

    Once it has a ``liveness``, no statement waits for ever for a server that is gone: the connection is terminated, and
    ``loss`` tells why. ``attempt`` are the arguments of :func:`asyncpg.connect` by which it was opened.
    """

    liveness: Liveness | None = None
    loss: Loss | None = None
    attempt: Mapping[str, Any]

    @property
    def socket(self) -> socket.socket:
        """The client's end of the connection."""
        return cast("socket.socket", self._transport.get_extra_info("socket"))

    def unsent(self) -> int:
        """Return the number of bytes that the operating system has not taken yet."""
        return 0 if self.is_closed() else int(self._transport.get_write_buffer_size())

    def give_up(self, loss: Loss) -> None:
        """Terminate the connection because of ``loss``."""
        self.loss = loss
        self.terminate()

    def waiting(self) -> AbstractContextManager[None]:
        """Watch the server during the block, which waits for one answer."""
        return nullcontext() if self.liveness is None else self.liveness.waiting()

    def making_rows(self) -> AbstractContextManager[None]:
        """Take the block, in a COPY, as no waiting for the server."""
        return nullcontext() if self.liveness is None else self.liveness.making_rows()

    async def execute(self, query: str, *args: object, **options: Any) -> Any:
        with self.waiting():
            return await super().execute(str(query), *args, **options)

    async def fetch(self, query: str, *args: object, **options: Any) -> Any:
        with self.waiting():
            return await super().fetch(str(query), *args, **options)

    async def fetchrow(self, query: str, *args: object, **options: Any) -> Any:
        with self.waiting():
            return await super().fetchrow(str(query), *args, **options)

    async def fetchval(self, query: str, *args: object, **options: Any) -> Any:
        with self.waiting():
            return await super().fetchval(str(query), *args, **options)

    async def prepare(self, query: str, **options: Any) -> Any:
        with self.waiting():
            return await super().prepare(str(query), **options)

    async def copy_records_to_table(self, table_name: str, **options: Any) -> Any:
        with self.waiting():
            return await super().copy_records_to_table(table_name, **options)

    async def copy_to_table(self, table_name: str, **options: Any) -> Any:
        with self.waiting():
            return await super().copy_to_table(table_name, **options)

    async def set_builtin_type_codec(self, typename: str, **options: Any) -> None:
        with self.waiting():
            await super().set_builtin_type_codec(typename, **options)

    def cursor(self, query: str, *args: object, **options: Any) -> Any:
        return super().cursor(str(query), *args, **options)


async def connect_first(
    arguments: Mapping[str, Any], options: ClientOptions, default_seconds: float
) -> DriverConnection:
    """Return a connection to the first host that accepts one, each tried for the seconds of ``options``.

    ``arguments`` are those of :func:`asyncpg.connect`, whose own time limit is one for all hosts. Raises its errors,
    of several hosts that of the last.
    """
    last: Exception | None = None
    for attempt in attempts(arguments, options):
        try:
            return await connect_to(attempt, options.seconds(default_seconds))
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.TargetServerAttributeNotMatched) as error:
            last = error
    assert last is not None
    raise last


async def connect_to(attempt: Mapping[str, Any], seconds: float | None) -> DriverConnection:
    """Return a connection to the only host of ``attempt``, the arguments of :func:`asyncpg.connect`, in time."""
    connection: DriverConnection = await asyncpg.connect(**attempt, timeout=seconds, connection_class=DriverConnection)
    connection.attempt = attempt
    return connection


def attempts(arguments: Mapping[str, Any], options: ClientOptions) -> Iterator[Mapping[str, Any]]:
    """Yield the arguments for each host in the order to try; none is named where asyncpg looks for a local server."""
    hosts = list(zip(arguments["host"], arguments["port"], strict=True)) if "host" in arguments else []
    if options.random_host:
        secrets.SystemRandom().shuffle(hosts)
    kinds = [arguments["target_session_attrs"]]
    if kinds == ["prefer-standby"]:
        kinds = ["standby", "any"]
    for kind in kinds:
        for host, port in hosts:
            yield {**arguments, "host": host, "port": port, "target_session_attrs": kind}
        if not hosts:
            yield {**arguments, "target_session_attrs": kind}


KEEPALIVES: Final = (
    ("keepalives_idle", getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))),
    ("keepalives_interval", getattr(socket, "TCP_KEEPINTVL", None)),
    ("keepalives_count", getattr(socket, "TCP_KEEPCNT", None)),
)
"""The socket option for each parameter; None where the operating system has none, and libpq ignores it too."""


def set_socket_options(connection: DriverConnection, options: ClientOptions) -> None:
    """Set the TCP keepalives and timeout of the connection, as libpq does. Raises OSError where the system refuses."""
    end = connection.socket
    if end.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(options.keepalives))
    if options.keepalives:
        for name, option in KEEPALIVES:
            if option is not None and (value := getattr(options, name)):
                end.setsockopt(socket.IPPROTO_TCP, option, value)
    user_timeout = getattr(socket, "TCP_USER_TIMEOUT", None)
    if user_timeout is not None and options.tcp_user_timeout:
        end.setsockopt(socket.IPPROTO_TCP, user_timeout, options.tcp_user_timeout)


def ignore_lost_connection(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle a loop's exceptions, ignoring those of lost connections.

    asyncpg leaves futures of a lost connection behind, whose error a caller has already received.
    """
    if not isinstance(context.get("exception"), asyncpg.PostgresError | asyncpg.InterfaceError | OSError):
        loop.default_exception_handler(context)
