"""Folders for the tests' servers: in memory where there is space, as each database is hundreds of small files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

MEMORY: Final = Path("/dev/shm")
LEAST_FREE: Final = 4 * 2**30
"""The least bytes of free memory; the servers of a session need a tenth of them."""
PREFIX: Final = "bulkseed-tests-"


def enterable(home: Path) -> Path:
    """Let other accounts enter the folder, as root's servers run under one; return the folder."""
    for folder in (home, *home.parents):
        if folder == Path(folder.anchor) or folder.stat().st_mode & 0o001:
            break
        folder.chmod(folder.stat().st_mode | 0o011)
    return home


@contextmanager
def home_for(server: str, on_disk: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the server of that name, which its account can enter; in memory it is removed after the block."""
    if not has_memory():
        yield enterable(on_disk.mktemp(server))
        return
    remove_abandoned()
    with tempfile.TemporaryDirectory(
        prefix=f"{PREFIX}{os.getpid()}-{server}-", dir=MEMORY, ignore_cleanup_errors=True
    ) as folder:
        yield enterable(Path(folder))


def has_memory() -> bool:
    """Return whether folders for servers can be in memory."""
    if not os.access(MEMORY, os.W_OK | os.X_OK) or shutil.disk_usage(MEMORY).free < LEAST_FREE:
        return False
    # programs may have to be copied to the home
    return not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC


def remove_abandoned() -> None:
    """Remove the folders of test sessions that were killed."""
    for folder in MEMORY.glob(f"{PREFIX}*"):
        process = folder.name.removeprefix(PREFIX).partition("-")[0]
        if not Path(f"/proc/{process}").exists():
            shutil.rmtree(folder, ignore_errors=True)
