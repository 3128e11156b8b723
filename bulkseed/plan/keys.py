"""Which tables have UUIDs for ids, and which UUID stands for which id."""

from __future__ import annotations

from collections.abc import Mapping

from bulkseed.plan.plan import Placement, Plan, microseconds
from bulkseed.randomness.streams import Streams
from bulkseed.randomness.uuids import Moments, Uuids

__all__ = ["uuids_of"]


def uuids_of(plan: Plan, placement: Placement, messages: int) -> Mapping[str, Uuids]:
    """The UUIDs of each table whose ids are UUIDs, of a run with so many ``messages``."""
    counts = {"users": plan.users, "channels": plan.channels, "messages": messages}
    streams = Streams(plan.seed, placement.first_user)
    start, end = microseconds(plan.history_start), microseconds(plan.as_of)
    timed = plan.scenario.uuid == 7
    return {
        table: Uuids(streams, table, Moments(placement.first(table), counts[table], start, end) if timed else None)
        for table in placement.uuids
    }
