"""Consent before anything is written, and the guard for names that look like production."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from bulkseed.__main__ import main
from bulkseed.embedded import Server
from bulkseed.errors import InputError
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.target import guard as disk
from bulkseed.target.guard import looks_like_production
from support.commands import ROOT, Problem, at_terminal, environment, reported_errors
from support.databases import MakeDatabase, address_of, make_reference
from support.errors import raises
from support.queries import digest, run_sql

ELSEWHERE: Final = "127.1"
"""A name of this machine that is not recognised as local."""

PRODUCTION: Final = (
    "prod", "PROD", "app_production", "db-prod-1.example.com", "prod2", "prd.db", "live", "shop live", "my.live.host",
    "eu-west-1.prod.internal", "/srv/prod/socket", "\uff50\uff52\uff4f\uff44", "app__prd__1", "a-production01-b",
    "[prod]",
)  # fmt: skip
OTHERS: Final = (
    "", "product", "products", "delivery", "livestream_test", "reproduction", "alive", "proda",
    "approd", "staging", "app_test", "10.0.0.5", "olive", "livelihood", "postgres",
)  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTION)
def test_names_that_look_like_production(name: str) -> None:
    assert looks_like_production(name)


@pytest.mark.parametrize("name", OTHERS)
def test_names_that_do_not(name: str) -> None:
    assert not looks_like_production(name)


@pytest.fixture(scope="session")
def made(listening: Server) -> dict[str, Address]:
    """Databases with the reference tables, by name, through a socket."""
    admin = address_of(listening, "postgres")

    async def make() -> dict[str, Address]:
        found = {}
        for name in ("staging", "app_production"):
            await run_sql(admin, f"CREATE DATABASE {name}")
            found[name] = address_of(listening, name)
            await make_reference(found[name])
        await run_sql(admin, "CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'p'")
        return found

    return asyncio.run(make())


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No terminal, and no environment that names a database."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for name in os.environ:
        if name.startswith("PG") or name.endswith("DATABASE_URL"):
            monkeypatch.delenv(name)


def url_of(listening: Server, database: str, host: str = ELSEWHERE) -> str:
    return f"postgresql://guarded:p@{host}:{listening.tcp_port}/{database}"


async def rows_of(address: Address) -> dict[str, tuple[int, str]]:
    async with open_connection(address) as connection:
        names = await connection.fetch("SELECT format('%s.%s', schemaname, tablename) AS n FROM pg_tables")
        ledger = sorted(row["n"] for row in names if row["n"].startswith("bulkseed."))
    return await digest(address) | dict.fromkeys(ledger, (0, ""))


@pytest.mark.usefixtures("nobody")
class TestProduction:
    @pytest.mark.parametrize("command", ["load", "init"])
    @pytest.mark.parametrize("host", [ELSEWHERE, "127.0.0.1", "socket"])
    @pytest.mark.parametrize("more", [[], ["--yes"]], ids=["", "yes"])
    def test_needs_its_name_typed(
        self, command: str, host: str, more: list[str], listening: Server, made: dict[str, Address],
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        socket = made["app_production"]
        url = socket.dsn if host == "socket" else url_of(listening, "app_production", host)
        before = asyncio.run(rows_of(socket))
        with reported_errors() as errors:
            assert main([command, "--database-url", url, *more]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        typed = f"{listening.socket_dir if host == 'socket' else host}/app_production"
        if host == ELSEWHERE and not more:
            problem = Problem(InputError, "confirmation-needed", ("--yes",))
        else:
            problem = Problem(InputError, "production-target", ("app_production", f"--allow {typed}"))
        problem.check(errors[0], printed.err)
        assert asyncio.run(rows_of(socket)) == before

    @pytest.mark.parametrize("allowed", ["app_production", "localhost/app_production", f"{ELSEWHERE}/App_production",
                                         f" {ELSEWHERE}/app_production", "yes"])  # fmt: skip
    def test_another_name_does_not_do(
        self, allowed: str, listening: Server, made: dict[str, Address], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with reported_errors() as errors:
            assert main(["--yes", "--allow", allowed, "--database-url", url_of(listening, "app_production")]) == 2
        problem = Problem(InputError, "allow-mismatch", (repr(allowed), "127.1/app_production"))
        problem.check(errors[0], capsys.readouterr().err)

    @pytest.mark.parametrize("host", [ELSEWHERE, "localhost"])
    def test_that_is_typed_is_written_to(
        self, host: str, listening: Server, made: dict[str, Address], capsys: pytest.CaptureFixture[str]
    ) -> None:
        named = ["--allow", f"{host}/app_production", "--database-url", url_of(listening, "app_production", host)]
        before = asyncio.run(rows_of(made["app_production"]))
        assert main(["load", "--yes", *named]) == 0
        printed = capsys.readouterr()
        shown = r"  database +app_production\n  user +guarded\n  rows +about \d+ \w+, about 545 to load\n"
        assert bool(re.search(shown, printed.err)) == (host == ELSEWHERE)
        assert main(["cleanup", "--yes", "--database-url", url_of(listening, "app_production", host)]) == 2
        assert f"--allow {host}/app_production" in capsys.readouterr().err
        assert main(["cleanup", "--yes", *named]) == 0
        printed = capsys.readouterr()
        assert bool(re.search(r"rows +about [\d,]+ \w+, [\d,]+ to remove\n", printed.err)) == (host == ELSEWHERE)
        assert asyncio.run(rows_of(made["app_production"])) == before

    def test_resume_asks_too(
        self, listening: Server, made: dict[str, Address], capsys: pytest.CaptureFixture[str]
    ) -> None:
        admin = made["app_production"]
        refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$"
        # not in the trial before the load
        when = "WHEN (to_regnamespace('bulkseed') IS NOT NULL)"
        trigger = f"CREATE TRIGGER refuse BEFORE INSERT ON messages FOR EACH ROW {when} EXECUTE FUNCTION refuse()"
        asyncio.run(run_sql(admin, refuse, trigger))
        named = ["--yes", "--database-url", url_of(listening, "app_production")]
        allowed = [*named, "--allow", f"{ELSEWHERE}/app_production"]
        assert main(["load", "--on-error", "keep", *allowed]) == 1
        asyncio.run(run_sql(admin, "DROP FUNCTION refuse() CASCADE"))
        before = asyncio.run(rows_of(admin))
        capsys.readouterr()
        assert main(["resume", *named]) == 2
        assert f"--allow {ELSEWHERE}/app_production" in capsys.readouterr().err
        with reported_errors() as errors:
            assert main(["resume", *named[1:]]) == 2
        Problem(InputError, "confirmation-needed", ("run 1", "--yes")).check(errors[0], capsys.readouterr().err)
        assert asyncio.run(rows_of(admin)) == before
        assert main(["resume", *allowed]) == 0
        assert re.search(r"\n  rows  +about \d+ [^\d]+[\d,]+ to load\n", capsys.readouterr().err)
        assert main(["cleanup", *allowed]) == 0

    def test_no_variable_says_otherwise(
        self, listening: Server, made: dict[str, Address], capsys: pytest.CaptureFixture[str], monkeypatch: Any
    ) -> None:
        for name in ("ENV", "APP_ENV", "RAILS_ENV", "ENVIRONMENT", "DJANGO_ENV", "BULKSEED_ENV"):
            monkeypatch.setenv(name, "staging")
        monkeypatch.setenv("DATABASE_URL", url_of(listening, "app_production"))
        assert main(["--yes"]) == 2
        assert f"--allow {ELSEWHERE}/app_production" in capsys.readouterr().err

    def test_a_service_and_an_address_are_no_way_around(
        self, listening: Server, made: dict[str, Address], tmp_path: Path, capsys: Any, monkeypatch: Any
    ) -> None:
        port = listening.tcp_port
        (tmp_path / "services").write_text(
            f"[innocent]\nhost=db-prod-1.example.com\nhostaddr=127.0.0.1\nport={port}\nuser=guarded\npassword=p\n"
        )
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        for url, title in (
            ("postgresql:///staging?service=innocent", "db-prod-1.example.com/staging"),
            (f"postgresql://guarded:p@127.0.0.1:{port}/staging?host=live.example.com&hostaddr=127.0.0.1",
             "live.example.com/staging"),
            (f"postgresql://guarded:p@/staging?host=127.0.0.1,db.prod&port={port},{port}", "127.0.0.1,db.prod/staging"),
            (f"postgresql://guarded:p@127.0.0.1,db.prod:{port}/staging?port={port}", "127.0.0.1,db.prod/staging"),
        ):  # fmt: skip
            assert main(["init", "--yes", "--database-url", url]) == 2
            printed = capsys.readouterr()
            assert f"--allow {title}" in printed.err
        monkeypatch.setenv("PGHOST", "db-prod-1.example.com")
        monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
        assert main(["init", "--yes", "--database-url", f"postgresql://guarded:p@:{port}/staging"]) == 2
        assert "--allow db-prod-1.example.com/staging" in capsys.readouterr().err

    @pytest.mark.usefixtures("made")  # whose login it is
    def test_the_name_in_the_message_works_in_a_shell(
        self, listening: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        name = "our prod $(x) 'db'"
        admin = address_of(listening, "postgres")
        asyncio.run(run_sql(admin, f'CREATE DATABASE "{name}"'))
        url = url_of(listening, quote(name, safe=""), "127.0.0.1")
        assert main(["init", "--yes", "--database-url", url]) == 2
        typed = capsys.readouterr().err.partition(" --allow ")[2].strip()
        in_a_shell = f'exec "{sys.executable}" -m bulkseed init --database-url "$URL" --allow {typed}'
        done = subprocess.run(
            ["sh", "-c", in_a_shell], env=environment(URL=url), cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        asyncio.run(run_sql(admin, f'DROP DATABASE "{name}" WITH (FORCE)'))

    def test_check_tells_what_a_load_needs(
        self, listening: Server, made: dict[str, Address], capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = asyncio.run(rows_of(made["app_production"]))
        for host in (ELSEWHERE, "127.0.0.1"):
            assert main(["check", "--json", "--database-url", url_of(listening, "app_production", host)]) == 0
            found = json.loads(capsys.readouterr().out)
            assert found["allow"] == f"{host}/app_production"
            assert found["asks"] == (host == ELSEWHERE)
            assert f"--allow {host}/app_production" in found["command"]
            assert "guarded:p@" not in found["command"]
        assert asyncio.run(rows_of(made["app_production"])) == before

    def test_allow_without_a_database_is_not_for_the_embedded_one(
        self, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BULKSEED_HOME", str(server.home))
        with reported_errors() as errors:
            assert main(["--allow", "db-prod/app"]) == 2
        problem = Problem(InputError, "allow-without-database", ("db-prod/app", "--database-url"))
        problem.check(errors[0], capsys.readouterr().err)


@pytest.mark.usefixtures("nobody")
class TestElsewhere:
    @pytest.mark.parametrize("command", ["load", "init"])
    def test_a_question_needs_a_terminal(
        self, command: str, listening: Server, made: dict[str, Address], capsys: Any
    ) -> None:
        before = asyncio.run(rows_of(made["staging"]))
        with reported_errors() as errors:
            assert main([command, "--database-url", url_of(listening, "staging")]) == 2
        Problem(InputError, "confirmation-needed", ("/staging", "--yes")).check(errors[0], capsys.readouterr().err)
        assert asyncio.run(rows_of(made["staging"])) == before

    def test_yes_is_for_scripts_and_quiet_is_quiet(
        self, listening: Server, made: dict[str, Address], capsys: pytest.CaptureFixture[str]
    ) -> None:
        url = url_of(listening, "staging")
        assert main(["--yes", "--quiet", "--database-url", url]) == 0
        assert capsys.readouterr() == ("", "")
        assert main(["cleanup", "--yes", "--quiet", "--database-url", url]) == 0
        assert capsys.readouterr() == ("", "")


def at_a_terminal(answer: str, *arguments: str) -> Iterator[str]:
    """What a command prints at a terminal, where its question is answered; then its exit status."""
    child, ours = at_terminal(*arguments)
    said = ""
    try:
        while chunk := os.read(ours, 1000).decode(errors="replace"):
            said += chunk
            if said.endswith("[y/N]: "):
                os.write(ours, f"{answer}\n".encode())
    except OSError:
        pass  # a terminal without a program at its other end
    os.close(ours)
    yield said
    yield str(child.wait(30))


def test_the_target_is_shown_and_asked_for(listening: Server, made: dict[str, Address]) -> None:
    before = asyncio.run(rows_of(made["staging"]))
    url = url_of(listening, "staging")
    for command, change in (
        (["load"], "about 545 to load"),
        (["init"], "reaction catalogue"),
    ):
        said, status = at_a_terminal("n", *command, "--database-url", url)
        shown = [
            f"  host      {ELSEWHERE}:{listening.tcp_port}",
            "  database  staging",
            "  user      guarded",
        ]
        assert "\r\n".join(shown) in said
        assert re.search(rf"  rows      about \d+ .*{change}.*\r\n.*/staging.*\[y/N\]", said)
        assert "[declined]" in said
        assert ":p@" not in said
        assert status == "2"
    assert asyncio.run(rows_of(made["staging"])) == before
    said, status = at_a_terminal("y", "--database-url", url)
    assert status == "0", said
    said, status = at_a_terminal("n", "cleanup", "--database-url", url)
    assert re.search(r"rows      about \d+ .*\D(\d+) to remove\r\n.* \1 rows of run 1 from", said)
    assert status == "2"
    said, status = at_a_terminal("y", "cleanup", "--database-url", url)
    assert status == "0", said
    assert asyncio.run(rows_of(made["staging"])) == before


def test_control_characters_of_names_are_escaped(listening: Server) -> None:
    name = "a\x1b[2Jb\nc\u202ed"
    admin = address_of(listening, "postgres")
    asyncio.run(run_sql(admin, f'CREATE DATABASE "{name}"'))
    said, _ = at_a_terminal("n", "init", "--database-url", url_of(listening, quote(name, safe="")))
    assert "\r\n  database  a\\x1b[2Jb\\nc\\u202ed\r\n" in said
    assert "\x1b[2J" not in said
    assert "\u202e" not in said
    asyncio.run(run_sql(admin, f'DROP DATABASE "{name}" WITH (FORCE)'))


class TestDisk:
    async def test_a_servers_folder_on_this_machine(self, database: Address, server: Server) -> None:
        async with open_connection(database) as connection:
            found = await disk.folders(connection, database, {"users": 100.0, "messages": 300.0})
        assert found == {server.data: 1000.0}

    async def test_tablespaces_of_the_database_and_of_tables(self, server: Server, make_database: MakeDatabase) -> None:
        admin, database = address_of(server, "postgres"), await make_database()
        async with open_connection(admin) as connection:
            await connection.execute("SET allow_in_place_tablespaces = on")
            for name in ("of_database", "of_table"):
                await connection.execute(f"CREATE TABLESPACE {name} LOCATION ''")
            await connection.execute(f"ALTER DATABASE {database.database} SET TABLESPACE of_database")
            numbers = {row[0]: row[1] for row in await connection.fetch("SELECT spcname, oid FROM pg_tablespace")}
        await run_sql(database, "ALTER TABLE messages SET TABLESPACE of_table")
        spaces = server.data / "pg_tblspc"
        async with open_connection(database) as connection:
            found = await disk.folders(connection, database, {"users": 100.0, "messages": 300.0})
        assert found == {
            server.data: 600.0,
            spaces / str(numbers["of_database"]): 100.0,
            spaces / str(numbers["of_table"]): 300.0,
        }
        await run_sql(
            database,
            "CREATE ROLE knows_little LOGIN",
            "DROP TABLE messages CASCADE",
            f"GRANT CONNECT ON DATABASE {database.database} TO knows_little",
        )
        little = Address(database.url._replace(username="knows_little"))
        async with open_connection(
            little
        ) as connection:  # in-place tablespaces are below a folder that it may not know
            assert await disk.folders(connection, little, {"users": 100.0}) == {}
        await run_sql(database, "DROP OWNED BY knows_little", "DROP ROLE knows_little")
        await run_sql(
            admin,
            f"ALTER DATABASE {database.database} SET TABLESPACE pg_default",
            "DROP TABLESPACE of_database",
            "DROP TABLESPACE of_table",
        )

    async def test_the_disks_behind_a_tunnel_are_unknown(self, listening: Server, made: Any) -> None:
        """A port other than the server's own leads to another machine."""
        here = Address.parse(url_of(listening, "staging", "127.0.0.1"))
        elsewhere = Address.parse("postgresql://guarded:p@127.0.0.1:1/staging")
        async with open_connection(here) as connection:
            assert list(await disk.folders(connection, here, {"users": 1.0})) == [listening.data]
            assert await disk.folders(connection, elsewhere, {"users": 1.0}) == {}

    def test_folders_of_other_machines_are_ignored(self, tmp_path: Path) -> None:
        disk.check_folders({Path("/no/such/folder"): 1e30, tmp_path: 1.0})

    def test_folders_on_one_disk_count_together(self, tmp_path: Path) -> None:
        free = shutil.disk_usage(tmp_path).free
        (tmp_path / "a").mkdir()
        disk.check_folders({tmp_path: free * 0.6})
        with raises("disk-too-small", tmp_path, " GB", kind=InputError):
            disk.check_folders({tmp_path: free * 0.6, tmp_path / "a": free * 0.6})

    def test_too_little_space_is_refused_before_a_load(
        self, made: dict[str, Address], listening: Server, nobody: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = asyncio.run(rows_of(made["staging"]))
        for url in (made["staging"].dsn, url_of(listening, "staging", "127.0.0.1")):
            assert main(["--scale", "30000x", "--database-url", url]) == 2
            assert re.search(rf"[\d,.]+ GB .*{listening.data}.* [\d,.]+ GB", capsys.readouterr().err)
        assert asyncio.run(rows_of(made["staging"])) == before
