"""Deferral: indexes, keys and foreign keys dropped for a load and rebuilt after it, with the same definitions.

The order of the calls is :func:`capture_proven`, :func:`save` and commit, :func:`drop`, the load, :func:`rebuild`,
:func:`mark_rebuilt`. After a crash at any point: :func:`read_unfinished`, :func:`rebuild`, :func:`mark_rebuilt`.
"""

from bulkseed.deferral.capture import capture, find_missing
from bulkseed.deferral.definitions import (
    DDL,
    Captured,
    Deferred,
    NotDeferred,
    find_foreign_owners,
    find_unfinished_runs,
    forget_rebuilt,
    mark_rebuilt,
    read_unfinished,
    save,
)
from bulkseed.deferral.drop import drop
from bulkseed.deferral.proof import FillCopies, capture_proven
from bulkseed.deferral.rebuild import count_steps, rebuild
from bulkseed.deferral.steps import LOCK_SECONDS, describe_holders

__all__ = [
    "DDL",
    "LOCK_SECONDS",
    "Captured",
    "Deferred",
    "FillCopies",
    "NotDeferred",
    "capture",
    "capture_proven",
    "count_steps",
    "describe_holders",
    "drop",
    "find_foreign_owners",
    "find_missing",
    "find_unfinished_runs",
    "forget_rebuilt",
    "mark_rebuilt",
    "read_unfinished",
    "rebuild",
    "save",
]
