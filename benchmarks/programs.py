"""Run programs of PostgreSQL (pg_dump, pg_restore …), of the version of the embedded server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.commands import Ran, ran
from bulkseed.embedded.programs import clean_environment, wheel_binaries
from bulkseed.postgres.address import Address

__all__ = ["program", "schema_of"]

LEDGER = "bulkseed"


def program(name: str, address: Address, *arguments: str | Path, server_options: str = "") -> Ran:
    """Run a program on a database, with ``server_options`` for its sessions. Raises RuntimeError if it fails."""
    environment = clean_environment() | {"PGOPTIONS": server_options}
    # not those on the PATH: an older version could not read this server or its dumps
    return ran([wheel_binaries() / name, "--no-password", "--dbname", address.dsn, *arguments], environment)


def schema_of(address: Address) -> Sequence[str]:
    """Return the lines of the dump of the schema, without the ledger and without lines that differ in each dump."""
    dumped = program("pg_dump", address, "--schema-only", "--exclude-schema", LEDGER).output
    return [line for line in dumped.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]
