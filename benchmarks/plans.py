"""The plans that benchmarks run: of a scale, with one fixed moment, so that every run makes the same."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from importlib.resources import files
from typing import Final

from bulkseed.plan import Plan, Probabilities, scaled_counts
from bulkseed.scenario import Scenario
from bulkseed.shape import Shape

__all__ = ["AS_OF", "SCENARIOS", "plan_of", "scenario_plan"]

SCENARIOS: Final = ("default", "slack", "viral", "archive", "tiny")
"""Those that ship."""

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


def scenario_plan(name: str, scale: str) -> Plan:
    """The plan of a scenario that ships, its counts times ``scale``. Raises InputError for a scale that is none."""
    values = tomllib.loads((files("bulkseed") / "scenarios" / f"{name}.toml").read_text())
    as_default = scaled_counts(scale)["users"] / scaled_counts("1x")["users"]
    counts = {count: max(2, round(value * as_default)) for count, value in values["counts"].items()}
    return Plan(
        users=counts["users"],
        channels=counts["channels"],
        messages_per_channel=counts["messages_per_channel"],
        as_of=AS_OF,
        probabilities=Probabilities(**values.get("probabilities", {})),
        scenario=Scenario(name=name, shape=Shape(**values.get("shape", {}))),
    )
