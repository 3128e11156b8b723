"""The commands of the command line: each in a module of its name, imported when it is wanted."""

from __future__ import annotations

from typing import Final

__all__ = ["COMMANDS"]

COMMANDS: Final = ("cleanup", "init", "load", "plan", "psql", "resume", "runs", "serve", "verify")
"""Their names, in the order in which ``--help`` lists them."""
