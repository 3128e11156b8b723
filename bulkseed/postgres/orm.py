"""SQLAlchemy's connections, for reflection and DDL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from bulkseed.errors import BulkseedError, TargetError
from bulkseed.postgres.connection import Connection, Place, connect, passes, translated

__all__ = ["orm_connected", "server_said"]


@asynccontextmanager
async def orm_connected(place: Place) -> AsyncIterator[AsyncConnection]:
    """A connection to ``place``, closed at the end.

    Raises ConnectError where it cannot be had, ConnectionLost where it is lost, TransientError for what else passes,
    and TargetError for what the server refuses while it is used.
    """
    made: list[Connection] = []

    async def connection_made() -> Connection:
        made.append(await connect(place))
        return made[-1]

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connection_made, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            try:
                yield connection
            except REFUSALS as error:
                raise refused(error, made[-1], place) from error
    except REFUSALS as error:
        # what SQLAlchemy asks of a new connection it does not translate
        raise refused(error, made[-1], place) from error
    finally:
        await engine.dispose()


REFUSALS: Final = (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


def refused(error: Exception, connection: Connection, place: Place) -> BulkseedError:
    """What is to be raised for an error of SQLAlchemy's or the driver's."""
    cause = getattr(getattr(error, "orig", None), "__cause__", None) or error
    if connection.is_closed() or (isinstance(cause, asyncpg.PostgresError) and passes(cause)):
        try:
            with translated(connection, "reading the tables"):
                raise cause
        except BulkseedError as found:
            return found
    return TargetError(
        f"the tables at {place.server} cannot be read or made ({server_said(error)}): "
        "correct them, or grant this login what it lacks"
    )


def server_said(error: Exception) -> str:
    """What the server says in an error of SQLAlchemy's or the driver's, in one line."""
    return " ".join(str(getattr(error, "orig", error)).split("\n")[0].split()).split(">: ")[-1]
