"""PostgreSQL's own programs (pg_dump, pg_restore …), of the embedded server's version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.commands import Ran, ran
from bulkseed.embedded.programs import clean_environment, wheel_binaries
from bulkseed.postgres.address import Address

__all__ = ["program", "schema_of"]

LEDGER = "bulkseed"


def program(name: str, address: Address, *arguments: str | Path, server_options: str = "") -> Ran:
    """Run a program on a database, with settings for its sessions. Raises RuntimeError where it fails."""
    environment = clean_environment() | {"PGOPTIONS": server_options}
    # another version's, which may be on the PATH, could not read this server or its dumps
    return ran([wheel_binaries() / name, "--no-password", "--dbname", address.dsn, *arguments], environment)


def schema_of(address: Address) -> Sequence[str]:
    """The lines of the schema's dump, without the ledger and without what differs from dump to dump."""
    dumped = program("pg_dump", address, "--schema-only", "--exclude-schema", LEDGER).output
    return [line for line in dumped.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]
