"""bulkseed fills a PostgreSQL database with believable chat data before a load test.

plan = bulkseed.make_plan("10x", scenario="slack")
report = await bulkseed.load(plan, "postgresql:///staging")
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bulkseed.api import cleanup, load, resume, verify
    from bulkseed.errors import BulkseedError, InputError, RunError
    from bulkseed.generators.plugins import Parent, Parents, SeedTable, table
    from bulkseed.listeners import NullListener, ProgressListener
    from bulkseed.listeners import NullListener as Silent
    from bulkseed.listeners import ProgressListener as Watcher
    from bulkseed.plan.plan import Plan
    from bulkseed.scenarios.planning import make_plan

__all__ = [
    "BulkseedError",
    "InputError",
    "NullListener",
    "Parent",
    "Parents",
    "Plan",
    "ProgressListener",
    "RunError",
    "SeedTable",
    "Silent",
    "Watcher",
    "cleanup",
    "load",
    "make_plan",
    "resume",
    "table",
    "verify",
]

SOURCES: Final = {
    "api": ("cleanup", "load", "resume", "verify"),
    "errors": ("BulkseedError", "InputError", "RunError"),
    "generators.plugins": ("Parent", "Parents", "SeedTable", "table"),
    "plan.plan": ("Plan",),
    "scenarios.planning": ("make_plan",),
    "listeners": ("NullListener", "ProgressListener", "Silent", "Watcher"),
}

# the log is shown only where the program configures it
logging.getLogger("bulkseed").addHandler(logging.NullHandler())

FORMER: Final = {"Silent": "NullListener", "Watcher": "ProgressListener"}
"""Public names of 0.1.0, which programs may still import, and their present names."""


def __getattr__(name: str) -> Any:
    """Import a name at its first use: a worker process must start quickly, and needs few of them."""
    for module, names in SOURCES.items():
        if name in names:
            return getattr(import_module(f"bulkseed.{module}"), FORMER.get(name, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
