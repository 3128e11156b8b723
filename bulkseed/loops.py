"""Which event loop commands and workers run on: uvloop where it is installed (there is none for Windows)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

__all__ = ["LOOP"]

LOOP: Final = {"use_uvloop": find_spec("uvloop") is not None}
"""The ``backend_options`` of :func:`anyio.run`."""
