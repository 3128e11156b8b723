"""The schema of a database, as pg_dump writes it."""

from __future__ import annotations

import subprocess

from bulkseed.embedded import Server
from bulkseed.postgres.address import Address


def dump(server: Server, address: Address) -> str:
    """Return the schema as pg_dump writes it, without the random key that newer versions add to each dump."""
    url = server.url.replace(f"/{server.database}?", f"/{address.url.database}?")
    done = subprocess.run(
        [server.binaries / "pg_dump", "--schema-only", "--exclude-schema=bulkseed", url],
        capture_output=True,
        text=True,
        check=True,
    )
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))
