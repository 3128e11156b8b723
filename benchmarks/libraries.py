"""The libraries that only benchmarks need, imported where they are used: without them the others still run."""

from __future__ import annotations

import importlib
from typing import Any, Final

from bulkseed.errors import InputError

__all__ = ["INSTALL", "library"]

INSTALL: Final = "pip install '.[benchmarks]'"


def library(name: str) -> Any:
    """The module ``name``. Raises InputError, which says how to install it, where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"this benchmark needs {name.partition('.')[0]} ({error}): {INSTALL}") from error
