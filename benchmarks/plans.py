"""The plans that benchmarks run: of a scale, with one fixed moment, so that every run makes the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from bulkseed.plan.plan import Plan
from bulkseed.scenarios import shipped
from bulkseed.scenarios.planning import make_plan

__all__ = ["AS_OF", "SCENARIOS", "plan_of"]

SCENARIOS: Final = tuple(shipped())
"""Those that ship."""

AS_OF: Final = datetime(2026, 6, 1, tzinfo=UTC)


def plan_of(scale: str, scenario: str = "default") -> Plan:
    """The plan of ``scale``, else as a load would make it. Raises InputError for a scale that is none."""
    return make_plan(scale, as_of=AS_OF, scenario=scenario)
