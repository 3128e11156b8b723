"""Which event loop commands and workers run on: uvloop where it is installed (there is none for Windows)."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Any, Final

import asyncpg

__all__ = ["LOOP", "unheard"]

LOOP: Final = {"use_uvloop": find_spec("uvloop") is not None}
"""The ``backend_options`` of :func:`anyio.run`."""


def unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception handler for a loop: asyncpg leaves futures of a lost connection behind, whose error was heard."""
    if not isinstance(context.get("exception"), asyncpg.PostgresError | asyncpg.InterfaceError | OSError):
        loop.default_exception_handler(context)
