"""A disk that becomes full: the error, the undoing, and the commands that finish it once there is free space."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from bulkseed.embedded import Server, run_server
from bulkseed.loader.load import load
from bulkseed.plan.tables import TABLE_NAMES
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection
from support.app_rows import APP_ROWS
from support.commands import FIXED, bulkseed, inside
from support.databases import address_of
from support.pg_dump import dump
from support.plans import plan_of
from support.queries import digest, run_sql
from support.server_homes import enterable

NAMES = itertools.count()
MB = 1024 * 1024


@dataclass
class Disk:
    """A file system in memory, of any size."""

    folder: Path

    def resize(self, size: int) -> None:
        """Set the size in bytes."""
        subprocess.run(["mount", "-o", f"remount,size={size}", self.folder], check=True, capture_output=True)

    def fill(self) -> None:
        """Take all free bytes."""
        with (self.folder / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(4096))

    @property
    def used(self) -> int:
        """The bytes in use."""
        found = os.statvfs(self.folder)
        return (found.f_blocks - found.f_bfree) * found.f_frsize


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Disk]:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only Linux's root can mount a small disk")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


Small = tuple[Address, Disk]


@pytest.fixture
async def small(
    server: Server, templates: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Small]:
    """A database with rows of an app, on a disk of its own."""
    folder = enterable(tmp_path_factory.mktemp("small"))
    name = f"small_{next(NAMES)}"
    admin = address_of(server, "postgres")
    with mounted(folder, 1024 * MB) as disk:
        place = folder / "space"
        place.mkdir(0o700)
        owner = server.data.stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        await run_sql(
            admin,
            f"CREATE TABLESPACE {name} LOCATION '{place}'",
            f"CREATE DATABASE {name} TEMPLATE {templates['seeded']} TABLESPACE {name} STRATEGY file_copy",
        )
        address = address_of(server, name)
        await run_sql(address, *APP_ROWS)
        yield address, disk
        await run_sql(admin, f"DROP DATABASE {name} WITH (FORCE)", f"DROP TABLESPACE {name}")


async def load_and_fill(
    address: Address, disk: Disk, room: int, defer: str, moment: str, *further: str, scale: str = "25x"
) -> str:
    """Load on a disk that has only ``room`` free bytes from when the query ``moment`` is true; return the stderr."""
    options = ["--scale", scale, *FIXED, "--workers", "2", "--defer", defer, "--retry-for", "1", "--quiet", *further]
    async with open_connection(address) as watching:
        loading = asyncio.create_task(asyncio.to_thread(bulkseed, *options, BULKSEED_DATABASE_URL=address.dsn))
        # not before: a disk that is too small from the start is refused
        while not await watching.fetchval(moment):
            assert not loading.done(), loading.result()
            await asyncio.sleep(0.002)
        disk.resize(disk.used + room)
    done = await loading
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


LOADING = "SELECT EXISTS (SELECT FROM pg_stat_progress_copy WHERE relid <> 0)"
BUILDING = "SELECT 'messages'::regclass IN (SELECT relid FROM pg_stat_progress_create_index)"


@pytest.mark.parametrize(
    ("defer", "room", "moment"),
    [
        ("never", 20, LOADING),
        pytest.param("always", 20, LOADING, marks=pytest.mark.long),
        ("always", 4, BUILDING),
        pytest.param("always", 1, BUILDING, marks=pytest.mark.long),
    ],
    ids=["in place", "deferred", "rebuilding", "rebuilding without room"],
)
async def test_a_load_that_fills_the_disk_is_undone(
    small: Small, server: Server, defer: str, room: int, moment: str
) -> None:
    address, disk = small
    before = await digest(address), dump(server, address)
    said = await load_and_fill(address, disk, room * MB, defer, moment)
    # bulkseed's own words: of a block that fits in part, the server does not quote the operating system
    assert "the server's disk is full" in said, said
    assert any(table in said for table in TABLE_NAMES), said
    assert "bulkseed cleanup" not in said, said
    assert (await digest(address), dump(server, address)) == before


async def test_a_run_is_removed_from_a_disk_without_a_free_byte(small: Small, server: Server) -> None:
    address, disk = small
    for seed in (2, 3):  # the ledger has rows of other runs too, and older versions of them
        await load(plan_of(seed=seed), address)
    before = await digest(address), dump(server, address)
    async with open_connection(address) as app:
        # as long as it is open, no old version of a row is pruned
        await app.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        said = await load_and_fill(address, disk, 20 * MB, "never", LOADING, "--on-error", "keep")
        assert "bulkseed cleanup 4" in said, said
        disk.fill()
        done = await asyncio.to_thread(bulkseed, "cleanup", "4", "--yes", "--quiet", BULKSEED_DATABASE_URL=address.dsn)
        assert (done.returncode, done.stderr) == (0, "")
    assert (await digest(address), dump(server, address)) == before


def test_a_server_that_stops_because_its_disk_is_full(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Without space for its write-ahead log the server stops at once, and starts again only when there is space."""
    home = enterable(tmp_path_factory.mktemp("full"))
    with mounted(home, 1024 * MB) as disk:
        with run_server(home) as server:
            url = {"BULKSEED_DATABASE_URL": server.url}
            address = Address.parse(server.url)
            assert inside("init", **url).returncode == 0
            asyncio.run(run_sql(address, *APP_ROWS))
            before = asyncio.run(digest(address)), dump(server, address)
            said = asyncio.run(load_and_fill(address, disk, 10 * MB, "always", LOADING, scale="15x"))
            # the server may stop before the undoing begins, or during it
            kept = "bulkseed resume 1" in said
            assert str(server.socket_dir) in said, said
            assert "bulkseed cleanup 1" in said, said
            assert os.strerror(errno.ENOSPC) in server.last_words()
            done = inside("cleanup", "--yes", **url)
            assert done.returncode == 4
            assert str(server.socket_dir) in done.stderr
        disk.resize(1024 * MB)
        with run_server(home) as server:
            url = {"BULKSEED_DATABASE_URL": server.url}
            for command in (["resume"], ["verify"], ["cleanup", "--yes"]) if kept else (["cleanup", "--yes"],):
                done = inside(*command, "--quiet", **url)
                assert (done.returncode, done.stderr) == (0, "")
            address = Address.parse(server.url)
            assert (asyncio.run(digest(address)), dump(server, address)) == before
