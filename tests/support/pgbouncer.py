"""A PgBouncer in front of the session's server: Debian's, from its package, where it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from bulkseed.embedded import Server
from bulkseed.embedded.programs import account_for
from bulkseed.postgres.address import Address

PROGRAM = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))


@contextmanager
def pooled(server: Server, folder: Path, mode: str, **settings: str) -> Iterator[Address]:
    """PgBouncer in ``mode``, with ``folder`` for its own; the address of the server's database through it.

    ``settings`` go before those that a quiet pooler on this machine needs.
    """
    assert PROGRAM is not None
    account = account_for(server.home, server.data)
    users = folder / "users.txt"
    users.write_text(f'"{server.user}" ""\n')
    given = {
        "pool_mode": mode,
        "unix_socket_dir": str(folder),
        "listen_port": "6432",
        "auth_type": "trust",
        "auth_file": str(users),
        "default_pool_size": "20",
    } | settings
    lines = ["[databases]", f"* = host={server.socket_dir} port={server.port}", "[pgbouncer]"]
    configuration = folder / "pgbouncer.ini"
    configuration.write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in given.items()), ""]))
    command = [PROGRAM, "-q"]
    if account is not None:  # as root it refuses to run as itself
        command += ["-u", account.name]
        for each in (folder, users, configuration):
            os.chown(each, account.uid, account.gid)
    log = folder / "pgbouncer.log"
    with log.open("w") as out, subprocess.Popen([*command, configuration], stdout=out, stderr=out) as child:
        try:
            wait_for(folder / ".s.PGSQL.6432", child, log)
            yield Address.parse(
                f"postgresql://{server.user}@/{server.database}?host={quote(str(folder), safe='')}&port=6432"
            )
        finally:
            child.kill()


def wait_for(place: Path, child: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 10
    while not answers(place):
        assert child.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.01)


def answers(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(place)) == 0
