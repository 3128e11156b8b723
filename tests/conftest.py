"""Fixtures: one embedded server a session, and for each test a database of its own, cloned from a template."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from homes import home_for
from hypothesis import settings
from installed import running_with, version_of

from bulkseed.address import Address
from bulkseed.connection import Connection, connected
from bulkseed.embedded import Listen, Server, running
from bulkseed.embedded.wheel import wheel_binaries
from bulkseed.identifiers import qualified
from bulkseed.loading import load
from bulkseed.orm import orm_connected
from bulkseed.plan import Plan, scaled_counts
from bulkseed.schema import create_missing
from bulkseed.workers import parent

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
NAMES = itertools.count()

# no test is timed: a busy machine breaks nothing
settings.register_profile("untimed", deadline=None, max_examples=50)
settings.load_profile("untimed")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # as a shell's background job; the commands that tests interrupt would inherit it, and rightly ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

# else each of the many commands that tests start would compile bulkseed anew
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

MakeDatabase = Callable[..., Awaitable[Address]]


def plan_of(scale: str = "1x", **changes: Any) -> Plan:
    """A plan with a fixed as_of."""
    return Plan(**(scaled_counts(scale) | {"as_of": AS_OF} | changes))


def pytest_addoption(parser: pytest.Parser) -> None:
    """An option to run the suite against another PostgreSQL than the wheel's."""
    parser.addoption(
        "--postgres",
        metavar="FOLDER",
        help="the server programs (initdb, postgres, …) to test against, such as /usr/lib/postgresql/15/bin; "
        "where that has no client programs, the wheel's are taken",
    )


def named_binaries(config: pytest.Config) -> Path | None:
    """The folder that --postgres names."""
    named = config.getoption("--postgres")
    return Path(named).absolute() if named else None


def pytest_report_header(config: pytest.Config) -> str:
    """The server that the tests run against."""
    binaries = named_binaries(config)
    return f"server: {version_of(binaries or wheel_binaries())}, {binaries or 'from the wheel'}"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Server]:
    """The embedded server of the session, in a folder of its own."""
    with home_for("server", tmp_path_factory) as home, running_with(home, named_binaries(pytestconfig)) as started:
        yield started


@pytest.fixture(scope="session")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Another one, which listens at a port of 127.0.0.1 too, where it asks for passwords."""
    with home_for("listening", tmp_path_factory) as home, running(home, listen=Listen(0)) as started:
        yield started


def address_of(server: Server, database: str) -> Address:
    """The address of a database of the session's server."""
    return Address.parse(server.url.replace(f"/{server.database}?", f"/{database}?"))


async def run_sql(address: Address, *statements: str) -> None:
    """Execute statements, each committed on its own."""
    async with connected(address) as connection:
        for statement in statements:
            await connection.execute(statement)


async def make_reference(address: Address) -> None:
    """The reference tables and catalogue."""
    async with orm_connected(address) as connection:
        await create_missing(connection)
        await connection.commit()


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


@pytest.fixture(scope="session")
def templates(server: Server) -> dict[str, str]:
    """The template databases of the session's server."""
    return make_templates(server)


@asynccontextmanager
async def cloned(server: Server, template: str) -> AsyncIterator[Address]:
    """A database, cloned from another one; dropped at the end of the block."""
    name, admin = f"test_{next(NAMES)}", address_of(server, "postgres")
    await run_sql(admin, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    try:
        yield address_of(server, name)
    finally:
        await run_sql(admin, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def make_database(server: Server, templates: dict[str, str]) -> AsyncIterator[MakeDatabase]:
    """Makes databases, cloned from a template, that are dropped after the test."""
    async with AsyncExitStack() as stack:

        async def make(template: str = "reference") -> Address:
            return await stack.enter_async_context(cloned(server, templates[template]))

        yield make


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def any_loop(request: pytest.FixtureRequest) -> dict[str, bool]:
    """Options for anyio.run: each event loop that users run."""
    return {"use_uvloop": request.param}


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The worker processes that are started during a test."""
    found: list[Any] = []
    start = parent.started

    async def noted() -> Any:
        found.append(await start())
        return found[-1]

    monkeypatch.setattr(parent, "started", noted)
    return found


@pytest.fixture
async def database(make_database: MakeDatabase) -> Address:
    """A database with the reference tables and the catalogue, and no other rows."""
    return await make_database("reference")


@pytest.fixture
async def seeded(make_database: MakeDatabase) -> Address:
    """A database into which plan_of("3x") was loaded."""
    return await make_database("seeded")


@pytest.fixture
async def connection(database: Address) -> AsyncIterator[Connection]:
    """A connection to ``database``."""
    async with connected(database) as opened:
        yield opened


async def digest(address: Address, *tables: str) -> dict[str, tuple[int, str]]:
    """Rows and an order-free digest of each table (all tables of schema public without names)."""
    found = {}
    async with connected(address) as opened:
        names = tables or [
            row[0] for row in await opened.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
        for name in sorted(names):
            row: asyncpg.Record = await opened.fetchrow(
                "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text "
                f"FROM {qualified('public', name)} AS t"
            )
            found[name] = (row[0], row[1])
    return found
