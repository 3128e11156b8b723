"""Fresh databases for benchmarks: an embedded server of their own, and clones of one template."""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bulkseed.address import Address
from bulkseed.connection import connected
from bulkseed.embedded import running
from bulkseed.orm import orm_connected
from bulkseed.schema import create_missing

__all__ = ["Databases", "served", "value"]

TEMPLATE = "template_reference"


class Databases:
    """Databases on one server, each with the reference tables and the catalogue and no other rows."""

    def __init__(self, admin: Address) -> None:
        self.admin = admin
        self.numbers = itertools.count()

    def named(self, name: str) -> Address:
        """The address of a database of the server."""
        return Address(self.admin.url.set(database=name))

    def make_template(self) -> None:
        """Make what :meth:`fresh` clones."""
        execute(self.admin, f"CREATE DATABASE {TEMPLATE}")
        asyncio.run(make_reference(self.named(TEMPLATE)))

    @contextmanager
    def fresh(self) -> Iterator[Address]:
        """A database of its own for the block, dropped after it; the server has written out all there was before."""
        name = f"benchmark_{next(self.numbers)}"
        execute(self.admin, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        execute(self.admin, "CHECKPOINT")
        try:
            yield self.named(name)
        finally:
            execute(self.admin, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def served() -> Iterator[Databases]:
    """An embedded server in a folder of its own, gone after the block. Raises EmbeddedError."""
    with tempfile.TemporaryDirectory(prefix="bulkseed-") as folder:
        if os.geteuid() == 0:
            Path(folder).chmod(0o711)  # as root the server runs as another user, who must reach its folder
        with running(Path(folder) / "home") as server:
            databases = Databases(Address(Address.parse(server.url).url.set(database="postgres")))
            databases.make_template()
            yield databases


async def make_reference(address: Address) -> None:
    async with orm_connected(address) as connection:
        await create_missing(connection)
        await connection.commit()


def execute(address: Address, sql: str) -> None:
    async def run() -> None:
        async with connected(address) as connection:
            await connection.execute(sql)

    asyncio.run(run())


def value(address: Address, sql: str) -> Any:
    """What a query with one row and column gives."""

    async def run() -> Any:
        async with connected(address) as connection:
            return await connection.fetchval(sql)

    return asyncio.run(run())
