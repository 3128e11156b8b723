"""Which servers are on this machine: those whose process runs here, whatever their address."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from bulkseed.embedded import Server
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.target import this_machine
from bulkseed.target.guard import folders, survey
from bulkseed.target.this_machine import find_backend, find_process
from support.commands import ROOT, environment
from support.databases import address_of
from support.queries import digest, run_sql

NEW_NAMESPACE: Final = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NEW_NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(not can_unshare(), reason="no right to make a PID namespace")
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")


@contextmanager
def program_named_postgres(folder: Path, *before: str) -> Iterator[int]:
    """A process called postgres, started by the command ``before``; yields its number, or that of the command."""
    program = folder / "postgres"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    process = subprocess.Popen([*before, program, "60"])
    try:
        while before and not children_of(process.pid):
            pass
        yield process.pid
    finally:
        process.kill()
        process.wait()


def children_of(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


async def test_point_10_a_local_server_is_on_this_machine(database: Address) -> None:
    async with open_connection(database) as connection:
        assert await find_backend(connection) == "here"
    assert (await survey(database, [])).is_here


@needs_proc
async def test_point_10_systems_without_proc_ask_ps(
    database: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("ps") is None:
        pytest.skip("no ps")
    monkeypatch.setattr(this_machine, "PROC", tmp_path)
    async with open_connection(database) as connection:
        assert await find_backend(connection) == "here"
        pid = await connection.fetchval("SELECT pg_backend_pid()")
    assert find_process(os.getpid(), 0.0, 1e9) == "elsewhere"  # of another name
    assert find_process(pid, 1e6) == "elsewhere"


@needs_proc
def test_point_10_a_process_with_the_number_is_not_enough(tmp_path: Path) -> None:
    with program_named_postgres(tmp_path) as pid:
        assert find_process(pid, 0.0) == "here"
        # a backend of another machine that has the same number began at another time
        assert find_process(pid, 60.0) == "elsewhere"
    assert find_process(pid, 0.0) == "elsewhere"
    assert find_process(os.getpid(), 0.0, 1e9) == "elsewhere"


@needs_namespaces
def test_point_10_a_container_is_on_this_machine(tmp_path: Path) -> None:
    with program_named_postgres(tmp_path, *NEW_NAMESPACE):
        assert find_process(1, 0.0) == "container"
        assert find_process(1, 60.0) == "elsewhere"


def in_namespace(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a PID namespace of its own: for it, a server outside is what one behind a tunnel is."""
    return subprocess.run(
        [*NEW_NAMESPACE, sys.executable, "-m", "bulkseed", *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )


@needs_namespaces
async def test_point_10_a_server_behind_a_tunnel_is_asked_for(database: Address) -> None:
    before = await digest(database)
    done = in_namespace("load", "--quiet", "--database-url", database.dsn)
    assert done.returncode == 2, done.stderr
    assert "[confirmation-needed]" in done.stderr
    assert "--yes" in done.stderr
    assert await digest(database) == before
    checked = in_namespace("check", "--json", "--database-url", database.dsn)
    assert json.loads(checked.stdout)["asks"]
    assert json.loads(checked.stdout)["disks"] == []
    done = in_namespace("load", "--yes", "--database-url", database.dsn)
    assert done.returncode == 0, done.stderr
    assert "tunnel" in done.stderr
    assert (await digest(database))["users"][0] == 20


@needs_namespaces
async def test_point_10_the_same_of_a_port_of_this_machine(listening: Server) -> None:
    admin = address_of(listening, "postgres")
    await run_sql(admin, "CREATE ROLE tunnelled LOGIN SUPERUSER PASSWORD 'p'")
    try:
        url = f"postgresql://tunnelled:p@localhost:{listening.tcp_port}/postgres"
        address = Address.parse(url)
        async with open_connection(address) as connection:
            assert await find_backend(connection) == "here"
            assert await folders(connection, address, {"users": 1.0})
        done = in_namespace("init", "--database-url", url)
        assert done.returncode == 2, done.stderr
        assert "[confirmation-needed]" in done.stderr
        assert await digest(admin) == {}
    finally:
        await run_sql(admin, "DROP ROLE tunnelled")
