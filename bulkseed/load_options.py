"""The options of a load that several folders know, and the memory and processors that this process may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from bulkseed.errors import InputError

__all__ = [
    "DEFAULT_WORKERS",
    "LEDGER_SCHEMA",
    "RETRY_SECONDS",
    "ROWS_PER_SHARD",
    "Defer",
    "FirstIds",
    "Format",
    "OnError",
    "available_cores",
    "available_memory",
    "check_first_ids",
    "check_ledger_schema",
    "default_workers",
    "has_interpreter",
    "parse_first_ids",
]

Defer = Literal["auto", "always", "never"]
"""Whether indexes and keys are dropped before a load and rebuilt after it; ``auto``: where that saves time."""

Format = Literal["auto", "records", "binary"]
"""The format of COPY; ``auto`` is binary for each table whose types allow it."""

OnError = Literal["undo", "keep"]
"""Whether a run that fails is undone, or kept for ``bulkseed resume``."""

FirstIds = int | Mapping[str, int]
"""The first id of each table that has ids, by table; or the number of a recorded run, whose first ids are meant."""

ROWS_PER_SHARD: Final = 200_000
"""The default rows of a shard: they make the fixed cost of a COPY negligible, and load in a second or two."""

RETRY_SECONDS: Final = 120.0
"""The default of the longest wait for a server that accepts no connection."""

LEDGER_SCHEMA: Final = "bulkseed"
"""The default schema of the ledger."""

LONGEST_NAME: Final = 63
"""The longest name in bytes that PostgreSQL keeps: NAMEDATALEN - 1."""


def check_ledger_schema(name: str) -> None:
    """Raise InputError where no schema can have this name."""
    size = len(name.encode(errors="surrogateescape"))
    is_text = "\0" not in name and not any("\ud800" <= character <= "\udfff" for character in name)
    if not (is_text and 0 < size <= LONGEST_NAME) or name.startswith("pg_") or name == "information_schema":
        raise InputError(
            f"--ledger-schema {name!r} cannot be the name of the ledger's schema: give 1 to {LONGEST_NAME} bytes of "
            "UTF-8, not beginning with pg_, and not information_schema",
            code="invalid-schema-name",
        )


def parse_first_ids(text: str) -> FirstIds:
    """Return the value of --first-ids: the number of a run, or ids by table. Raises InputError."""
    try:
        if "=" not in text:
            return check_first_ids(int(text))
        pairs = [part.split("=") for part in text.split(",")]
        ids = {table.strip(): int(number) for table, number in pairs}
    except ValueError as error:
        raise first_ids_error(text) from error
    if len(ids) < len(pairs):
        raise first_ids_error(text)
    return check_first_ids(ids)


def check_first_ids(first_ids: FirstIds) -> FirstIds:
    """Return the value. Raises InputError where a number is below 1."""
    if min([first_ids] if isinstance(first_ids, int) else first_ids.values(), default=0) < 1:
        raise first_ids_error(str(first_ids))
    return first_ids


def first_ids_error(value: str) -> InputError:
    return InputError(
        f"--first-ids {value!r} is neither the number of a run nor first ids: give a number such as 3, "
        "or users=1,channels=1,messages=1, with ids from 1",
        code="invalid-first-ids",
    )


def available_memory() -> int:
    """Return the bytes of memory that this process may use: the machine's, or its control group's limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("0::/"):
            group = root / line.removeprefix("0::/")
            for folder in (group, *group.parents):
                try:
                    limits.append(int((folder / "memory.max").read_text()))
                except (OSError, ValueError):  # no such group, or "max"
                    continue
    return min(limits)


def available_cores() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


DEFAULT_WORKERS: Final = 8
"""Each worker uses a core, about 90 MB of memory, and a connection, for which the server runs a process."""


def default_workers() -> int:
    """Return the default number of workers: one per core, at most DEFAULT_WORKERS; 1 without an interpreter to run."""
    return min(available_cores(), DEFAULT_WORKERS) if has_interpreter() else 1


def has_interpreter() -> bool:
    """Return whether ``sys.executable`` is a Python, which worker processes need: in a frozen app it is the app."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)
