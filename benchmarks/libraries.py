"""Import the libraries that only some benchmarks need, so that the other benchmarks run without them."""

from __future__ import annotations

import importlib
from typing import Any, Final

from bulkseed.errors import InputError

__all__ = ["INSTALL", "library"]

INSTALL: Final = "pip install '.[benchmarks]'"


def library(name: str) -> Any:
    """Return the module ``name``. Raises InputError, with the command to install it, if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"this benchmark needs {name.partition('.')[0]} ({error}): {INSTALL}", code="missing-library"
        ) from error
