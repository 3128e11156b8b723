"""Folders for the tests' servers: in memory where there is room, since databases are hundreds of small files each."""

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
ROOM: Final = 4 * 2**30
"""Bytes that are free in it; the servers of a session take a tenth of that."""
PREFIX: Final = "bulkseed-tests-"


def enterable(home: Path) -> Path:
    """The folder, made such that others can enter it: root's servers run as another user."""
    for folder in (home, *home.parents):
        if folder == Path(folder.anchor) or folder.stat().st_mode & 0o001:
            break
        folder.chmod(folder.stat().st_mode | 0o011)
    return home


@contextmanager
def home_for(server: str, otherwise: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for a server of that name, which its account can enter; one in memory goes at the end of the block."""
    if not has_room():
        yield enterable(otherwise.mktemp(server))
        return
    forget_the_dead()
    with tempfile.TemporaryDirectory(
        prefix=f"{PREFIX}{os.getpid()}-{server}-", dir=MEMORY, ignore_cleanup_errors=True
    ) as folder:
        yield enterable(Path(folder))


def has_room() -> bool:
    if not os.access(MEMORY, os.W_OK | os.X_OK) or shutil.disk_usage(MEMORY).free < ROOM:
        return False
    # programs may have to be copied to the home
    return not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC


def forget_the_dead() -> None:
    """Remove the folders of sessions that were killed."""
    for folder in MEMORY.glob(f"{PREFIX}*"):
        process = folder.name.removeprefix(PREFIX).partition("-")[0]
        if not Path(f"/proc/{process}").exists():
            shutil.rmtree(folder, ignore_errors=True)
