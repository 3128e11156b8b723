"""Commands on a database that the user names: psql, consent for $DATABASE_URL, hints, cleanup without runs, --json."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from bulkseed.cli.psql import find_psql
from bulkseed.embedded import Server
from bulkseed.embedded.programs import wheel_binaries
from bulkseed.errors import InputError
from bulkseed.postgres.address import Address
from support.commands import ROOT, Problem, at_terminal, bulkseed, environment, inside, reported_errors
from support.databases import MakeDatabase, address_of
from support.errors import raises
from support.queries import digest, run_sql

SECRET: Final = "s3cret of psql"
USER_CODE: Final = str(ROOT / "tests" / "user_code")


@pytest.fixture
async def empty(make_database: MakeDatabase) -> Address:
    """A database without tables."""
    return await make_database("empty")


class TestPsql:
    def test_it_opens_the_named_database(self, database: Address, server: Server) -> None:
        query = ("-At", "-c", "SELECT current_database()")
        other = address_of(server, "postgres").dsn
        for arguments, variables in (
            ((*query, "--database-url", database.dsn), {"BULKSEED_DATABASE_URL": other}),
            (query, {"BULKSEED_DATABASE_URL": database.dsn, "DATABASE_URL": other}),
            (("--", *query), {"DATABASE_URL": database.dsn}),
        ):
            done = bulkseed("psql", *arguments, **variables)
            assert (done.returncode, done.stdout, done.stderr) == (0, f"{database.database}\n", "")
        # as psql itself ends: 1 for an error, 3 for one in a script
        assert bulkseed("psql", "-c", "SELECT nonsense", DATABASE_URL=database.dsn).returncode == 1
        script = ("-v", "ON_ERROR_STOP=1", "-f", "/no/such/file")
        assert bulkseed("psql", *script, DATABASE_URL=database.dsn).returncode == 1

    def test_its_password_and_parameters(self, listening: Server) -> None:
        admin = address_of(listening, "postgres")
        asyncio.run(run_sql(admin, f"CREATE ROLE \"with psql\" LOGIN PASSWORD '{SECRET}'"))
        url = (
            f"postgresql+asyncpg://with%20psql:{quote(SECRET)}@127.0.0.1:{listening.tcp_port}/postgres"
            "?application_name=it%27s+me&connect_timeout=9&prepared_statement_cache_size=0"
        )
        command = [sys.executable, "-m", "bulkseed", "psql", "-At"]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(DATABASE_URL=url),
            cwd=ROOT,
        ) as running:
            assert running.stdin is not None
            assert running.stdout is not None
            running.stdin.write("SELECT current_user, current_setting('application_name');\n")
            running.stdin.flush()
            assert running.stdout.readline() == "with psql|it's me\n"
            if Path("/proc/self/cmdline").exists():
                shown = "".join(file.read_text(errors="replace") for file in commands_below(running.pid))
                assert "connect_timeout" in shown
                assert SECRET not in shown
                assert quote(SECRET) not in shown
            running.communicate("\\\\q\n")
        assert running.returncode == 0
        asyncio.run(run_sql(admin, 'DROP ROLE "with psql"'))

    def test_where_it_is_found(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "psql").touch(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_psql() == str(tmp_path / "psql")
        (tmp_path / "psql").unlink()
        assert find_psql() == str(wheel_binaries() / "psql")
        monkeypatch.setitem(sys.modules, "bulkseed.embedded.programs", None)
        with raises("missing-psql", "PATH", kind=InputError):
            find_psql()


def commands_below(process: int) -> list[Path]:
    """The files with the command lines of a process and of its children."""
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [Path(f"/proc/{each}/cmdline") for each in (process, *listed)]


class TestConsent:
    @pytest.mark.parametrize("command", ["load", "init", "resume"])
    def test_the_variable_of_an_application_is_asked_about(self, command: str, database: Address) -> None:
        if command == "resume":
            asyncio.run(run_sql(database, "SELECT 1"))
            assert inside("load", "--quiet", BULKSEED_DATABASE_URL=database.dsn).returncode == 0
            asyncio.run(run_sql(database, "UPDATE bulkseed.runs SET state = 'loading', finished_at = NULL"))
        before = asyncio.run(digest(database))
        with reported_errors() as errors:
            done = inside(command, DATABASE_URL=database.dsn)
        assert (done.returncode, done.stdout) == (2, "")
        facts = ("DATABASE_URL", "--yes", database.database)
        Problem(InputError, "confirmation-needed", facts).check(errors[0], done.stderr)
        assert asyncio.run(digest(database)) == before
        done = inside(command, "--yes", DATABASE_URL=database.dsn)
        assert done.returncode == 0, done.stderr
        assert f"  database  {database.database}\n" in done.stderr
        assert inside(command, "--yes", "--quiet", DATABASE_URL=database.dsn).stderr == ""

    def test_at_a_terminal(self, database: Address) -> None:
        child, ours = at_terminal("init", DATABASE_URL=database.dsn)
        with child:
            said = ""
            while "[y/N]" not in said:
                said += os.read(ours, 1000).decode()
            os.write(ours, b"n\n")
            assert child.wait(60) == 2
        os.close(ours)
        assert "($DATABASE_URL)" in said
        assert f"  database  {database.database}" in said

    def test_what_only_reads_is_not(self, seeded: Address) -> None:
        for command in ("verify", "runs"):
            assert inside(command, DATABASE_URL=seeded.dsn).returncode == 0


def test_the_next_commands_work(database: Address) -> None:
    for arguments, variables, option in (
        (["--database-url", database.dsn], {}, True),
        ([], {"BULKSEED_DATABASE_URL": database.dsn}, False),
        (["--yes"], {"DATABASE_URL": database.dsn}, False),
    ):
        done = inside("load", *arguments, **variables)
        assert done.returncode == 0, done.stderr
        hints = [line for line in done.stdout.splitlines() if line.startswith("  bulkseed ")]
        assert [hint.split()[1] for hint in hints] == ["verify", "psql", "cleanup"]
        assert all((database.dsn in hint) is option for hint in hints)
        assert "PGPASSWORD" not in done.stdout


def test_the_next_commands_tell_of_a_password(listening: Server) -> None:
    admin = address_of(listening, "postgres")
    asyncio.run(run_sql(admin, "CREATE DATABASE hinted", f"CREATE ROLE hinted SUPERUSER LOGIN PASSWORD '{SECRET}'"))
    url = f"postgresql://hinted:{quote(SECRET)}@127.0.0.1:{listening.tcp_port}/hinted"
    assert inside("init", "--quiet", "--database-url", url).stdout == ""
    done = inside("load", "--database-url", url)
    assert done.returncode == 0, done.stderr
    assert "PGPASSWORD" in done.stdout
    assert quote(SECRET) not in done.stdout
    asyncio.run(run_sql(admin, "DROP DATABASE hinted WITH (FORCE)", "DROP ROLE hinted"))


def test_cleanup_of_a_database_without_runs(empty: Address, database: Address) -> None:
    for address in (empty, database):
        url = ("--database-url", address.dsn)
        done = inside("cleanup", *url)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("\n") == 1
        told = json.loads(inside("cleanup", "--json", *url).stdout)
        nothing = {"removed": {}, "others": {}, "rebuilt": 0, "changed": {}, "missing": {}}
        nothing |= {"returned_ids": {}, "other_rows": None}
        assert told == {"runs": [], "database_url": str(address)} | nothing
        assert inside("cleanup", "--quiet", *url).stdout == ""
        assert json.loads(inside("resume", "--json", *url).stdout) == {"run": None}
        with reported_errors() as errors:
            statuses = [inside(*command, *url).returncode for command in (["cleanup", "1"], ["verify"])]
        assert statuses == [2, 2]
        assert [getattr(error, "code", None) for error in errors] == ["no-runs", "no-runs"]


def test_what_user_code_prints_is_not_in_the_json(database: Address) -> None:
    asyncio.run(run_sql(database, "CREATE TABLE noises (user_id bigint NOT NULL REFERENCES users)"))
    variables = {"BULKSEED_DATABASE_URL": database.dsn, "PYTHONPATH": USER_CODE}
    load = ("load", "--scale", "5x", "--rows-per-shard", "2000", "--workers", "2", "--plugin", "noisy:noises")
    done = bulkseed(*load, "--json", **variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["rows"]["noises"] == 100
    assert "noisy is imported" in done.stderr
    assert "noises are made" in done.stderr
    done = bulkseed("plan", "--plugin", "noisy:noises", "--json", **variables)
    assert json.loads(done.stdout)["tables"]["noises"]["rows"] > 0
    # without --json, stdout is for people
    assert "noisy is imported" in bulkseed("plan", "--plugin", "noisy:noises", **variables).stdout


def test_quiet_serve_prints_its_url_alone(listening: Server) -> None:
    command = [sys.executable, "-m", "bulkseed", "serve", "--port", str(listening.tcp_port), "--quiet"]
    home: dict[str, Any] = {"env": environment(BULKSEED_HOME=str(listening.home)), "cwd": ROOT}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **home) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("postgresql://")
        time.sleep(0.5)  # where the signal comes sooner, it ends the command without a message too
        child.terminate()
        assert child.communicate(timeout=60) == ("", "")
