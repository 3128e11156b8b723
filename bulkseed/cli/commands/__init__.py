"""The commands of the command line, each imported when it is wanted."""

from __future__ import annotations

from typing import Final

__all__ = ["COMMANDS"]

COMMANDS: Final = {
    "cleanup": "cleanup",
    "init": "init",
    "load": "load",
    "plan": "plan",
    "psql": "psql",
    "resume": "load",
    "runs": "runs",
    "serve": "serve",
    "verify": "verify",
}
"""The module of each, in the order in which ``--help`` lists them."""
