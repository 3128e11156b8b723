"""Making the reference tables and the catalogue, by SQLAlchemy's DDL."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from bulkseed import ledger
from bulkseed.errors import TargetError
from bulkseed.postgres.address import Address
from bulkseed.postgres.orm import orm_connected, server_said
from bulkseed.progress import Watcher
from bulkseed.target.schema import create_missing, missing

__all__ = ["create"]


async def create(address: Address, watcher: Watcher) -> list[str]:
    """Make what is missing; returns what was made, in words. Two at a time take turns.

    Raises ConnectError, ConnectionLost, TransientError, TargetError.
    """
    async with orm_connected(address) as connection:
        if not await missing(connection):
            return []
        await connection.rollback()
        lock = {"lock": ledger.LOCK}
        if not (await connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), lock)).scalar_one():
            watcher.note("waiting for another bulkseed in this database to finish")
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), lock)
        try:
            made = await create_missing(connection)
        except SQLAlchemyError as error:
            raise TargetError(
                f"the reference tables cannot be made at {address.server} ({server_said(error)}): "
                "grant the login what it lacks, or make the tables with your migrations"
            ) from error
        await connection.commit()
    return made
