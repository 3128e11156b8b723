"""The pytest plugin: a loaded database for the tests, one for each worker of pytest-xdist.

pytest imports this module at every start, so it imports the rest of bulkseed only where a fixture is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from bulkseed.loader.complete import LoadReport
    from bulkseed.plan.plan import Plan
    from bulkseed.pytest_databases import Databases

__all__ = [
    "SeededDatabase",
    "bulkseed_database",
    "bulkseed_databases",
    "bulkseed_plan",
    "bulkseed_schema",
    "bulkseed_url",
    "pytest_addoption",
]

OPTION: Final = re.compile(r"--(scale|scenario|seed|as-of|metadata)\b")
"""Options of `bulkseed load` that settings of pytest stand for."""


@dataclass(frozen=True, slots=True)
class SeededDatabase:
    """A database into which a plan was loaded: the value of the fixture ``bulkseed_database``."""

    url: str = field(repr=False)
    """The URL with the password, as libpq, asyncpg and SQLAlchemy read it: ``postgresql://...``."""
    plan: Plan
    report: LoadReport
    """The report of the load: ``rows`` by table, and the first ids in ``placement``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options of the command line and of the ini file."""
    group = parser.getgroup("bulkseed", "bulkseed: a loaded PostgreSQL database for the tests")
    group.addoption(
        "--bulkseed-url",
        metavar="URL",
        help="database of the PostgreSQL server on which to create the test databases "
        "(default: $BULKSEED_TEST_URL, else the ini option bulkseed_url, else the embedded server)",
    )
    parser.addini("bulkseed_url", "database of the PostgreSQL server on which to create the test databases", default="")
    parser.addini(
        "bulkseed_template", "database that test databases are copied from, with the app's tables", default=""
    )
    parser.addini("bulkseed_scale", "size of the data, such as 10x", default="1x")
    parser.addini("bulkseed_scenario", "scenario: a name, or a TOML file relative to the ini file", default="default")
    parser.addini("bulkseed_seed", "seed of the random values", default="1")
    parser.addini("bulkseed_as_of", "latest time in the data, ISO 8601", default="2026-06-01")
    parser.addini("bulkseed_plugins", "code that makes the rows of other tables: MODULE:NAME", type="args", default=[])
    parser.addini("bulkseed_metadata", "the app's SQLAlchemy base or MetaData: MODULE:NAME", default="")


@contextmanager
def _short_errors() -> Iterator[None]:
    """Report an error of bulkseed by its message, without the traceback."""
    from bulkseed.errors import BulkseedError  # noqa: PLC0415

    try:
        yield
    except BulkseedError as error:
        # messages name options of the command line, which settings of pytest stand for here
        message = OPTION.sub(lambda match: f"bulkseed_{match[1].replace('-', '_')}", str(error))
        raise pytest.fail.Exception(f"bulkseed: {message}", pytrace=False) from None


@pytest.fixture(scope="session")
def bulkseed_databases(pytestconfig: pytest.Config) -> Iterator[Databases]:
    """The server where test databases are created; for the other fixtures of bulkseed."""
    from bulkseed.pytest_databases import open_databases, server_url  # noqa: PLC0415

    with _short_errors():
        opened = open_databases(
            server_url(pytestconfig.getoption("--bulkseed-url"), pytestconfig.getini("bulkseed_url"))
        )
        databases = opened.__enter__()
    try:
        yield databases
    finally:
        opened.__exit__(None, None, None)


@pytest.fixture(scope="session")
def bulkseed_url(pytestconfig: pytest.Config, bulkseed_databases: Databases) -> Iterator[str]:
    """The URL of a new, empty database of this pytest-xdist worker, which is dropped at the end of the session."""
    from bulkseed.pytest_databases import name_database  # noqa: PLC0415

    worker: str = getattr(pytestconfig, "workerinput", {}).get("workerid", "main")
    name = name_database(bulkseed_databases.address, str(pytestconfig.rootpath), worker)
    with _short_errors():
        url = bulkseed_databases.create(name, pytestconfig.getini("bulkseed_template"))
    try:
        yield url
    finally:
        with _short_errors():
            bulkseed_databases.drop(name)


@pytest.fixture(scope="session")
def bulkseed_schema(pytestconfig: pytest.Config, bulkseed_databases: Databases, bulkseed_url: str) -> None:
    """Create the tables in the database at ``bulkseed_url``. Override this fixture to run the app's migrations.

    By default it creates the reference tables, as `bulkseed init` does, or nothing with the ini option
    bulkseed_template.
    """
    if not pytestconfig.getini("bulkseed_template"):
        with _short_errors():
            bulkseed_databases.create_reference_tables(bulkseed_url)


@pytest.fixture(scope="session")
def bulkseed_plan(pytestconfig: pytest.Config) -> Plan:
    """The plan of the rows, from the ini options. Override this fixture to return one of bulkseed.make_plan()."""
    from bulkseed.pytest_databases import parse_seed  # noqa: PLC0415
    from bulkseed.scenarios.planning import make_plan  # noqa: PLC0415

    scenario: str = pytestconfig.getini("bulkseed_scenario")
    beside = (pytestconfig.inipath.parent if pytestconfig.inipath else pytestconfig.rootpath) / scenario
    with _short_errors():
        return make_plan(
            pytestconfig.getini("bulkseed_scale"),
            scenario=beside if beside.is_file() else scenario,
            seed=parse_seed(pytestconfig.getini("bulkseed_seed")),
            as_of=pytestconfig.getini("bulkseed_as_of"),
            plugins=pytestconfig.getini("bulkseed_plugins"),
            metadata=pytestconfig.getini("bulkseed_metadata") or None,
        )


@pytest.fixture(scope="session")
def bulkseed_database(
    bulkseed_databases: Databases, bulkseed_url: str, bulkseed_schema: object, bulkseed_plan: Plan
) -> SeededDatabase:
    """A database of this pytest-xdist worker with the rows of ``bulkseed_plan``, for the whole session.

    The tests share it: roll back what they change. See bulkseed.pytest_plugin.SeededDatabase for its attributes.
    """
    with _short_errors():
        report = bulkseed_databases.load(bulkseed_plan, bulkseed_url)
    return SeededDatabase(bulkseed_url, bulkseed_plan, report)
