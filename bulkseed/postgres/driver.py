"""The driver as bulkseed uses it: the types of asyncpg, which ships none, and the event loop that it runs on."""

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
    """Where a database is, as far as a connection wants to know; ``arguments`` may hold a password, the rest is shown.

    ``arguments`` are asyncpg's; ``unread`` says why a password file that is there was not used.
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
    """What is used of an asyncpg connection (asyncpg ships no types)."""

    async def execute(self, query: str, *args: object) -> str: ...
    async def fetch(self, query: str, *args: object) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: object) -> Any: ...
    async def fetchval(self, query: str, *args: object) -> Any: ...
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
    """asyncpg's connection, for statements of class :class:`bulkseed.sql.SQL`.

    asyncpg's compiled parts raise TypeError for a subclass of ``str``; ``str()`` makes a plain one of it.
    """

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
    """An exception handler for a loop: asyncpg leaves futures of a lost connection behind, whose error was heard."""
    if not isinstance(context.get("exception"), asyncpg.PostgresError | asyncpg.InterfaceError | OSError):
        loop.default_exception_handler(context)
