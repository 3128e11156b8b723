"""The effect of PostgreSQL's settings on COPY, on a server tuned for loading and on one that keeps data safe."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.benchmark import Benchmark, scale_option
from benchmarks.databases import Databases, execute, served, value
from benchmarks.loads import command_load
from benchmarks.results import Figures, Findings, Run, matching, ratio, spread
from benchmarks.server_side import bare, copy_sql
from benchmarks.turns import turns
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import open_connection

__all__ = ["BENCHMARK"]

COMMITS: Final = 8
"""The number of files of ``messages``; each has its own commit unless a way uses one transaction."""

SAFE: Final = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
SERVERS: Final[dict[str, dict[str, str]]] = {
    "embedded": {},
    "safe, WAL minimal": SAFE,
    "safe, WAL replica": SAFE | {"wal_level": "replica"},
}

PLAIN: Final = "COPY, a commit for each part"
FREEZE: Final = "TRUNCATE and COPY FREEZE"
UNLOGGED: Final = "UNLOGGED, then LOGGED"
ASYNCHRONOUS: Final = "synchronous_commit off"
IN_PLACE: Final = "in place: COPY"
REPLICA: Final = "in place: replication role replica"
WAYS: Final = {PLAIN: PLAIN, ASYNCHRONOUS: PLAIN, FREEZE: PLAIN, UNLOGGED: PLAIN, IN_PLACE: IN_PLACE, REPLICA: IN_PLACE}
"""Each way, and the way with which it is compared."""

METHOD: Final = f"""
The rows of `messages` are copied from binary files on the server, in {COMMITS} parts over one connection, with settings
that PostgreSQL's manual and others recommend; into the table without indexes, or (*in place*) into the table with its
indexes and foreign keys. *embedded* is the server as bulkseed tunes it (`fsync` off, `wal_level` minimal); *safe* has
`fsync`, `full_page_writes` and `synchronous_commit` on, and the `wal_level` in its name. With
`session_replication_role = replica` foreign keys are checked neither during the COPY nor later.
""".strip()


def measure(databases: Databases, chosen: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs of all ways on all servers."""
    with ExitStack() as stack:
        servers = {name: stack.enter_context(served(own)) if own else databases for name, own in SERVERS.items()}
        files = {}
        for name, server in servers.items():
            folder = stack.enter_context(server.folder())
            address = stack.enter_context(server.fresh())
            command_load(address, chosen.scale, workers=1)
            files[name] = parts_of(address, folder)
        for name, way in turns([(name, way) for name in servers for way in WAYS], chosen.repeats):
            with servers[name].fresh() as address:
                if way not in (IN_PLACE, REPLICA):
                    asyncio.run(bare(address))
                parents, parts = files[name]
                for sql in parents:
                    execute(address, sql)
                execute(address, "CHECKPOINT")
                run = asyncio.run(copy(address, way, parts))
                rows = value(address, "SELECT count(*) FROM messages")
            yield {"server": name, "contestant": way, "rows": rows, **run}


def parts_of(address: Address, folder: Path) -> tuple[list[str], list[Path]]:
    """Write the files; return the commands that fill the referenced tables, and the files of messages."""
    parents = []
    for table in ("users", "channels"):
        file = folder / table
        execute(address, f"COPY {table} TO '{file}' (FORMAT binary)")
        parents.append(copy_sql(table, file, freeze=False))
    parts = []
    rows = value(address, "SELECT max(id) FROM messages")
    for part in range(COMMITS):
        # by id, so that no reply is loaded before its parent
        ids = f"id > {rows * part // COMMITS} AND id <= {rows * (part + 1) // COMMITS}"
        parts.append(folder / f"messages-{part}")
        execute(address, f"COPY (SELECT * FROM messages WHERE {ids} ORDER BY id) TO '{parts[-1]}' (FORMAT binary)")
    return parents, parts


def commands(way: str, files: list[Path]) -> list[str]:
    """Return the commands of a way."""
    copies = [copy_sql("messages", file, freeze=False) for file in files]
    if way == FREEZE:
        frozen = [command.replace("binary)", "binary, FREEZE)") for command in copies]
        return ["BEGIN", "TRUNCATE messages", *frozen, "COMMIT"]
    if way == UNLOGGED:
        return ["ALTER TABLE messages SET UNLOGGED", *copies, "ALTER TABLE messages SET LOGGED"]
    if way == ASYNCHRONOUS:
        return ["SET synchronous_commit = off", *copies]
    if way == REPLICA:
        return ["SET session_replication_role = replica", *copies]
    return copies


async def copy(address: Address, way: str, files: list[Path]) -> Run:
    """Load the files in this way; return the seconds and the bytes of WAL."""
    async with open_connection(address) as connection:
        before = await connection.fetchval("SELECT pg_current_wal_insert_lsn()::text")
        begun = time.perf_counter()
        for command in commands(way, files):
            await connection.execute(command)
        seconds = time.perf_counter() - begun
        wal = await connection.fetchval("SELECT pg_current_wal_insert_lsn() - $1::text::pg_lsn", before)
    return {"seconds": seconds, "wal_bytes": int(wal)}


def findings(figures: Figures) -> Findings:
    """Return a line for each way, with a column for each server."""
    settings = figures["settings"]
    lines = []
    for way, plain in WAYS.items():
        cells = []
        for server in SERVERS:
            runs = matching(figures, server=server, contestant=way)
            compared = ratio(runs, matching(figures, server=server, contestant=plain))
            wal = spread(runs, "wal_bytes").median / 2**20
            cells.append(f"{spread(runs).median:.2f} s ({compared:.2f}), {wal:,.0f} MiB")
        lines.append((way, *cells))
    return Findings(
        f"{figures['runs'][0]['rows']:,} messages ({settings['scale']}): medians of {settings['repeats']}",
        ("way", *SERVERS),
        lines,
        (
            "In parentheses: the ratio to the time of the first way, or of the first in place. "
            "Then: the size of the WAL.",
        ),
    )


def options(parser: argparse.ArgumentParser) -> None:
    scale_option(parser, "60x")


BENCHMARK: Final = Benchmark(
    "settings",
    "the effect of COPY FREEZE, UNLOGGED, synchronous_commit and other settings",
    METHOD,
    options,
    measure,
    findings,
)
