"""Fresh databases for benchmarks: clones of templates, on a separate embedded server."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from bulkseed.embedded import run_server
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.target.reference_schema import create_missing

__all__ = ["Databases", "content", "count", "execute", "served", "value"]

TEMPLATE: Final = "template_reference"
EMPTY: Final = "template0"


class Databases:
    """Temporary databases on one server, which starts at first use.

    Most have the reference tables, the catalogue, and no other rows.
    """

    def __init__(self, home: Path, settings: Mapping[str, str], stack: ExitStack) -> None:
        self.home = home
        self.settings = settings
        self.stack = stack
        self.numbers = itertools.count()
        self.version: str | None = None
        """The version of the server; None before it has started."""

    @cached_property
    def admin(self) -> Address:
        """The address of the database ``postgres``. Raises EmbeddedError if the server does not start."""
        if self.settings:
            with run_server(self.home) as server:
                for name, wanted in self.settings.items():
                    execute(Address.parse(server.url), f"ALTER SYSTEM SET {name} = '{wanted}'")
        server = self.stack.enter_context(run_server(self.home))
        admin = Address(Address.parse(server.url).url._replace(database="postgres"))
        self.version = str(value(admin, "SHOW server_version"))
        return admin

    def named(self, name: str) -> Address:
        """Return the address of a database of the server."""
        return Address(self.admin.url._replace(database=name))

    @contextmanager
    def fresh(self, template: str = TEMPLATE) -> Iterator[Address]:
        """Yield a new database, which is dropped after the block. A checkpoint comes before the block."""
        name = f"benchmark_{next(self.numbers)}"
        if template == TEMPLATE:
            self.make_template()
        # the other strategy would write the template to the write-ahead log
        execute(self.admin, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        execute(self.admin, "CHECKPOINT")
        try:
            yield self.named(name)
        finally:
            execute(self.admin, f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def empty(self) -> Iterator[Address]:
        """Yield a new database without tables."""
        with self.fresh(EMPTY) as address:
            yield address

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield a temporary folder in which the server can read and write files."""
        data = Path(value(self.admin, "SHOW data_directory"))
        with tempfile.TemporaryDirectory(prefix="files-", dir=data.parent) as name:
            shutil.chown(name, data.stat().st_uid, data.stat().st_gid)
            yield Path(name)

    def make_template(self) -> None:
        if not value(self.admin, f"SELECT count(*) FROM pg_database WHERE datname = '{TEMPLATE}'"):
            execute(self.admin, f"CREATE DATABASE {TEMPLATE}")
            asyncio.run(create_missing(self.named(TEMPLATE)))


@contextmanager
def served(settings: Mapping[str, str] | None = None) -> Iterator[Databases]:
    """Yield the databases of a temporary embedded server, with ``settings`` that override its own."""
    with tempfile.TemporaryDirectory(prefix="bulkseed-") as folder:
        if os.geteuid() == 0:
            Path(folder).chmod(0o711)  # for root, the server runs as another user, who must have access to the folder
        with ExitStack() as stack:
            yield Databases(Path(folder) / "home", settings or {}, stack)


def execute(address: Address, sql: str) -> None:
    """Execute SQL commands."""

    async def run() -> None:
        async with open_connection(address) as connection:
            await connection.execute(sql)

    asyncio.run(run())


def value(address: Address, sql: str) -> Any:
    """Return the result of a query with one row and one column."""

    async def run() -> Any:
        async with open_connection(address) as connection:
            return await connection.fetchval(sql)

    return asyncio.run(run())


def count(address: Address, tables: Sequence[str] = TABLE_NAMES) -> dict[str, int]:
    """Return the number of rows of each table."""
    return {table: int(value(address, f"SELECT count(*) FROM {table}")) for table in tables}


def content(address: Address, tables: Sequence[str] = TABLE_NAMES) -> dict[str, str]:
    """Return for each table its number of rows and the sum of their hashes, which does not depend on their order."""
    return {
        table: str(
            value(
                address,
                f"SELECT count(*) || ' rows, ' || coalesce(sum(hash_record_extended(t, 0)::numeric), 0) FROM {table} t",
            )
        )
        for table in tables
    }
