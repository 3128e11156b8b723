"""A PgBouncer in front of the session's server: Debian's, from its package, where it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from bulkseed.embedded import Server
from bulkseed.embedded.programs import account_for
from bulkseed.postgres.address import Address

PROGRAM = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))


@contextmanager
def pooled(
    server: Server, folder: Path, mode: str, user_modes: Mapping[str, str] | None = None, **settings: str
) -> Iterator[Address]:
    """Run PgBouncer in ``mode`` with its files in ``folder``; the value is the server's database through it.

    ``user_modes`` are the modes of users that have another one.
    ``settings`` take precedence over those that a pooler on this machine needs.
    """
    assert PROGRAM is not None
    account = account_for(server.home, server.data)
    users = folder / "users.txt"
    user_modes = user_modes or {}
    users.write_text("".join(f'"{user}" ""\n' for user in (server.user, *user_modes)))
    options = {
        "pool_mode": mode,
        "unix_socket_dir": str(folder),
        "listen_port": "6432",
        "auth_type": "trust",
        "auth_file": str(users),
        "default_pool_size": "20",
    } | settings
    lines = ["[databases]", f"* = host={server.socket_dir} port={server.port}", "[pgbouncer]"]
    configuration = folder / "pgbouncer.ini"
    lines += [f"{name} = {value}" for name, value in options.items()]
    lines += ["[users]", *(f"{user} = pool_mode={user_mode}" for user, user_mode in user_modes.items())]
    configuration.write_text("\n".join([*lines, ""]))
    command = [PROGRAM, "-q"]
    if account is not None:  # PgBouncer refuses to run as root
        command += ["-u", account.name]
        for path in (folder, users, configuration):
            os.chown(path, account.uid, account.gid)
    log = folder / "pgbouncer.log"
    with log.open("w") as out, subprocess.Popen([*command, configuration], stdout=out, stderr=out) as child:
        try:
            wait_until_ready(folder / ".s.PGSQL.6432", child, log)
            yield Address.parse(
                f"postgresql://{server.user}@/{server.database}?host={quote(str(folder), safe='')}&port=6432"
            )
        finally:
            child.kill()


def wait_until_ready(unix_socket: Path, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while not answers(unix_socket):
        assert child.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)


def answers(unix_socket: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(unix_socket)) == 0
