"""A server that tests may stop in any way and start again."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bulkseed.embedded import Server
from bulkseed.embedded.cluster import settings
from bulkseed.embedded.programs import Account, account_for, binaries_for, run_as
from bulkseed.load_options import available_cores, available_memory

__all__ = ["OwnServer", "own_server"]


@dataclass(frozen=True)
class OwnServer:
    """A server like the embedded one, but without a keeper: only the test starts and stops it."""

    server: Server
    account: Account | None

    def control(self, *arguments: str | Path) -> None:
        """Run pg_ctl, and wait until it is done."""
        done = run_as(self.account, [self.server.binaries / "pg_ctl", "-D", self.server.data, "-w", *arguments])
        assert done.returncode == 0, done.stdout + done.stderr + self.server.last_words()

    def start(self) -> None:
        """Start the server, and wait until it has recovered and accepts connections."""
        self.control("start", "-l", self.server.log)

    def stop(self, mode: str) -> None:
        """Stop the server in a mode of pg_ctl: smart, fast or immediate."""
        self.control("stop", "-m", mode)


@contextmanager
def own_server(home: Path) -> Iterator[OwnServer]:
    """Yield a running server in ``home``, which its account can access; stop it at the end."""
    data = home / "data"
    account = account_for(home, data)
    socket_folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))  # a socket's path is short
    for folder in (home, socket_folder):
        if account is not None:
            os.chown(folder, account.uid, account.gid)
    binaries = binaries_for(account, home)
    wanted = settings(available_memory() // 4, available_cores()) | {"unix_socket_directories": str(socket_folder)}
    command: list[str | Path] = [binaries / "initdb", "-D", data, "-U", "bulkseed", "--auth=trust", "--no-sync"]
    command += ["--encoding=UTF8", "--locale=C", "--no-instructions"]
    command += [part for name, value in wanted.items() for part in ("-c", f"{name}={value}")]
    made = run_as(account, command)
    assert made.returncode == 0, made.stderr
    created = Server(home, data, home / "server.log", binaries, socket_folder, 5432, database="postgres")
    server = OwnServer(created, account)
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(socket_folder, ignore_errors=True)
