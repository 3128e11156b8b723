"""What stands before a write: whether the target looks like production, and whether its disks have room."""

from __future__ import annotations

import ipaddress
import re
import shlex
import shutil
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bulkseed.errors import InputError
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, connected, preflight_errors

__all__ = [
    "DISK_PER_BYTE",
    "Survey",
    "check_allowed",
    "check_folders",
    "check_server",
    "estimated_rows",
    "folders",
    "looks_like_production",
    "survey",
]

WORDS: Final = re.compile(r"(?:prod|production|prd|live)\d*")


@dataclass(frozen=True, slots=True)
class Survey:
    """The target: how it is reached, and what the server says of itself.

    ``names`` are those of its hosts, and the addresses that are used in their place; ``rows`` is about how many
    there are in the tables that a load writes to.
    """

    server: str
    host: str
    names: tuple[str, ...]
    database: str
    user: str
    rows: float

    @property
    def title(self) -> str:
        """HOST/DB, as it is typed after ``--allow``."""
        return f"{self.host}/{self.database}"


async def survey(address: Address, tables: Sequence[str]) -> Survey:
    """Look at the target, and at what ``tables`` hold (names as in SQL). Nothing is written.

    Raises ConnectError (ConnectionLost), and TargetError where this login may not look.
    """
    async with connected(address) as connection:
        with preflight_errors(connection, "looking at the target"):
            row = await connection.fetchrow("SELECT current_database(), current_user")
            rows = await estimated_rows(connection, tables)
    hosts = address.hosts
    return Survey(address.server, ",".join(hosts), (*hosts, *address.addresses), row[0], row[1], rows)


def looks_like_production(name: str) -> bool:
    """Whether a part of the name says so: of ``app_production``, ``db-prod-1.example.com`` and ``prod2``.

    Parts are what letters and digits make up; neither ``product`` nor ``livestream_test`` is meant.
    """
    plain = unicodedata.normalize("NFKC", name).casefold()
    return any(WORDS.fullmatch(part) for part in re.split(r"[\W_]+", plain))


def check_allowed(found: Survey, allow: str | None) -> None:
    """Raises InputError where the target looks like production and ``allow`` does not name it, or names another."""
    if allow is not None and allow != found.title:
        raise InputError(f"--allow names {allow!r}, but the target is {found.title!r}: nothing was touched")
    telling = [f"the database {found.database!r}"] if looks_like_production(found.database) else []
    telling += [f"the host {name!r}" for name in found.names if looks_like_production(name)]
    if telling and allow is None:
        raise InputError(
            f"{telling[0]} looks like production: "
            f"if that is where you mean to write, give --allow {shlex.quote(found.title)}"
        )


DISK_PER_BYTE: Final = 2.5
"""Free bytes wanted for each byte of rows and indexes: the write-ahead log, sorting, and some room."""

SERVER: Final = """
SELECT inet_server_addr() AS address, inet_server_port() AS port,
       (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS data
"""
"""Who lacks the right to know the data folder does not see the setting."""

TABLESPACES: Final = """
SELECT name, pg_tablespace_location(coalesce(nullif(reltablespace, 0), dattablespace)) AS folder
FROM unnest($1::text[]) AS name
CROSS JOIN (SELECT dattablespace FROM pg_database WHERE datname = current_database()) AS d
LEFT JOIN pg_class ON oid = to_regclass(name)
"""
"""The folder of each table's tablespace; empty for those that are in the data folder."""


async def check_server(address: Address, expected: Mapping[str, float]) -> None:
    """Raises InputError where the server's disks have too little room for ``expected`` bytes of each table.

    Raises ConnectError (ConnectionLost), and TargetError where this login may not ask.

    ``address`` is on this machine; where something else answers there, such as a tunnel, nothing is known.
    """
    async with connected(address) as connection:
        with preflight_errors(connection, "asking for the server's folders"):
            needed = await folders(connection, address, expected)
    check_folders(needed)


async def folders(connection: Connection, address: Address, expected: Mapping[str, float]) -> dict[Path, float]:
    """The bytes that are needed in each of the server's folders, of those that are on this machine."""
    row = await connection.fetchrow(SERVER)
    if not is_here(row, address):
        return {}
    data = Path(row["data"]) if row["data"] else None
    needed: dict[Path, float] = defaultdict(float)
    if data is not None:
        needed[data] = sum(expected.values()) * (DISK_PER_BYTE - 1)
    for table in await connection.fetch(TABLESPACES, list(expected)):
        # an in-place tablespace says where it is below the data folder
        folder = (data or Path()) / table["folder"]
        if folder.is_absolute():
            needed[folder] += expected[table["name"]]
    return dict(needed)


def is_here(row: Any, address: Address) -> bool:
    """Whether the server is where we connect to: a tunnel or a container's port leads elsewhere."""
    if row["address"] is None:
        return True
    return ipaddress.ip_interface(str(row["address"])).is_loopback and row["port"] in address.ports


def check_folders(needed: Mapping[Path, float], mend: str = "load less, or free some space") -> None:
    """Raises InputError where the disks of the folders have less free than the bytes ``needed`` in them.

    Of folders that are not here, or cannot be entered, nothing is known.
    """
    disks: dict[int, list[tuple[Path, float]]] = defaultdict(list)
    for folder, wanted in needed.items():
        try:
            disks[folder.stat().st_dev].append((folder, wanted))
        except OSError:
            continue
    for on_it in disks.values():
        folder = on_it[0][0]
        wanted, free = sum(each for _, each in on_it), shutil.disk_usage(folder).free
        if free < wanted:
            raise InputError(
                f"the load needs some {wanted / 1e9:,.2f} GB of disk, "
                f"and {folder} has {free / 1e9:,.2f} GB free: {mend}"
            )


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
"""As the planner estimates it: from the pages there are now and what ANALYZE saw on one; partitions count too.
https://www.postgresql.org/docs/current/row-estimation-examples.html"""

ROWS_PER_PAGE: Final = 80.0
"""Of a table that was never analyzed."""


async def estimated_rows(connection: Connection, tables: Sequence[str]) -> float:
    """About how many rows ``tables`` hold: names, qualified or as the search_path has them; one that is not there holds
    none. Raises what asyncpg raises.
    """
    return float(await connection.fetchval(ROWS, list(tables), ROWS_PER_PAGE))
