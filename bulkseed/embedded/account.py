"""The account that the embedded server runs under: PostgreSQL refuses to run as root.

For an ordinary user there is none to choose (None): the server is theirs, like every other process.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bulkseed.errors import EmbeddedError

if sys.platform != "win32":
    import pwd

__all__ = ["Account", "account_for", "barring_folder", "clean_environment", "open_private", "run_as"]


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this machine that is not root."""

    uid: int
    gid: int
    name: str


def account_for(home: Path, data: Path) -> Account | None:
    """Return the account to run the server under: None for an ordinary user, who runs it as themselves.

    For root it is the owner of the data folder, else of the home, else ``postgres``, else ``nobody``.
    Raises EmbeddedError where none of them is to be had.
    """
    if os.geteuid() != 0:
        return None
    for folder in (data, home):
        try:
            found = folder.stat()
        except FileNotFoundError:
            continue
        if found.st_uid != 0:
            return _account(found.st_uid, found.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, name)
    raise EmbeddedError(
        "PostgreSQL does not run as root, and there is no account postgres or nobody to run it under: "
        "run bulkseed as an ordinary user, or name a database with --database-url"
    )


def _account(uid: int, gid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(uid, gid, f"number {uid}")
    return Account(uid, entry.pw_gid, entry.pw_name)


def clean_environment() -> dict[str, str]:
    """Return the environment for PostgreSQL's programs: ours, without what would turn them elsewhere.

    Without a valid LC_ALL, PostgreSQL does not start on macOS; with TZ, initdb need not search for the zone.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def run_as(
    account: Account | None, command: Sequence[str | Path], pass_fds: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end under the account, and return its exit status and output.

    Raises EmbeddedError where this process may not change to the account, and OSError where the program
    cannot be run, such as one that the account cannot reach.
    """
    identity: dict[str, Any] = {}
    if account is not None:
        identity = {"user": account.uid, "group": account.gid, "extra_groups": []}
    try:
        return subprocess.run(
            [os.fspath(part) for part in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            env=clean_environment(),
            cwd="/",  # initdb fails in a folder that the account cannot enter, such as root's home
            pass_fds=pass_fds,
            **identity,
        )
    except OSError as error:
        if account is not None and error.errno in (errno.EPERM, errno.EINVAL):
            raise EmbeddedError(
                f"PostgreSQL does not run as root, and this root may not change to {account.name}: "
                "run bulkseed as an ordinary user, or name a database with --database-url"
            ) from error
        raise


def barring_folder(account: Account, folder: Path) -> Path | None:
    """Return the first folder on the way to ``folder`` (itself included) that the account cannot enter.

    The account tries it out, so that access lists and the like count too.
    """
    way = [*reversed(folder.parents), folder]
    attempt = 'for each in "$@"; do cd -- "$each" 2>/dev/null || { printf %s "$each"; exit 1; }; done'
    tried = run_as(account, ["/bin/sh", "-c", attempt, "sh", *way])
    if tried.returncode == 0:
        return None
    return next((each for each in way if os.fspath(each) == tried.stdout), folder)


def open_private(path: Path, flags: int) -> int:
    """Open a file of the home for writing, made if missing, for its owner alone; never through a link.

    What root makes in somebody's home belongs to them: they could not use their home any more.
    Raises OSError where it cannot be made or opened.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        if owner.st_uid != 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor
