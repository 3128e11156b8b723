"""SQLAlchemy's connections, for reflection and DDL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from bulkseed.connection import Place, connect
from bulkseed.errors import TargetError

__all__ = ["orm_connected"]


@asynccontextmanager
async def orm_connected(place: Place) -> AsyncIterator[AsyncConnection]:
    """A connection to ``place``, closed at the end.

    Raises ConnectError where it cannot be had, and TargetError for what the server refuses while it is used.
    """
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: connect(place), poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        said = " ".join(str(error.orig).split("\n")[0].split()).split(">: ")[-1]
        raise TargetError(
            f"the tables at {place.server} cannot be read or made ({said}): "
            "grant this login what it lacks, or use another"
        ) from error
    finally:
        await engine.dispose()
