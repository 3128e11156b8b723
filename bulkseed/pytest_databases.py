"""Databases for the pytest plugin: created on a test server, locked while they are used, and dropped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from anyio.from_thread import BlockingPortal, start_blocking_portal

from bulkseed.api import load
from bulkseed.embedded import run_server
from bulkseed.errors import InputError, TargetError
from bulkseed.loader.complete import LoadReport
from bulkseed.plan.plan import Plan
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection, translate_errors
from bulkseed.sql import compose, identifier, literal
from bulkseed.target.guard import looks_like_production, survey
from bulkseed.target.reference_schema import create_missing

__all__ = ["Databases", "name_database", "open_databases", "parse_seed", "server_url"]

VARIABLE: Final = "BULKSEED_TEST_URL"
COMMENT: Final = "created by bulkseed's pytest plugin, which drops it"
"""The comment of each test database; no other database is dropped."""
LONGEST_NAME: Final = 63
"""The longest name in bytes that PostgreSQL keeps: NAMEDATALEN - 1."""

LOCK: Final = "SELECT pg_try_advisory_lock(hashtext('bulkseed pytest'), hashtext($1))"
FIND: Final = "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = $1"


def server_url(option: str | None, ini: str) -> str | None:
    """Return the URL in the option, else in $BULKSEED_TEST_URL, else in the ini file; None for the embedded server."""
    return option or os.environ.get(VARIABLE) or ini or None


def name_database(address: Address, project: str, worker: str) -> str:
    """Return the name of the test database of a worker: the same in each session of the ``project``, a folder."""
    digest = hashlib.sha256(project.encode(errors="surrogateescape")).hexdigest()[:8]
    suffix = f"_bulkseed_{digest}_{worker}"
    return address.database.encode()[: LONGEST_NAME - len(suffix)].decode(errors="ignore") + suffix


def parse_seed(text: str) -> int:
    """Return the value of the ini option ``bulkseed_seed``. Raises InputError for other texts than a number."""
    try:
        return int(text)
    except ValueError:
        raise InputError(f"bulkseed_seed is {text!r}: write a whole number, such as 1", code="invalid-seed") from None


@dataclass(frozen=True, slots=True)
class Databases:
    """The test databases on the server of ``address``. Its methods block; an event loop may be running or not."""

    address: Address
    portal: BlockingPortal
    """An event loop in a thread of its own."""
    locks: AsyncExitStack = field(default_factory=AsyncExitStack)

    def create(self, name: str, template: str = "") -> str:
        """Create an empty database, or a copy of ``template``, and return its URL.

        A database that an earlier session left is replaced. Raises TargetError where another session uses it, or the
        plugin has not created it; ConnectError, and RunError where the server refuses.
        """
        return self.portal.call(self.replace, name, template)

    def drop(self, name: str) -> None:
        """Drop the database and end its connections. Raises ConnectError, and RunError where the server refuses."""
        self.portal.call(self.remove, name)

    def create_reference_tables(self, url: str) -> None:
        """Create the reference tables. Raises the errors of ``create_missing()``."""
        self.portal.call(create_missing, Address.parse(url))

    def load(self, plan: Plan, url: str) -> LoadReport:
        """Load the plan and return the report. Raises the errors of :func:`bulkseed.load`."""
        return self.portal.call(load, plan, url)

    async def replace(self, name: str, template: str) -> str:
        lock = await self.locks.enter_async_context(open_connection(self.address))
        with translate_errors(lock, f"creating the test database {name}"):
            if not await lock.fetchval(LOCK, name):
                raise TargetError(
                    f"another pytest session uses the test database {name} at {self.address.server}: "
                    "wait for its end, or name another server with --bulkseed-url",
                    code="test-database-in-use",
                )
            comment = await lock.fetchval(FIND, name)
            if comment not in {None, COMMENT}:
                raise TargetError(
                    f"the database {name} at {self.address.server} was not created by bulkseed's pytest plugin: "
                    "rename or drop it, or name another server with --bulkseed-url",
                    code="foreign-test-database",
                )
            new = identifier(name)
            await lock.execute(compose("DROP DATABASE IF EXISTS {new} WITH (FORCE)", new=new))
            source = identifier(template or "template1")
            await lock.execute(compose("CREATE DATABASE {new} TEMPLATE {source}", new=new, source=source))
            await lock.execute(compose("COMMENT ON DATABASE {new} IS {text}", new=new, text=literal(COMMENT)))
        url = self.address.url
        query = tuple(argument for argument in url.query if argument[0] not in {"database", "dbname"})
        return Address(url._replace(database=name, query=query)).dsn

    async def remove(self, name: str) -> None:
        async with open_connection(self.address) as connection:
            with translate_errors(connection, f"dropping the test database {name}"):
                drop = compose("DROP DATABASE IF EXISTS {name} WITH (FORCE)", name=identifier(name))
                await connection.execute(drop)


@contextmanager
def open_databases(url: str | None) -> Iterator[Databases]:
    """Yield the test databases on the server of ``url``, else on the embedded one, which runs during the block.

    Raises InputError for a wrong URL and for a server that looks like production, EmbeddedError, and ConnectError.
    """
    with ExitStack() as stack:
        address = Address.parse(url or stack.enter_context(run_server()).url)
        portal = stack.enter_context(start_blocking_portal())
        databases = Databases(address, portal)
        if url:
            portal.call(check_server, address)
        stack.callback(portal.call, databases.locks.aclose)
        yield databases


async def check_server(address: Address) -> None:
    """Raise InputError where the host or the database looks like production."""
    found = await survey(address, [])
    for name in (found.database, *found.names):
        if looks_like_production(name):
            raise InputError(
                f"{name!r} in {address} looks like production: name a test server with --bulkseed-url",
                code="production-target",
            )
