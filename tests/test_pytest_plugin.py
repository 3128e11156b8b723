"""The pytest plugin: run as users do, in pytest sessions of their own, on the server of this one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from bulkseed.embedded import Server
from bulkseed.errors import InputError, TargetError
from bulkseed.postgres.address import Address
from bulkseed.pytest_databases import Databases, name_database, open_databases, parse_seed, server_url
from bulkseed.sql import compose, identifier
from support.databases import address_of
from support.errors import raises
from support.queries import rows, run_sql

pytest_plugins = ["pytester"]

INI = """
[pytest]
addopts = -p no:cacheprovider -W error
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
"""
QUERIES = """
import asyncio
import asyncpg

async def fetch(url, query):
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()
"""
SHARED = """
import asyncio, json, os
from pathlib import Path
from queries import fetch

def test_rows(bulkseed_database, bulkseed_url):
    assert bulkseed_database.url == bulkseed_url
    found = asyncio.run(fetch(bulkseed_url, "SELECT id, email, created_at::text FROM users ORDER BY id"))
    assert len(found) == bulkseed_database.report.rows["users"] == bulkseed_database.plan.users
    values = [bulkseed_url, bulkseed_database.report.rows["messages"], *map(list, found)]
    Path(os.environ["PYTEST_XDIST_WORKER"] + ".json").write_text(json.dumps(values))
    assert "postgresql" not in repr(bulkseed_database)

async def test_async(bulkseed_database):
    [(first,)] = await fetch(bulkseed_database.url, "SELECT min(id) FROM channels")
    assert first == bulkseed_database.report.placement.first_channel
"""
OVERRIDING = """
import asyncio
import bulkseed, pytest
from queries import fetch

@pytest.fixture(scope="session")
def bulkseed_schema(bulkseed_schema, bulkseed_url):
    asyncio.run(fetch(bulkseed_url, "ALTER TABLE users ADD greeting text DEFAULT 'hello'"))

@pytest.fixture(scope="session")
def bulkseed_plan():
    return bulkseed.make_plan(users=3, channels=2, as_of="2026-06-01")
"""
OVERRIDDEN = """
from queries import fetch

async def test_async_first(bulkseed_database):
    [(count, greeting)] = await fetch(bulkseed_database.url, "SELECT count(*), min(greeting) FROM users")
    assert (count, greeting) == (3, "hello")
"""
UNUSED = """
import sys

def pytest_sessionfinish():
    assert not {"numpy", "pyarrow", "asyncpg", "anyio", "bulkseed.api"} & sys.modules.keys()
"""


def test_names() -> None:
    def named(database: str, worker: str = "gw0") -> str:
        return name_database(Address.parse(f"postgresql:///{database}"), "/src/app", worker)

    assert named("app").startswith("app_bulkseed_")
    assert named("app").endswith("_gw0")
    assert named("app") == named("app") != named("app", "gw1")
    assert len(named("é" * 31).encode()) <= 63
    assert named("a" * 63).endswith("_gw0")


def test_which_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BULKSEED_TEST_URL", raising=False)
    assert server_url(None, "") is None
    assert server_url(None, "ini") == "ini"
    monkeypatch.setenv("BULKSEED_TEST_URL", "variable")
    assert server_url(None, "ini") == "variable"
    assert server_url("option", "ini") == "option"


def test_seeds() -> None:
    assert parse_seed("7") == 7
    with raises("invalid-seed", "seven", kind=InputError):
        parse_seed("seven")


@pytest.fixture
def admin(server: Server) -> Address:
    return address_of(server, "postgres")


@pytest.fixture
def databases(admin: Address) -> Iterator[Databases]:
    with open_databases(admin.dsn) as opened:
        yield opened


def left(admin: Address) -> list[object]:
    """The test databases on the server."""
    found = asyncio.run(rows(admin, "SELECT datname FROM pg_database WHERE datname ~ '_bulkseed_|^plugin'"))
    return [name for (name,) in found]


def test_what_a_killed_session_left_is_replaced(databases: Databases, admin: Address) -> None:
    with open_databases(admin.dsn) as killed:
        url = Address.parse(killed.create("plugin_left"))
        asyncio.run(run_sql(url, "CREATE TABLE junk ()"))
        with raises("test-database-in-use", "plugin_left", kind=TargetError):
            databases.create("plugin_left")
    again = Address.parse(databases.create("plugin_left"))
    assert again == url
    assert asyncio.run(rows(again, "SELECT to_regclass('junk')")) == [(None,)]
    databases.drop("plugin_left")
    assert left(admin) == []


def test_a_template(databases: Databases, templates: dict[str, str], admin: Address) -> None:
    url = databases.create("plugin_copy", templates["seeded"])
    assert asyncio.run(rows(Address.parse(url), "SELECT count(*) FROM users")) == [(60,)]
    databases.drop("plugin_copy")


@pytest.mark.parametrize("name", ["plugin_foreign", 'plugin "quoted"'])
def test_a_database_of_somebody_else_stays(databases: Databases, admin: Address, name: str) -> None:
    asyncio.run(run_sql(admin, compose("CREATE DATABASE {name}", name=identifier(name))))
    try:
        with raises("foreign-test-database", name, "--bulkseed-url", kind=TargetError):
            databases.create(name)
        assert name in left(admin)
    finally:
        asyncio.run(run_sql(admin, compose("DROP DATABASE {name}", name=identifier(name))))


def test_production_is_refused(admin: Address) -> None:
    asyncio.run(run_sql(admin, "CREATE DATABASE app_production"))
    try:
        url = admin.dsn.replace("/postgres?", "/app_production?")
        with raises("production-target", "app_production", "--bulkseed-url", kind=InputError), open_databases(url):
            pass
    finally:
        asyncio.run(run_sql(admin, "DROP DATABASE app_production"))


def write(pytester: pytest.Pytester, ini: str = "", **modules: str) -> None:
    pytester.makefile(".ini", pytest=INI + ini)
    pytester.makepyfile(queries=QUERIES, **modules)


def test_each_worker_has_its_own_database(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, admin: Address
) -> None:
    monkeypatch.setenv("BULKSEED_TEST_URL", admin.dsn)
    write(pytester, "bulkseed_scale = 0.5\nbulkseed_seed = 4\n", test_shared=SHARED)
    done = pytester.runpytest_subprocess("-n", "2", "--dist", "each")
    done.assert_outcomes(passed=4)
    first, second = (json.loads((pytester.path / f"gw{number}.json").read_text()) for number in range(2))
    assert first[0] != second[0]
    assert first[1:] == second[1:]
    assert len(first) == 2 + 10
    assert left(admin) == []


def test_fixtures_are_overridden(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """On the embedded server, and where a test fails."""
    monkeypatch.delenv("BULKSEED_TEST_URL", raising=False)
    monkeypatch.setenv("BULKSEED_HOME", str(server.home))
    failing = f"{OVERRIDDEN}\ndef test_failing(bulkseed_database):\n    assert 0\n"
    write(pytester, conftest=OVERRIDING, test_overridden=failing)
    pytester.runpytest_subprocess("-p", "no:xdist").assert_outcomes(passed=1, failed=1)
    assert left(address_of(server, "postgres")) == []


def test_errors_are_short(pytester: pytest.Pytester, admin: Address) -> None:
    write(
        pytester, "bulkseed_scale = many\n", test_one="def test(bulkseed_database): pass", test_two="def test(): pass"
    )
    done = pytester.runpytest_subprocess("--bulkseed-url", admin.dsn)
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines(["bulkseed: *many*bulkseed_scale*"])  # the setting, not the option --scale
    done.stdout.no_fnmatch_line("*During handling*")
    done.stdout.no_fnmatch_line("*pytest_plugin.py*")
    assert left(admin) == []


@pytest.mark.parametrize("options", [(), ("-p", "no:bulkseed", "-p", "no:xdist")])
def test_nothing_is_imported_if_unused(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    pytester.makefile(".ini", pytest="[pytest]\naddopts = -p no:anyio -p no:asyncio -W error\n")
    pytester.makepyfile(conftest=UNUSED, test_one="def test(): pass")
    pytester.runpytest_subprocess(*options).assert_outcomes(passed=1)


def test_help_describes_options_and_fixtures(pytester: pytest.Pytester) -> None:
    fixtures = pytester.runpytest_subprocess("--fixtures").stdout.str()
    for name in ("bulkseed_database", "bulkseed_plan", "bulkseed_schema", "bulkseed_url"):
        assert f"{name} [session scope]" in fixtures
    shown = pytester.runpytest_subprocess("--help").stdout.str()
    assert "--bulkseed-url=URL" in shown
    assert "bulkseed_scale" in shown
