"""A scenario: the shape of the data, what the app calls its tables and columns, and what fills the rest.

Plain values; they are part of the plan, and kept with the run. ``scenario_file.py`` reads them from TOML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bulkseed.shape import Shape

__all__ = ["Rule", "Scenario"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule of the user's own, for verify: an SQL query of one number, how many rows break it."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What a run's data looks like, and how it goes into the app's own tables.

    ``tables`` has the app's name of each table that it calls otherwise, None for one that it lacks; ``columns``, by
    table, the same of columns. ``fields`` has, by table and by the app's own column, what fills that: as the scenario
    file says it. ``relationships`` and ``plugins`` are tables beyond the built-in five.
    """

    name: str = "default"
    shape: Shape = field(default_factory=Shape)
    schema: str | None = None
    uuid: int = 4
    tables: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    columns: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict, hash=False)
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    relationships: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    plugins: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Scenario:
        """The scenario whose :func:`dataclasses.asdict` has been to JSON and back."""
        known = dict(values)
        known["shape"] = Shape(**known.get("shape", {}))
        known["plugins"] = tuple(known.get("plugins", ()))
        known["rules"] = tuple(Rule(**rule) for rule in known.get("rules", ()))
        return cls(**known)
