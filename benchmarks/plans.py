"""The plans of benchmarks, with a fixed as_of, so that every run makes the same rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from bulkseed.plan.plan import Plan
from bulkseed.scenarios import shipped
from bulkseed.scenarios.planning import make_plan

__all__ = ["AS_OF", "SCENARIOS", "plan_of"]

SCENARIOS: Final = tuple(shipped())
"""The scenarios that ship with bulkseed."""

AS_OF: Final = datetime(2026, 6, 1, tzinfo=UTC)


def plan_of(scale: str, scenario: str = "default") -> Plan:
    """Return the plan of a scale and a scenario, with the defaults of a load. Raises InputError for a wrong scale."""
    return make_plan(scale, as_of=AS_OF, scenario=scenario)
