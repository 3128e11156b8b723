"""bulkseed fills a PostgreSQL with believable chat data, fast, before a load test.

plan = bulkseed.make_plan("10x", scenario="slack")
report = await bulkseed.load(plan, "postgresql:///staging")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bulkseed.api import cleanup, load, resume, verify
    from bulkseed.errors import BulkseedError, InputError, RunError
    from bulkseed.generators.plugins import Parent, Parents, SeedTable, table
    from bulkseed.listeners import Silent, Watcher
    from bulkseed.plan.plan import Plan
    from bulkseed.scenarios.planning import make_plan

__all__ = [
    "BulkseedError",
    "InputError",
    "Parent",
    "Parents",
    "Plan",
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

PLACES: Final = {
    "api": ("cleanup", "load", "resume", "verify"),
    "errors": ("BulkseedError", "InputError", "RunError"),
    "generators.plugins": ("Parent", "Parents", "SeedTable", "table"),
    "plan.plan": ("Plan",),
    "scenarios.planning": ("make_plan",),
    "listeners": ("Silent", "Watcher"),
}


def __getattr__(name: str) -> Any:
    """Names are imported when they are asked for: a worker process must start quickly, and needs few of them."""
    for place, names in PLACES.items():
        if name in names:
            return getattr(import_module(f"bulkseed.{place}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
