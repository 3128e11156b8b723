"""The plans that benchmarks run: of a scale, with one fixed moment, so that every run makes the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from bulkseed.plan import Plan, scaled_counts

__all__ = ["AS_OF", "plan_of"]

AS_OF: Final = datetime(2026, 6, 1, tzinfo=UTC)


def plan_of(scale: str) -> Plan:
    """The plan of ``scale``, else as a load would make it. Raises InputError for a scale that is none."""
    counts = scaled_counts(scale)
    return Plan(
        users=counts["users"],
        channels=counts["channels"],
        messages_per_channel=counts["messages_per_channel"],
        as_of=AS_OF,
    )
