"""The command line as users see it: exit status, stdout and stderr.

Commands run in processes of their own where that matters: for signals, terminals, streams and hash seeds.
"""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import click
import pytest

from bulkseed.__main__ import main
from bulkseed.embedded import Server
from bulkseed.errors import ConnectError, InputError, TargetError
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from support.app_rows import APP_ROWS
from support.commands import FIXED, ROOT, Problem, at_terminal, bulkseed, environment, inside, reported_errors
from support.databases import MakeDatabase, address_of
from support.museum import MUSEUM
from support.pg_dump import dump
from support.queries import digest, run_sql
from support.server_homes import enterable

TABLES = ["users", "channels", "user_channels", "messages", "message_reactions"]
SECRET = "s3cret"


def started(*arguments: str, **changed: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bulkseed", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**changed),
        cwd=ROOT,
    )


@pytest.fixture
async def empty(make_database: MakeDatabase) -> Address:
    """A database without tables."""
    return await make_database("empty")


async def test_a_load_prints_one_json_object(database: Address) -> None:
    done = bulkseed("--scale", "2x", *FIXED, "--seed", "5", "--json", "--database-url", database.dsn)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    times = {"as_of", "seconds"}
    assert set(told) == times | {"run", "seed", "first_ids", "rows", "loaded", "workers", "deferred", "database_url"}
    assert (told["run"], told["seed"], told["as_of"]) == (1, 5, "2026-06-01T00:00:00+00:00")
    assert told["database_url"] == str(database)
    assert list(told["rows"]) == TABLES
    assert told["rows"] == {table: rows for table, (rows, _) in (await digest(database, *TABLES)).items()}
    assert set(TABLES) < set(told["seconds"])
    assert list(told["seconds"])[-1] == "total"
    assert done.stderr.startswith("bulkseed: ")


def test_a_load_prints_a_table_and_what_comes_next(database: Address) -> None:
    done = inside("load", BULKSEED_DATABASE_URL=database.dsn, DATABASE_URL="postgresql://nowhere.invalid/d")
    assert done.returncode == 0, done.stderr
    for text in (*TABLES, "rows/s", "run 1: seed 1", "bulkseed verify ", "bulkseed psql ", "bulkseed cleanup "):
        assert text in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_quiet_says_nothing(database: Address) -> None:
    done = inside("--quiet", "--database-url", database.dsn)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_the_same_command_twice_gives_the_same_rows(make_database: Any) -> None:
    first, second = await make_database(), await make_database()
    for address, salt in ((first, "1"), (second, "2")):
        done = bulkseed(
            "--seed", "7", *FIXED, "--quiet", BULKSEED_DATABASE_URL=address.dsn, PYTHONHASHSEED=salt, TZ="Asia/Tokyo"
        )
        assert done.returncode == 0, done.stderr
    assert await digest(first) == await digest(second)


def test_the_other_commands(empty: Address) -> None:
    url = {"BULKSEED_DATABASE_URL": empty.dsn}
    created = inside("init", **url).stdout
    assert "table reactions" in created
    assert "table users" in created
    assert json.loads(inside("init", "--json", **url).stdout) == {"made": [], "database_url": str(empty)}
    assert inside("load", "--quiet", **url).returncode == 0
    done = inside("verify", **url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("run 1: ")
    assert "U5" not in done.stdout.splitlines()[-1]
    told = json.loads(inside("verify", "1", "--json", **url).stdout)
    assert told["holds"] is True
    asyncio.run(run_sql(empty, "UPDATE users SET bio = '' WHERE id = 3"))
    done = inside("verify", **url)
    assert done.returncode == 3
    assert re.fullmatch(r"run 1: .*\bU5", done.stdout.splitlines()[-1])
    assert inside("verify", "--quiet", **url).stdout == ""
    refused = inside("cleanup", **url)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    told = json.loads(inside("cleanup", "--yes", "--json", **url).stdout)
    assert told["runs"] == [1]
    assert told["removed"]["users"] == 20
    assert {table: rows for table, (rows, _) in asyncio.run(digest(empty)).items() if rows} == {"reactions": 12}


async def test_cleanup_asks_at_a_terminal(seeded: Address) -> None:
    for answer, status in (("n", 2), ("y", 0)):
        child, ours = at_terminal("cleanup", BULKSEED_DATABASE_URL=seeded.dsn)
        said = ""
        while "[y/N]" not in said:
            said += os.read(ours, 1000).decode()
        assert re.search(r"[\d,]+ rows of run 1 from", said)
        os.write(ours, f"{answer}\n".encode())
        try:
            while os.read(ours, 1000):
                pass
        except OSError:
            pass  # a terminal without a program at its other end
        assert child.wait(30) == status
        os.close(ours)
    assert (await digest(seeded, "users"))["users"][0] == 0


def test_cleanup_refuses_with_status_1_where_an_apps_rows_point(seeded: Address) -> None:
    app = "INSERT INTO channels (name, owner_id, created_at, is_private, is_dm) VALUES ('a', 1, now(), false, false)"
    asyncio.run(run_sql(seeded, app))
    done = inside("cleanup", "--yes", BULKSEED_DATABASE_URL=seeded.dsn)
    assert done.returncode == 1
    assert "1 of public.channels" in done.stderr
    assert "--cascade" in done.stderr
    assert inside("cleanup", "--yes", "--cascade", "--quiet", BULKSEED_DATABASE_URL=seeded.dsn).returncode == 0


def test_plan_says_what_to_expect() -> None:
    done = inside("plan", "--scale", "100x", "--json")
    told = json.loads(done.stdout)
    assert list(told["tables"]) == TABLES
    assert told["tables"]["messages"] == {"rows": 2_400_000, "bytes": 504_000_000, "shards": 22}
    assert told["total"]["rows"] == 5_024_300
    finer = json.loads(inside("plan", "--scale", "100x", "--json", "--rows-per-shard", "100000").stdout)
    assert finer["tables"]["messages"]["shards"] == 43
    shown = inside("plan", "--scale", "100x", "--as-of", "2026-06-01").stdout
    assert "2,400,000" in shown
    for text in ("2,000 users", "1,000 channels", "2,000 messages", "seed 1", "as of 2026-06-01T00:00:00+00:00"):
        assert text in shown


def test_plan_estimates_the_bytes_that_a_load_takes(database: Address) -> None:
    told = json.loads(inside("plan", "--scale", "20x", "--json").stdout)
    assert inside("--scale", "20x", "--workers", "1", "--quiet", BULKSEED_DATABASE_URL=database.dsn).returncode == 0

    async def taken(*tables: str) -> list[int]:
        async with open_connection(database) as connection:
            return [await connection.fetchval("SELECT pg_total_relation_size($1::text::regclass)", t) for t in tables]

    tables = ("user_channels", "messages", "message_reactions")
    for table, size in zip(tables, asyncio.run(taken(*tables)), strict=True):
        assert size == pytest.approx(told["tables"][table]["bytes"], rel=0.25)


def wrong(*facts: str, code: str | None = None, kind: type[Exception] = InputError) -> Problem:
    return Problem(kind, code, facts)


WRONG: dict[str, tuple[list[str], Problem]] = {
    "scale 0": (["--scale", "0x"], wrong("--scale", "0x")),
    "scale negative": (["--scale", "-1x"], wrong("--scale", "-1x")),
    "scale a word": (["--scale", "abc"], wrong("--scale", "abc")),
    "scale too large": (["--scale", "1e400x"], wrong("--scale", "1e400x")),
    "scale huge": (["--scale", "999999999x"], wrong("19,999,999,980 users", "2,000,000,000")),
    "one user": (["--users", "1"], wrong("1 user ", "--users", "2")),
    "negative users": (["--users", "-5"], wrong("-5 users", "--users", "2")),
    "no channel": (["--channels", "0"], wrong("0 channels", "--channels", "1")),
    "negative messages": (["--messages-per-channel", "-1"], wrong("-1 messages", "--messages-per-channel", "1")),
    "one member": (["--max-members", "1"], wrong("--max-members", "1", "2")),
    "users a word": (["--users", "many"], wrong("--users", "many", kind=click.UsageError)),
    "seed a word": (["--seed", "x"], wrong("--seed", "x", kind=click.UsageError)),
    "as_of malformed": (["--as-of", "yesterday"], wrong("--as-of", "yesterday", "ISO 8601")),
    "as_of in the future": (["--as-of", "2999-01-01"], wrong("--as-of", "2999-01-01")),
    "unknown locale": (["--locale", "de_XX"], wrong("de_XX", "de_DE")),
    "unknown option": (["--sclae", "3x"], wrong("--sclae", "--scale", kind=click.UsageError)),
    "a command behind options": (["--seed", "3", "verify"], wrong("`bulkseed verify", code="unexpected-argument")),
    "as_of too early": (["--as-of", "0001-01-01"], wrong("0001-01-01")),
    "not a PostgreSQL": (["--database-url", "mysql://u:s3cret@h/d"], wrong("mysql")),
    "another machine without a terminal": (
        ["--database-url", "postgresql://db.example.com/d"],
        wrong("db.example.com", "--yes", code="confirmation-needed"),
    ),
    "another machine without a terminal, for init": (
        ["init", "--database-url", "postgresql://db.example.com/d"],
        wrong("db.example.com", "--yes", code="confirmation-needed"),
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_input_is_refused_with_status_2(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, problem = WRONG[kind]
    monkeypatch.setenv("BULKSEED_DATABASE_URL", "postgresql://127.0.0.1:1/d")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with reported_errors() as errors:
        assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    [error] = errors
    problem.check(error, printed.err)
    assert SECRET not in printed.err


def test_wrong_targets_are_refused_with_status_2(empty: Address, database: Address, server: Server) -> None:
    asyncio.run(run_sql(database, "DELETE FROM reactions"))
    for command, address, problem in (
        ("load", empty, wrong("users", "public", "bulkseed init", kind=TargetError)),
        ("load", database, wrong("reactions", "is_system", "bulkseed init", kind=TargetError)),
        ("load", address_of(server, "nowhere"), wrong("nowhere", kind=ConnectError)),
        ("verify", database, wrong("run")),
    ):
        with reported_errors() as errors:
            done = inside(command, BULKSEED_DATABASE_URL=address.dsn)
        assert done.returncode == 2
        [error] = errors
        problem.check(error, done.stderr)


def test_a_password_is_shown_nowhere(server: Server, database: Address) -> None:
    asyncio.run(run_sql(database, f"ALTER ROLE bulkseed PASSWORD '{SECRET}'"))
    url = database.url._replace(password=SECRET).render()
    for arguments in (["load"], ["verify"], ["cleanup", "--yes"], ["init"], ["--json"], ["verify", "9"]):
        done = inside(*arguments, "--database-url", url)
        assert SECRET not in done.stdout + done.stderr

    async def runs() -> list[Any]:
        async with open_connection(database) as connection:
            return list(await connection.fetch("SELECT plan, placement, made_by FROM bulkseed.runs"))

    recorded = asyncio.run(runs())
    assert recorded
    assert SECRET not in str(recorded)


MOMENTS = {
    "connected": ("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE {mine})", 0.0),
    "dropped": ("SELECT NOT EXISTS (SELECT FROM pg_indexes WHERE indexname = 'messages_pkey')", 0.0),
    "copying": ("SELECT 'messages'::regclass IN (SELECT relid FROM pg_stat_progress_copy)", 0.0),
    "further on": ("SELECT 'messages'::regclass IN (SELECT relid FROM pg_stat_progress_copy)", 0.3),
    "rebuilding": ("SELECT 'messages'::regclass IN (SELECT relid FROM pg_stat_progress_create_index)", 0.0),
    "validating": (
        "SELECT EXISTS (SELECT FROM pg_constraint WHERE conname = 'messages_channel_id_fkey' AND NOT convalidated)",
        0.0,
    ),
}
"""What another connection sees at that moment, and how many seconds later the signal is sent."""


@pytest.mark.parametrize(
    ("number", "moment"),
    # all moments, by the one signal or the other: tests/chaos has any moment
    list(zip([signal.SIGKILL, signal.SIGKILL, signal.SIGINT] * 2, MOMENTS, strict=True)),
)
def test_killed_or_interrupted_the_database_is_as_it_was(
    seeded: Address, server: Server, number: signal.Signals, moment: str
) -> None:
    asyncio.run(run_sql(seeded, *APP_ROWS, MUSEUM))
    before = asyncio.run(digest(seeded)), dump(server, seeded)
    workers = "1" if moment == "further on" else "2"
    child = started(
        "--scale", "20x", "--json", "--workers", workers, "--defer", "always", BULKSEED_DATABASE_URL=seeded.dsn
    )
    asyncio.run(wait_for(seeded, child, *MOMENTS[moment]))
    child.send_signal(number)
    out, said = child.communicate(timeout=60)
    assert child.returncode == (130 if number == signal.SIGINT else -number)
    if number == signal.SIGKILL:
        assert out == ""
    else:
        error = json.loads(out)["error"]
        assert (error["code"], error["exit_status"]) == ("interrupted", 130)
        assert "\nbulkseed: interrupted" in f"\n{said}"
        assert moment == "connected" or "bulkseed resume 2" in said
        assert "Traceback" not in said
    if asyncio.run(is_recorded(seeded)):
        refused = inside("--quiet", BULKSEED_DATABASE_URL=seeded.dsn)
        assert refused.returncode == 2
        assert "run 2" in refused.stderr
        undone = inside("cleanup", "2", "--yes", BULKSEED_DATABASE_URL=seeded.dsn)
        assert undone.returncode == 0, undone.stderr
    assert (asyncio.run(digest(seeded)), dump(server, seeded)) == before
    assert inside("--quiet", BULKSEED_DATABASE_URL=seeded.dsn).returncode == 0


async def wait_for(address: Address, child: subprocess.Popen[str], seen: str, later: float) -> None:
    """Wait until the query ``seen`` is true, and ``later`` seconds more."""
    mine = "datname = current_database() AND application_name = 'bulkseed' AND pid <> pg_backend_pid()"
    async with open_connection(address) as connection:
        while not await connection.fetchval(seen.format(mine=mine)):
            assert child.poll() is None, "the command ended before the moment came"
            await asyncio.sleep(0.002)
    await asyncio.sleep(later)


async def is_recorded(address: Address) -> bool:
    """Whether there is a second run."""
    async with open_connection(address) as connection:
        return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM bulkseed.runs WHERE id = 2)"))


@pytest.mark.parametrize("moment", ["at once", "connected"])
def test_interrupted_while_it_starts(moment: str, server: Server) -> None:
    child = started("--scale", "20x", BULKSEED_HOME=str(server.home))
    if moment == "at once":
        time.sleep(0.05)
    else:
        asyncio.run(wait_for(address_of(server, "bulkseed"), child, *MOMENTS["connected"]))
    child.send_signal(signal.SIGINT)
    out, said = child.communicate(timeout=60)
    assert "bulkseed" not in out
    if moment == "connected":  # before that it may be Python itself that starts
        assert child.returncode == 130
        assert "Traceback" not in said
    # no run, or one that would block the loads of other tests
    assert inside("cleanup", "--yes", BULKSEED_HOME=str(server.home)).returncode in {0, 2}


async def test_a_hangup_that_is_to_be_ignored_is(database: Address) -> None:
    command = [sys.executable, "-m", "bulkseed", "--scale", "10x", "--json"]
    ignoring = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *command]
    with subprocess.Popen(
        ignoring,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(BULKSEED_DATABASE_URL=database.dsn),
        cwd=ROOT,
    ) as child:
        await wait_for(database, child, *MOMENTS["connected"])
        child.send_signal(signal.SIGHUP)
        out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert json.loads(out)["rows"]["users"] == 200


def test_verify_says_where_another_faker_made_the_names(seeded: Address) -> None:
    asyncio.run(run_sql(seeded, """UPDATE bulkseed.runs SET made_by = made_by || '{"faker": "1.0"}'"""))
    assert "Faker 1.0" in inside("verify", BULKSEED_DATABASE_URL=seeded.dsn).stderr


@pytest.mark.parametrize("closed", ["<&- >&-", ">&- 2>&-", "<&- >&- 2>&-", "2>&-"])
async def test_closed_standard_streams_do_not_matter(database: Address, closed: str) -> None:
    command = f'exec "{sys.executable}" -m bulkseed --json {closed}'
    done = subprocess.run(
        ["sh", "-c", command],
        env=environment(BULKSEED_DATABASE_URL=database.dsn),
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert b"Traceback" not in done.stderr
    assert (await digest(database, "users"))["users"][0] == 20


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("gone", ["full", "terminal"])
def test_a_load_goes_on_where_nothing_can_be_shown(database: Address, gone: str) -> None:
    load = ("--scale", "10x", "--rows-per-shard", "5000", "--defer", "always")
    if gone == "full":
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "bulkseed", *load],
                stdout=subprocess.DEVNULL,
                stderr=full,
                env=environment(BULKSEED_DATABASE_URL=database.dsn),
                check=False,
            )
        assert done.returncode == 0
    else:
        child, ours = at_terminal(*load, BULKSEED_DATABASE_URL=database.dsn)
        while b"messages" not in os.read(ours, 10_000):
            pass
        os.close(ours)  # what closing a window does
        child.send_signal(signal.SIGHUP)
        # 1: it was complete before, and its report could not be printed
        assert child.wait(60) in {0, 1, 128 + signal.SIGHUP}
    told = json.loads(inside("runs", "--json", BULKSEED_DATABASE_URL=database.dsn).stdout)
    assert [run["state"] for run in told["runs"]] in (["whole"], ["interrupted"])
    assert inside("resume", "--quiet", BULKSEED_DATABASE_URL=database.dsn).returncode == 0
    assert inside("verify", "--quiet", BULKSEED_DATABASE_URL=database.dsn).returncode == 0


def test_a_full_disk_under_stdout_is_reported() -> None:
    for arguments in (["plan"], ["plan", "--json"], ["--help"], ["--version"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "bulkseed", *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
                cwd=ROOT,
                check=False,
            )
        assert done.returncode == 1
        assert re.fullmatch(r"bulkseed: error \[output-failed\]: .*\n", done.stderr)
        assert os.strerror(errno.ENOSPC) in done.stderr


def test_who_stops_reading_gets_no_traceback() -> None:
    with started("plan", "--scale", "3x") as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == ""


class TestEmbedded:
    def test_psql_and_the_data_that_is_there_again(self, server: Server) -> None:
        home = {"BULKSEED_HOME": str(server.home)}
        assert inside("--quiet", **home).returncode == 0
        done = bulkseed("psql", "-At", "-c", "SELECT count(*) FROM users", **home)
        assert (done.returncode, done.stdout, done.stderr) == (0, "20\n", "")
        assert bulkseed("psql", "-c", "SELECT nonsense", **home).returncode == 1
        assert inside("cleanup", "--yes", "--quiet", **home).returncode == 0

    def test_serve_prints_a_url_that_works_until_it_ends(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        home = enterable(tmp_path_factory.mktemp("serve"))
        child = started("serve", "--port", "0", BULKSEED_HOME=str(home))
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        assert re.fullmatch(r"postgresql://bulkseed:[\w-]+@127\.0\.0\.1:\d+/bulkseed", url)
        assert inside("--database-url", url, "--quiet").returncode == 0
        assert bulkseed("psql", "-c", "SELECT 1", BULKSEED_HOME=str(home)).returncode == 0
        second = started("serve", "--port", url.rsplit(":", 1)[1].split("/")[0], BULKSEED_HOME=str(home))
        assert second.stdout is not None
        assert second.stdout.readline().strip() == url
        second.send_signal(signal.SIGTERM)
        second.communicate(timeout=30)
        with pytest.raises(asyncpg.InvalidPasswordError):
            asyncio.run(asyncpg.connect(re.sub(":[^:@]+@", ":wrong@", url)))
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
        assert child.returncode == 0, said
        with pytest.raises(ConnectionRefusedError):
            asyncio.run(asyncpg.connect(url))

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the parent of a process is read in /proc")
    def test_serve_can_be_interrupted_while_it_stops(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        home = enterable(tmp_path_factory.mktemp("serve"))
        child = started("serve", "--port", "0", BULKSEED_HOME=str(home))
        assert child.stdout is not None
        assert child.stdout.readline()
        server = int((home / "data" / "postmaster.pid").read_text().split()[0])
        keeper = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(keeper, signal.SIGSTOP)  # so that nobody stops the server
        try:
            child.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(3)
            for _ in range(5):
                # Ctrl-C is ignored for 2 s, which may begin late on a busy machine
                child.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    child.communicate(timeout=1)
                    break
        finally:
            os.kill(keeper, signal.SIGCONT)
        assert child.returncode == 130

    def test_too_small_a_disk_is_refused_before_a_load(self, server: Server) -> None:
        with reported_errors() as errors:
            done = inside("--scale", "30000x", BULKSEED_HOME=str(server.home))
        assert done.returncode == 2
        [error] = errors
        wrong(" GB", str(server.data), "BULKSEED_HOME").check(error, done.stderr)
