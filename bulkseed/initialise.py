"""Making the reference tables and the catalogue in a database that lacks them."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from bulkseed import ledger
from bulkseed.address import Address
from bulkseed.connection import orm_connected
from bulkseed.errors import TargetError
from bulkseed.schema import create_missing

__all__ = ["initialise"]


async def initialise(address: Address) -> list[str]:
    """Make what is missing of the reference tables and the catalogue; returns what was made, in words.

    What is there stays as it is, so twice is once; two at a time take turns. Raises TargetError where the tables
    that are there do not go with those that are missing, or the login may not make them.
    """
    async with orm_connected(address) as connection:
        try:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ledger.LOCK})
            made = await create_missing(connection)
            await connection.commit()
        except DBAPIError as error:
            said = " ".join(str(error.orig).split("\n")[0].split())
            raise TargetError(
                f"the reference tables cannot be made at {address.server} ({said.split(': ', 1)[-1]}): "
                "grant the login CREATE on the schema, or make the tables with your migrations"
            ) from error
        except SQLAlchemyError as error:
            raise TargetError(f"the reference tables cannot be made at {address.server}: {error}") from error
    return made
