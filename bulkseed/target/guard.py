"""Checks before a write: whether the target looks like production, and whether its disks have enough space."""

from __future__ import annotations

import ipaddress
import re
import shlex
import shutil
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bulkseed.errors import InputError
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, open_connection, preflight_errors
from bulkseed.target.this_machine import find_backend

__all__ = [
    "DISK_PER_BYTE",
    "Disk",
    "Survey",
    "check_allowed",
    "check_disks",
    "check_folders",
    "check_server",
    "estimate_rows",
    "folders",
    "looks_like_production",
    "production_names",
    "read_disks",
    "survey",
    "survey_with",
]

PRODUCTION: Final = re.compile(r"(?:prod|production|prd|live)\d*")


@dataclass(frozen=True, slots=True)
class Survey:
    """A survey of the target: its address, and the server's own names of the database and the user.

    ``names`` are those of its hosts, and the IP addresses given in their place; ``rows`` is the estimated number of
    rows in the tables that a load writes to; ``is_here`` tells whether the server runs on this machine, and not behind
    a tunnel or the like.
    """

    server: str
    host: str
    names: tuple[str, ...]
    database: str
    user: str
    rows: float
    is_here: bool

    @property
    def title(self) -> str:
        """HOST/DB, as typed after ``--allow``."""
        return f"{self.host}/{self.database}"


async def survey(address: Address, tables: Sequence[str]) -> Survey:
    """Survey the target and its ``tables`` (names as in SQL), without writing anything.

    Raises ConnectError, ConnectionLostError, and TargetError where the user lacks privileges.
    """
    async with open_connection(address) as connection:
        return await survey_with(connection, address, tables)


async def survey_with(connection: Connection, address: Address, tables: Sequence[str]) -> Survey:
    """Do the same as :func:`survey` with an open connection."""
    with preflight_errors(connection, "looking at the target"):
        row = await connection.fetchrow("SELECT current_database(), current_user")
        rows = await estimate_rows(connection, tables)
        is_here = address.is_local and await find_backend(connection) != "elsewhere"
    hosts = address.hosts
    return Survey(address.server, ",".join(hosts), (*hosts, *address.addresses), row[0], row[1], rows, is_here)


def looks_like_production(name: str) -> bool:
    """Return whether a word of the name means production: ``app_production``, ``db-prod-1.example.com``, ``prod2``.

    Words consist of letters and digits, so that ``product`` and ``livestream_test`` do not mean it.
    """
    plain = unicodedata.normalize("NFKC", name).casefold()
    return any(PRODUCTION.fullmatch(word) for word in re.split(r"[\W_]+", plain))


def production_names(target: Survey) -> list[str]:
    """Return the names of the target that look like production, each with what has the name."""
    names = [f"the database {target.database!r}"] if looks_like_production(target.database) else []
    return names + [f"the host {name!r}" for name in target.names if looks_like_production(name)]


def check_allowed(target: Survey, allow: str | None) -> None:
    """Raise InputError where ``allow`` names another target, or is None and the target looks like production."""
    if allow is not None and allow != target.title:
        raise InputError(
            f"--allow names {allow!r}, but the target is {target.title!r}: nothing was changed: correct one of them",
            code="allow-mismatch",
        )
    names = production_names(target)
    if names and allow is None:
        raise InputError(
            f"{names[0]} looks like production: to write there all the same, give --allow {shlex.quote(target.title)}",
            code="production-target",
        )


DISK_PER_BYTE: Final = 2.5
"""Free bytes needed for each byte of rows and indexes: for these, the write-ahead log, sorting, and a reserve."""

SERVER: Final = """
SELECT inet_server_addr() AS address, inet_server_port() AS port,
       (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS data
"""
"""A user without the privilege to read the data directory gets null for it."""

TABLESPACES: Final = """
SELECT name, pg_tablespace_location(coalesce(nullif(reltablespace, 0), dattablespace)) AS folder
FROM unnest($1::text[]) AS name
CROSS JOIN (SELECT dattablespace FROM pg_database WHERE datname = current_database()) AS d
LEFT JOIN pg_class ON oid = to_regclass(name)
"""
"""The folder of the tablespace of each table; empty for those in the data directory."""


async def check_server(address: Address, expected: Mapping[str, float]) -> None:
    """Raise InputError where the server's disks have too little free space for ``expected`` bytes of each table.

    ``address`` is on this machine; where a tunnel or the like answers there, nothing is checked. Raises ConnectError,
    ConnectionLostError, and TargetError where the user lacks privileges.
    """
    async with open_connection(address) as connection:
        with preflight_errors(connection, "asking for the server's folders"):
            needed = await folders(connection, address, expected)
    check_folders(needed)


async def folders(connection: Connection, address: Address, expected: Mapping[str, float]) -> dict[Path, float]:
    """Return the bytes needed in each of the server's folders on this machine; none where it runs elsewhere."""
    row = await connection.fetchrow(SERVER)
    # a tunnel may end at a server with the same address and port, and the paths of a container are its own
    if not is_here(row, address) or await find_backend(connection) != "here":
        return {}
    data = Path(row["data"]) if row["data"] else None
    needed: dict[Path, float] = defaultdict(float)
    if data is not None:
        needed[data] = sum(expected.values()) * (DISK_PER_BYTE - 1)
    for table in await connection.fetch(TABLESPACES, list(expected)):
        # the path of an in-place tablespace is relative to the data directory
        folder = (data or Path()) / table["folder"]
        if folder.is_absolute():
            needed[folder] += expected[table["name"]]
    return dict(needed)


def is_here(row: Any, address: Address) -> bool:
    """Return whether the server runs at ``address`` itself, and not behind a tunnel or a container's port."""
    if row["address"] is None:
        return True
    return ipaddress.ip_interface(str(row["address"])).is_loopback and row["port"] in address.ports


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk with one or more of the server's folders, of which ``folder`` is the first: bytes needed, bytes free."""

    folder: Path
    needed: float
    free: int


def read_disks(needed: Mapping[Path, float]) -> list[Disk]:
    """Return the disks of the folders, with the bytes ``needed`` in the folders of each.

    Folders that do not exist here, or cannot be entered, are left out.
    """
    disks: dict[int, list[tuple[Path, float]]] = defaultdict(list)
    for folder, size in needed.items():
        try:
            disks[folder.stat().st_dev].append((folder, size))
        except OSError:
            continue
    return [
        Disk(on_disk[0][0], sum(size for _, size in on_disk), shutil.disk_usage(on_disk[0][0]).free)
        for on_disk in disks.values()
    ]


def check_disks(disks: Iterable[Disk], fix: str = "load less, or free some space") -> None:
    """Raise InputError, with a line for each, where disks have less free space than needed."""
    problems = [
        f"the load needs about {disk.needed / 1e9:,.2f} GB of disk, and {disk.folder} has {disk.free / 1e9:,.2f} GB "
        f"free: {fix}"
        for disk in disks
        if disk.free < disk.needed
    ]
    if problems:
        raise InputError("\n".join(problems), code="disk-too-small")


def check_folders(needed: Mapping[Path, float], fix: str = "load less, or free some space") -> None:
    """Raise InputError where the disks of the folders have less free space than the bytes ``needed`` in them."""
    check_disks(read_disks(needed), fix)


ROWS: Final = """
WITH RECURSIVE counted AS (
    SELECT c.oid FROM unnest($1::text[]) AS name JOIN pg_class AS c ON c.oid = to_regclass(name)
    WHERE c.relkind IN ('r', 'p')
    UNION
    SELECT i.inhrelid FROM pg_inherits AS i JOIN counted ON counted.oid = i.inhparent
)
SELECT coalesce(sum(CASE WHEN reltuples >= 0 AND relpages > 0 THEN reltuples / relpages * pages
                         ELSE pages * $2::float8 END), 0)
FROM pg_class JOIN counted USING (oid),
     LATERAL (SELECT pg_relation_size(oid) / current_setting('block_size')::float8 AS pages) AS size
"""
"""Estimated as by the planner: the current number of pages, times the rows of a page as of the last ANALYZE; with
partitions. https://www.postgresql.org/docs/current/row-estimation-examples.html"""

ROWS_PER_PAGE: Final = 80.0
"""The rows of a page in tables that were never analyzed."""


async def estimate_rows(connection: Connection, tables: Sequence[str]) -> float:
    """Return the estimated number of rows in ``tables``: names, qualified or found by the search_path.

    Missing tables count as empty. Raises the errors of asyncpg.
    """
    return float(await connection.fetchval(ROWS, list(tables), ROWS_PER_PAGE))
