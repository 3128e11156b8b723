"""The examples of the documentation, taken out of it and run: none of them may rot."""

from __future__ import annotations

import ast
import asyncio
import importlib
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import anyio
import pytest

import bulkseed
from bulkseed.__main__ import main
from bulkseed.embedded import Server
from bulkseed.fields import parse_field
from bulkseed.plan.plan import microseconds
from bulkseed.postgres.address import Address
from bulkseed.text.fakes import Fakes
from support.commands import ROOT, environment
from support.databases import MakeDatabase, address_of
from support.listeners import Interfering
from support.pages import BLOCKS, NAMED, PAGES, tables
from support.plans import AS_OF
from support.queries import digest, rows, run_sql

LISTED: Final = {
    "acme/schema.sql",
    "acme/seed.toml",
    "acme/loyalty.py",
    "acme/providers.py",
    "acme/statuses.py",
    "acme/logins.py",
    "acme/pins.py",
    "acme/more.sql",
    "acme/more.toml",
    "acme/logged.py",
    "acme/seed.py",
    "acme/seeding.py",
    "calls.toml",
    "fields.toml",
    "providers.toml",
    "startup.toml",
    "team.toml",
    "pyproject.toml",
    "conftest.py",
    "pytest.ini",
    "test_inbox.py",
    "compose.yaml",
    ".github/workflows/seed-staging.yaml",
}
EXTRA_COLUMNS: Final = (
    "ALTER TABLE users ADD phone text NOT NULL, ADD plan text NOT NULL, ADD handle varchar(60) UNIQUE, "
    "ADD settings jsonb NOT NULL, ADD age smallint, ADD public_id uuid NOT NULL UNIQUE, ADD verified_at timestamptz, "
    "ADD loyalty integer NOT NULL",
    "ALTER TABLE users ADD greeting text, ADD plan_code varchar(7)",
)
MOST_LINES: Final = 25


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with the examples' files in it, from where their modules are imported."""
    for name, text in NAMED.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "acme"]:
        del sys.modules[name]


def test_all_files_are_known() -> None:
    """A new one is to be run by a test here."""
    assert set(NAMED) == LISTED
    assert all(ast.parse(text) for _, language, text in BLOCKS if language == "python")
    assert all(tomllib.loads(text) for _, language, text in BLOCKS if language == "toml")
    assert {"python", "toml", "sql", "yaml", "ini", "console", "json", "mermaid"} >= {
        language for _, language, _ in BLOCKS
    }
    assert len(NAMED) == sum(language not in {"console", "json", "mermaid"} for _, language, _ in BLOCKS)


async def lived_through(plan: bulkseed.Plan, database: Address, cut_off_at: str) -> dict[str, int]:
    """Loaded and interrupted, resumed, verified, and cleaned up again; returns the rows."""
    with anyio.CancelScope() as scope:
        await bulkseed.load(plan, database, rows_per_shard=1000, listener=Interfering(cut_off_at, scope.cancel))
    assert scope.cancelled_caught
    report = await bulkseed.resume(database)
    assert report is not None
    [found] = await bulkseed.verify(database)
    assert found.holds, [rule for rule in found.rules if rule.violations]
    return dict(report.rows)


async def test_an_own_schema(folder: Path, make_database: MakeDatabase) -> None:
    database = await make_database("empty")
    await run_sql(database, NAMED["acme/schema.sql"])
    plan = bulkseed.make_plan("4x", as_of=AS_OF, scenario="acme/seed.toml")
    found = await lived_through(plan, database, "messages")
    assert set(found) == {"users", "channels", "user_channels", "messages"}
    [(accounts, versions)] = await rows(
        database, "SELECT count(*), array_agg(DISTINCT substr(id::text, 15, 1)) FROM chat.accounts"
    )
    assert (accounts, versions) == (80, ["7"])
    await bulkseed.cleanup(database)
    assert await rows(database, "SELECT FROM chat.accounts UNION ALL SELECT FROM chat.rooms") == []


@pytest.mark.parametrize("scenario", ["fields.toml", "providers.toml", "calls.toml"])
async def test_fields(folder: Path, database: Address, scenario: str) -> None:
    await run_sql(database, *EXTRA_COLUMNS)
    filled = tomllib.loads(NAMED[scenario])["fields"]["users"]
    every = tomllib.loads(NAMED["fields.toml"])["fields"]["users"]
    # what this example does not fill
    await run_sql(database, *(f"ALTER TABLE users ALTER {name} DROP NOT NULL" for name in every.keys() - filled.keys()))
    before = await digest(database)
    await lived_through(bulkseed.make_plan("3x", as_of=AS_OF, scenario=scenario), database, "users")
    for name in filled:
        [(share,)] = await rows(database, f"SELECT count({name}) / count(*)::float FROM users")
        assert (share == 1) is ("null" not in filled[name]), name
    if "settings" in filled:
        assert await rows(database, "SELECT DISTINCT settings ->> 'theme' FROM users") == [("dark",)]
    await bulkseed.cleanup(database)
    assert await digest(database) == before


def test_what_can_fill_a_column() -> None:
    """Each line of the table is a field."""
    [table] = [table for table in tables(PAGES["docs/how-to/fields.md"]) if table[0] == ["field", "values"]]
    cells = [each for row in table[1:] for each in re.findall(r"`([^`]+)`", row[0])]
    assert len(cells) > 12
    for cell in cells:
        if "call" not in cell:
            parse_field("a field", tomllib.loads(f"it = {cell}")["it"], Fakes("en_US", 1, microseconds(AS_OF)))


@pytest.mark.parametrize("scenario", ["startup.toml", "team.toml"])
def test_a_shape(folder: Path, scenario: str) -> None:
    plan = bulkseed.make_plan("1x", as_of=AS_OF, scenario=scenario)
    assert plan.scenario.shape != bulkseed.make_plan("1x").scenario.shape


async def test_tables_relationships_and_rules(folder: Path, database: Address) -> None:
    await run_sql(database, NAMED["acme/more.sql"])
    before = await digest(database)
    plan = bulkseed.make_plan("5x", as_of=AS_OF, scenario="acme/more.toml")
    found = await lived_through(plan, database, "user_statuses")
    assert (found["user_statuses"], found["logins"]) == (500, 1000)
    assert min(found.values()) > 0
    [report] = await bulkseed.verify(database)
    assert {rule["name"] for rule in tomllib.loads(NAMED["acme/more.toml"])["rules"]} <= {
        rule.text for rule in report.rules
    }
    [(wrong,)] = await rows(
        database,
        "SELECT count(*) FROM user_statuses AS s JOIN users AS u ON u.id = user_id "
        "WHERE s.created_at < u.created_at AT TIME ZONE 'UTC' OR expires_at < s.created_at",
    )
    assert wrong == 0
    await bulkseed.cleanup(database)
    assert await digest(database) == before


def test_the_status_example_is_short_and_that_of_the_tests() -> None:
    text = NAMED["acme/statuses.py"].removeprefix("# acme/statuses.py\n")
    assert text == (ROOT / "tests" / "user_code" / "examples" / "statuses.py").read_text()
    assert text.count("\n") <= MOST_LINES


async def test_an_entry_point_from_the_command_line(folder: Path, database: Address) -> None:
    """As of an installed package: the project's own table of entry points in its metadata."""
    await run_sql(database, NAMED["acme/more.sql"])
    [points] = tomllib.loads(NAMED["pyproject.toml"])["project"]["entry-points"].items()
    info = folder / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    lines = [f"[{points[0]}]", *(f"{name} = {value}" for name, value in points[1].items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    # as the console script does, from where a module of the working directory is not found by Python itself
    command = [sys.executable, "-P", "-c", "from bulkseed.__main__ import console; console()"]
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, "--plugin", "user_statuses", "--scale", "2x", "--json", "--database-url", database.dsn],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["user_statuses"] == 200


async def test_python(folder: Path, database: Address, capsys: pytest.CaptureFixture[str]) -> None:
    await run_sql(database, NAMED["acme/more.sql"])
    await importlib.import_module("acme.seeding").seed(database.dsn)
    said = capsys.readouterr().out
    [rows_sent] = re.findall(r"^run 1: ([\d,]+) rows in", said, re.MULTILINE)
    assert "copy …" in said
    [(loaded,)] = await rows(
        database,
        "SELECT sum(n) FROM (SELECT count(*) FROM users UNION ALL SELECT count(*) FROM channels UNION ALL "
        "SELECT count(*) FROM user_channels UNION ALL SELECT count(*) FROM messages UNION ALL "
        "SELECT count(*) FROM message_reactions UNION ALL SELECT count(*) FROM user_statuses) AS counts (n)",
    )
    assert int(rows_sent.replace(",", "")) == loaded


async def test_a_program_without_an_event_loop(folder: Path, database: Address) -> None:
    before = await digest(database)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "acme/seed.py", database.dsn],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"run 1: ([\d,]+) rows in [\d.]+ s\n\1 rows removed\n", done.stdout)
    assert await digest(database) == before


@pytest.mark.parametrize("files", [("test_inbox.py", "conftest.py"), ("test_inbox.py", "pytest.ini")])
async def test_pytest(server: Server, database: Address, tmp_path: Path, files: tuple[str, ...]) -> None:
    for name in files:
        (tmp_path / name).write_text(NAMED[name])
    (tmp_path / "schema.sql").write_text((ROOT / "bulkseed/target/reference_schema.sql").read_text())
    done = await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"),
            *("--junitxml=report.xml", "test_inbox.py"),
        ],
        capture_output=True,
        text=True,
        env=environment(
            PYTHONWARNINGS="",
            BULKSEED_TEST_URL=database.dsn,
            PATH=f"{server.binaries}{os.pathsep}{os.environ['PATH']}",
        ),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    suite = ElementTree.parse(tmp_path / "report.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("skipped")) == ("1", "0")


def test_the_ci_job_on_a_fresh_database(
    server: Server, templates: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is cleaned up where nothing is; then what was loaded is."""
    name = "docs_staging"
    admin, target = address_of(server, "postgres"), address_of(server, name)
    monkeypatch.setenv("BULKSEED_DATABASE_URL", target.dsn)
    named = f"{','.join(target.hosts)}/{name}"
    job = NAMED[".github/workflows/seed-staging.yaml"].replace('"$TARGET"', shlex.quote(named))
    [cleaned, loaded] = [
        shlex.split(re.sub(r"--scenario \S+ --scale 30x", "", line))
        for line in sorted(re.findall(r"^ +bulkseed (.*--allow .*)$", job, re.MULTILINE))
    ]

    def told(arguments: list[str]) -> str:
        assert main(arguments) == 0
        return capsys.readouterr().out

    def count_runs() -> int:
        return len(json.loads(told(["runs", "--json"]))["runs"])

    asyncio.run(run_sql(admin, f"CREATE DATABASE {name} TEMPLATE {templates['reference']} STRATEGY file_copy"))
    try:
        told(cleaned)
        told(loaded)
        assert count_runs() == 1
        told(cleaned)
        assert count_runs() == 0
    finally:
        asyncio.run(run_sql(admin, f"DROP DATABASE {name} WITH (FORCE)"))
