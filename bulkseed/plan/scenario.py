"""A scenario: the shape of the data, what the app calls its tables and columns, and what fills the rest.

Plain values; they are part of the plan, and kept with the run. ``scenario_file.py`` reads them from TOML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bulkseed.plan.shape import Shape

__all__ = ["Extra", "Rule", "Scenario"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule of the user's own, for verify: an SQL query of one number, how many rows break it."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """A table beyond the built-in five: all that is known of it without the code that makes its rows.

    It is made beside the rows of the table that it ``follows``, some ``rows_per_parent`` for each. ``references`` are
    its columns that hold ids of other tables, the first of which says to which run a row belongs; ``key`` are the
    columns by which a row is known again. ``source`` is where that code is, as ``module:name``; empty for a
    relationship, which is declared whole. One that is ``late`` points at rows that are made later than those that it
    follows.
    """

    name: str
    follows: str
    columns: tuple[str, ...]
    references: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    rows_per_parent: float
    source: str = ""
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What a run's data looks like, and how it goes into the app's own tables.

    ``tables`` has the app's name of each table that it calls otherwise, None for one that it lacks; ``columns``, by
    table, the same of columns. ``fields`` has, by table and by the app's own column, what fills that: as the scenario
    file says it; ``providers`` are Faker's of the user's own. ``extras`` are tables beyond the built-in five, of
    ``relationships`` and ``plugins``. ``uuid`` is the version in whose form UUID keys are made.
    """

    name: str = "default"
    shape: Shape = field(default_factory=Shape)
    schema: str | None = None
    uuid: int = 4
    tables: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    columns: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict, hash=False)
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    relationships: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    providers: tuple[str, ...] = ()
    extras: tuple[Extra, ...] = ()
    rules: tuple[Rule, ...] = ()

    def to_values(self) -> dict[str, Any]:
        """What differs from the default, as JSON can keep it: each row of the ledger has a copy."""
        values = differing(self, Scenario())
        return values | ({"shape": differing(self.shape, Shape())} if "shape" in values else {})

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Scenario:
        """The scenario whose :meth:`to_values` have been to JSON and back."""
        known = dict(values)
        known["shape"] = Shape(**known.get("shape", {}))
        known["providers"] = tuple(known.get("providers", ()))
        known["extras"] = tuple(extra_of(extra) for extra in known.get("extras", ()))
        known["rules"] = tuple(Rule(**rule) for rule in known.get("rules", ()))
        return cls(**known)


def differing(value: Any, usual: Any) -> dict[str, Any]:
    """The fields of one dataclass that are not as in another of its kind."""
    others = asdict(usual)
    return {name: each for name, each in asdict(value).items() if each != others[name]}


def extra_of(values: Mapping[str, Any]) -> Extra:
    lists = {name: tuple(values[name]) for name in ("columns", "key")}
    return Extra(
        **dict(values) | lists | {"references": tuple((column, table) for column, table in values["references"])}
    )
