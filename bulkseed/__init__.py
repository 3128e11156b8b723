"""bulkseed fills a PostgreSQL database with believable chat data before a load test.

plan = bulkseed.make_plan("10x", scenario="slack")
report = await bulkseed.load(plan, "postgresql:///staging")

Without an event loop: ``bulkseed.sync.load(plan, "postgresql:///staging")``.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bulkseed import sync
    from bulkseed.api import check, cleanup, load, resume, verify
    from bulkseed.cleaner.cleanup import CleanupReport
    from bulkseed.errors import (
        BulkseedError,
        ConnectError,
        ConnectionLostError,
        DiskFullError,
        EmbeddedError,
        InputError,
        NoEmbeddedServerError,
        RunError,
        ServerUnavailableError,
        StoppedError,
        TargetError,
        TransientError,
        ViolatingRowsError,
    )
    from bulkseed.fields import FieldRow, FieldRows
    from bulkseed.generators.plugins import Parent, Parents, SeedTable, table
    from bulkseed.listeners import NullListener, Phase, ProgressListener
    from bulkseed.listeners import NullListener as Silent
    from bulkseed.listeners import ProgressListener as Watcher
    from bulkseed.load_options import Defer, FirstIds, Format, OnError
    from bulkseed.loader.check import CheckReport, TableCheck
    from bulkseed.loader.complete import LoadReport
    from bulkseed.plan.plan import Placement, Plan
    from bulkseed.postgres.address import Address
    from bulkseed.scenarios.planning import make_plan
    from bulkseed.target.guard import Disk
    from bulkseed.verifier.verify import ChanceCheck, RuleCheck, VerifyReport

__all__ = [
    "Address",
    "BulkseedError",
    "ChanceCheck",
    "CheckReport",
    "CleanupReport",
    "ConnectError",
    "ConnectionLostError",
    "Defer",
    "Disk",
    "DiskFullError",
    "EmbeddedError",
    "FieldRow",
    "FieldRows",
    "FirstIds",
    "Format",
    "InputError",
    "LoadReport",
    "NoEmbeddedServerError",
    "NullListener",
    "OnError",
    "Parent",
    "Parents",
    "Phase",
    "Placement",
    "Plan",
    "ProgressListener",
    "RuleCheck",
    "RunError",
    "SeedTable",
    "ServerUnavailableError",
    "Silent",
    "StoppedError",
    "TableCheck",
    "TargetError",
    "TransientError",
    "VerifyReport",
    "ViolatingRowsError",
    "Watcher",
    "check",
    "cleanup",
    "load",
    "make_plan",
    "resume",
    "sync",
    "table",
    "verify",
]

SOURCES: Final = {
    "api": ("check", "cleanup", "load", "resume", "verify"),
    "cleaner.cleanup": ("CleanupReport",),
    "errors": (
        "BulkseedError",
        "ConnectError",
        "ConnectionLostError",
        "DiskFullError",
        "EmbeddedError",
        "InputError",
        "NoEmbeddedServerError",
        "RunError",
        "ServerUnavailableError",
        "StoppedError",
        "TargetError",
        "TransientError",
        "ViolatingRowsError",
    ),
    "fields": ("FieldRow", "FieldRows"),
    "generators.plugins": ("Parent", "Parents", "SeedTable", "table"),
    "listeners": ("NullListener", "Phase", "ProgressListener", "Silent", "Watcher"),
    "load_options": ("Defer", "FirstIds", "Format", "OnError"),
    "loader.check": ("CheckReport", "TableCheck"),
    "loader.complete": ("LoadReport",),
    "plan.plan": ("Placement", "Plan"),
    "postgres.address": ("Address",),
    "scenarios.planning": ("make_plan",),
    "target.guard": ("Disk",),
    "verifier.verify": ("ChanceCheck", "RuleCheck", "VerifyReport"),
}

# the log is shown only where the program configures it
logging.getLogger("bulkseed").addHandler(logging.NullHandler())

FORMER: Final = {"Silent": "NullListener", "Watcher": "ProgressListener"}
"""Public names of 0.1.0, which programs may still import, and their present names."""


if not TYPE_CHECKING:  # type checkers would take any other name for Any

    def __getattr__(name: str) -> Any:
        """Import a name at its first use: a worker process must start quickly, and needs few of them."""
        if name == "sync":
            return import_module("bulkseed.sync")
        for module, names in SOURCES.items():
            if name in names:
                return getattr(import_module(f"bulkseed.{module}"), FORMER.get(name, name))
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
