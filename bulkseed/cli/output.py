"""Stdout as a program reads it: with ``--json`` only the object, whatever else is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any, Final, TextIO

__all__ = ["print_json", "reserve_stdout"]

RESERVED: Final[ContextVar[TextIO | None]] = ContextVar("RESERVED", default=None)
"""The stdout that is reserved for :func:`print_json`; None where stdout is not reserved."""


@contextmanager
def reserve_stdout() -> Iterator[None]:
    """Send to stderr what is printed during the block, except by :func:`print_json`: user code may print too."""
    token = RESERVED.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        RESERVED.reset(token)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(value, ensure_ascii=False), file=RESERVED.get() or sys.stdout)
