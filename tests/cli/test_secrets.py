"""Passwords are not passed on, listed, logged, recorded or printed; other users cannot reach the embedded server."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from bulkseed.cli.serve import load_or_create_password
from bulkseed.embedded import Server
from bulkseed.errors import RunError
from bulkseed.loader.load_shard import Endpoint
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from bulkseed.processes import frame
from support.commands import ROOT, environment, inside
from support.databases import address_of, make_reference
from support.queries import run_sql

SECRET: Final = "s3cr3t-of-the-tests"
PROC: Final = Path("/proc/self/task")


@pytest.fixture(scope="session")
def guarded(listening: Server) -> Iterator[str]:
    """The URL, without its password, of a database with the reference tables, whose role needs a password."""
    admin = address_of(listening, "postgres")

    async def make() -> None:
        await run_sql(admin, "CREATE DATABASE guarded", f"CREATE ROLE keeper LOGIN SUPERUSER PASSWORD '{SECRET}'")
        await make_reference(address_of(listening, "guarded"))

    asyncio.run(make())
    yield f"postgresql://keeper@127.0.0.1:{listening.tcp_port}/guarded"
    asyncio.run(run_sql(admin, "DROP DATABASE guarded WITH (FORCE)", "DROP ROLE keeper"))


def children(process: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def read(process: int, what: str) -> str:
    try:
        return Path(f"/proc/{process}/{what}").read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.skipif(not PROC.exists(), reason="there is no /proc")
@pytest.mark.parametrize("way", ["DATABASE_URL", "PGPASSWORD", "PGPASSFILE", "PGSERVICEFILE"])
def test_a_load_hands_no_password_on(way: str, guarded: str, listening: Server, tmp_path: Path) -> None:
    url = guarded.replace("keeper@", f"keeper:{SECRET}@") if way == "DATABASE_URL" else guarded
    file = tmp_path / "file"
    if way == "PGPASSFILE":
        file.write_text(f"*:*:*:*:{SECRET}\n")
    elif way == "PGSERVICEFILE":
        file.write_text(f"[s]\npassword={SECRET}\n")
        url += "?service=s"
    file.touch()
    file.chmod(0o600)
    given = {
        "BULKSEED_DATABASE_URL": url,
        way: {"BULKSEED_DATABASE_URL": url, "PGPASSWORD": SECRET}.get(way, str(file)),
    }
    command = [sys.executable, "-m", "bulkseed", "--scale", "5x", "--rows-per-shard", "2000", "--workers", "2"]
    seen: dict[int, tuple[str, str]] = {}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**given), cwd=ROOT
    ) as load:
        while load.poll() is None:
            for child in children(load.pid):
                found = read(child, "cmdline"), read(child, "environ")
                if "bulkseed.loader.worker" in found[0]:
                    seen[child] = found
            assert SECRET not in read(load.pid, "cmdline")
            time.sleep(0.005)
        out, said = load.communicate()
    assert load.returncode == 0, said
    assert SECRET not in out + said
    assert len(seen) == 1
    for arguments, handed_on in seen.values():
        assert "PATH=" in handed_on
        for told in (arguments, handed_on):
            assert SECRET not in told
            assert "DATABASE_URL=" not in told
    recorded = asyncio.run(ledger_of(address_of(listening, "guarded")))
    assert {"runs", "shards"} <= recorded.keys()
    assert SECRET not in str(recorded)
    assert SECRET not in listening.log.read_text()
    cleaned = inside("cleanup", "--yes", **given)
    assert cleaned.returncode == 0, cleaned.stderr
    assert SECRET not in cleaned.stdout + cleaned.stderr


async def ledger_of(address: Address) -> dict[str, list[str]]:
    """All rows of the ledger's tables, by table."""
    async with open_connection(address) as connection:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'bulkseed'")
        return {
            row[0]: [each[0] for each in await connection.fetch(f"SELECT t::text FROM bulkseed.{row[0]} AS t")]
            for row in tables
        }


def test_what_a_worker_is_told_shows_no_password_but_has_it(guarded: str) -> None:
    address = Address.parse(guarded.replace("keeper@", f"keeper:{SECRET}@"))
    endpoint = Endpoint.of(address)
    assert SECRET.encode() in frame(endpoint)
    error = RunError(f"{endpoint} {address}", code="failed")
    for shown in (endpoint, address, error, address.server, address.unread, address.url):
        assert SECRET not in f"{shown} {shown!r}"


class TestEmbedded:
    def test_its_socket_is_in_a_folder_of_its_own(self, server: Server) -> None:
        folder = server.socket_dir.lstat()
        assert stat.S_ISDIR(folder.st_mode)
        assert stat.S_IMODE(folder.st_mode) == 0o700
        assert stat.S_IMODE((server.socket_dir / f".s.PGSQL.{server.port}").stat().st_mode) == 0o700
        assert folder.st_uid == server.data.stat().st_uid
        assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
        assert not stat.S_IMODE(server.log.stat().st_mode) & 0o077

    async def test_it_listens_nowhere_else(self, server: Server) -> None:
        async with open_connection(address_of(server, "postgres")) as connection:
            assert await connection.fetchval("SHOW listen_addresses") == ""
        for host in ("127.0.0.1", "::1"):
            with pytest.raises(OSError, match=r"."):
                await asyncpg.connect(host=host, port=server.port, user=server.user, database="postgres", timeout=5)

    async def test_served_it_is_on_loopback_alone_and_wants_a_password(self, listening: Server) -> None:
        async with open_connection(address_of(listening, "postgres")) as connection:
            assert await connection.fetchval("SHOW listen_addresses") == "127.0.0.1"
            assert await connection.fetchval("SHOW password_encryption") == "scram-sha-256"
            rules = await connection.fetch("SELECT type, auth_method FROM pg_hba_file_rules")
            assert {row["auth_method"] for row in rules if row["type"] != "local"} == {"scram-sha-256"}
            kept = await connection.fetch("SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL")
            assert all(row[0].startswith("SCRAM-SHA-256$") for row in kept)
        port = listening.tcp_port
        with pytest.raises(OSError, match=r"."):
            await asyncpg.connect(host="127.0.0.2", port=port, user="bulkseed", database="postgres", timeout=5)
        for password in ("", "wrong"):
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(
                    host="127.0.0.1", port=port, user="bulkseed", database="postgres", password=password, timeout=5
                )

    def test_its_password_is_its_owners_alone(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            password = load_or_create_password(tmp_path)
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "password").stat().st_mode) == 0o600
        assert len(password) >= 20
        assert load_or_create_password(tmp_path) == password

    def test_point_8_a_password_is_never_empty(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "password").touch()
        password = load_or_create_password(tmp_path)
        assert len(password) >= 20
        assert load_or_create_password(tmp_path) == password
        (tmp_path / "password").unlink()

        def fail(_: int) -> str:
            assert list(tmp_path.glob("password")) == [], "another command would read it now"
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("secrets.token_urlsafe", fail)
        with pytest.raises(OSError, match=r"space"):
            load_or_create_password(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_point_8_two_commands_agree_on_the_password(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        link = os.link

        def after_another(source: str, target: Path) -> None:
            monkeypatch.setattr("os.link", link)
            first.append(load_or_create_password(tmp_path))
            link(source, target)

        first: list[str] = []
        monkeypatch.setattr("os.link", after_another)
        assert load_or_create_password(tmp_path) == first[0]
