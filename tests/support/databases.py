"""Databases of a server of the tests: their addresses, the templates, and clones of these."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from bulkseed.embedded import Server
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from bulkseed.target.reference_schema import create_missing
from support.plans import plan_of
from support.queries import run_sql

NAMES = itertools.count()

MakeDatabase = Callable[..., Awaitable[Address]]


def address_of(server: Server, database: str) -> Address:
    """The address of a database of the session's server."""
    return Address.parse(server.url.replace(f"/{server.database}?", f"/{database}?"))


async def make_reference(address: Address) -> None:
    """The reference tables and catalogue."""
    await create_missing(address)


def make_templates(server: Server) -> dict[str, str]:
    """Template databases by what is in them: ``empty``, ``reference`` (tables), ``seeded`` (and 3x loaded)."""

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
    """A database, cloned from another one; dropped at the end of the block."""
    name, admin = f"test_{next(NAMES)}", address_of(server, "postgres")
    await run_sql(admin, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    try:
        yield address_of(server, name)
    finally:
        await run_sql(admin, f"DROP DATABASE {name} WITH (FORCE)")
