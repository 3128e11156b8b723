"""Plans with a fixed as_of: of a scale, or of the text of a scenario file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bulkseed.plan.plan import Plan, microseconds, scale_counts
from bulkseed.scenarios.scenario_file import read_scenario
from bulkseed.text.fakes import Fakes

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)


def plan_of(scale: str = "1x", **changes: Any) -> Plan:
    """A plan with a fixed as_of."""
    return Plan(**(scale_counts(scale) | {"as_of": AS_OF} | changes))


def planned(folder: Path, text: str, scale: str = "3x", **changes: Any) -> Plan:
    """A plan of a scenario file with this text, which is written to ``folder``."""
    file = folder / "app.toml"
    file.write_text(text)
    found = read_scenario(str(file), Fakes("en_US", 1, microseconds(AS_OF)))
    counts = scale_counts(scale, found.counts)
    return plan_of(scale, **counts | {"probabilities": found.probabilities, "scenario": found.scenario} | changes)
