"""Databases of a test server: their addresses, the template databases, and clones of these."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from bulkseed.embedded import Server
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from bulkseed.sql import compose, identifier
from bulkseed.target.reference_schema import create_missing
from support.plans import plan_of
from support.queries import run_sql

NAMES = itertools.count()

MakeDatabase = Callable[..., Awaitable[Address]]


def address_of(server: Server, database: str) -> Address:
    """Return the address of a database of the server."""
    return Address.parse(server.url.replace(f"/{server.database}?", f"/{database}?"))


async def make_reference(address: Address) -> None:
    """Create the reference tables and their catalogue."""
    await create_missing(address)


def make_templates(server: Server) -> dict[str, str]:
    """Create the template databases, and return their names.

    ``empty`` has nothing, ``reference`` the reference tables, ``seeded`` these and the rows of a 3x plan.
    """

    async def make() -> None:
        admin = address_of(server, "postgres")
        await run_sql(admin, "CREATE DATABASE template_reference", "CREATE DATABASE template_seeded")
        await make_reference(address_of(server, "template_reference"))
        seeded = address_of(server, "template_seeded")
        await make_reference(seeded)
        await load(plan_of("3x"), seeded)

    asyncio.run(make())
    return {"empty": "template1", "reference": "template_reference", "seeded": "template_seeded"}


@asynccontextmanager
async def cloned(server: Server, template: str) -> AsyncIterator[Address]:
    """A new database, cloned from the template; dropped at the end of the block."""
    name, admin = f"test_{next(NAMES)}", address_of(server, "postgres")
    creation = compose(
        "CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy",
        name=identifier(name),
        template=identifier(template),
    )
    await run_sql(admin, creation)
    try:
        yield address_of(server, name)
    finally:
        await run_sql(admin, compose("DROP DATABASE {name} WITH (FORCE)", name=identifier(name)))
