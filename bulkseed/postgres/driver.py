"""The driver, asyncpg: the types of the parts that bulkseed uses, as asyncpg ships none, and the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final, Protocol

import asyncpg

__all__ = ["LOOP", "Connection", "ConnectionParams", "DriverConnection", "ignore_lost_connection"]

LOOP: Final = {"use_uvloop": find_spec("uvloop") is not None}
"""The ``backend_options`` of :func:`anyio.run`."""


class ConnectionParams(Protocol):
    """The parameters of a connection.

    ``arguments`` are those of :func:`asyncpg.connect`, and may contain a password; messages show only the rest.
    ``unread`` is the reason why an existing password file was not used, ``server`` the hosts and ports as text.
    """

    @property
    def arguments(self) -> Mapping[str, Any]: ...
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
    def add_termination_listener(self, callback: Callable[[Connection], None]) -> None: ...
    def remove_termination_listener(self, callback: Callable[[Connection], None]) -> None: ...
    def get_server_version(self) -> Any: ...
    def get_server_pid(self) -> int: ...
    def is_closed(self) -> bool: ...
    async def close(self) -> None: ...
    def terminate(self) -> None: ...


class DriverConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg ships no types
    """The connection of asyncpg, which by itself refuses the subclass :class:`bulkseed.sql.SQL` of str."""

    async def execute(self, query: str, *args: object, **options: Any) -> Any:
        return await super().execute(str(query), *args, **options)

    async def fetch(self, query: str, *args: object, **options: Any) -> Any:
        return await super().fetch(str(query), *args, **options)

    async def fetchrow(self, query: str, *args: object, **options: Any) -> Any:
        return await super().fetchrow(str(query), *args, **options)

    async def fetchval(self, query: str, *args: object, **options: Any) -> Any:
        return await super().fetchval(str(query), *args, **options)

    def cursor(self, query: str, *args: object, **options: Any) -> Any:
        return super().cursor(str(query), *args, **options)


def ignore_lost_connection(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle a loop's exceptions, ignoring those of lost connections.

    asyncpg leaves futures of a lost connection behind, whose error a caller has already received.
    """
    if not isinstance(context.get("exception"), asyncpg.PostgresError | asyncpg.InterfaceError | OSError):
        loop.default_exception_handler(context)
