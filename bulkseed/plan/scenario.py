"""Parameters: the fields of a dataclass that are numbers within a range, each with what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, TypeVar

from bulkseed.errors import InputError

__all__ = [
    "EVEN_OFFICE_HOURS",
    "EVEN_WEEKENDS",
    "PluginTable",
    "Rule",
    "Scenario",
    "Shape",
    "check_parameters",
    "describe_range",
    "parameter",
]

T = TypeVar("T", int, float)


def parameter(default: T, least: float, most: float, description: str) -> T:
    """The field of a dataclass that holds a number from ``least`` to ``most``, both included."""
    found: T = field(default=default, metadata={"least": least, "most": most, "description": description})
    return found


def describe_range(kind: str, metadata: Mapping[str, Any]) -> str:
    """The values that a parameter may have, in words: ``a whole number from 1 to 50``."""
    return f"a {'whole ' if kind == 'int' else ''}number from {metadata['least']} to {metadata['most']}"


def check_parameters(whole: Any, named: str) -> None:
    """Raises InputError, with ``named`` before the parameter's name, for a value outside its range."""
    for each in fields(whole):
        value, kind = getattr(whole, each.name), str(each.type)
        number = isinstance(value, int if kind == "int" else int | float) and not isinstance(value, bool)
        if not number or not each.metadata["least"] <= value <= each.metadata["most"]:
            raise InputError(f"{named} {each.name} is {value!r}: give {describe_range(kind, each.metadata)}")


EVEN_OFFICE_HOURS: Final = 40 / 168
EVEN_WEEKENDS: Final = 48 / 168

DAYS_IN_YEAR: Final = 365.25
SETTLING_DAYS: Final = 8
"""So that every author has a whole week to write in before they fall silent (generators/messages.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The parameters of a workspace's distributions; the defaults are the rules as they stand in rules.md.

    Exponents are of Zipf's law: what has rank r gets a share in proportion to r to the power of minus the exponent.

    - ``channel_sizes``: "all" are those that a channel may have (rule M2).
    - ``everyone``: the law of ``channel_sizes`` begins with the last of these channels.
    - ``channel_activity``: the busiest channels are the largest, and the first of the run is the busiest of all; then
      come group DMs, then DMs.
    - ``user_activity``: in a DM of two, both write as much.
    - ``idle``: accounts and channels are then eight days older still than ``idle_days``.
    - ``office_hours``, ``weekends``: by default no hour is unlike another.
    - ``most_replies``: each number is as frequent as the others.
    - ``viral``: the channel is the first of the run.

    Raises InputError for a value outside its range, or where two contradict each other.
    """

    history: float = parameter(0.0, 0, 100, "years of data before as_of; 0: from 1 January of as_of's year")
    channel_sizes: float = parameter(
        0.0, 0, 3, "Zipf exponent of the members of regular channels by rank; 0: uniform from 2 to all"
    )
    everyone: float = parameter(
        0.0, 0, 1, "share of the regular channels, at least one, that everyone is in, where channel_sizes is not 0"
    )
    channel_activity: float = parameter(
        0.0, 0, 3, "Zipf exponent of the top-level messages of channels by rank; 0: each has as many"
    )
    user_activity: float = parameter(
        0.0, 0, 3, "Zipf exponent of the messages of users by rank; 0: members of a channel write alike"
    )
    idle: float = parameter(
        0.0, 0, 1, "share of users, the least active, who have written nothing in the last idle_days"
    )
    idle_days: int = parameter(30, 1, 36_500, "days before as_of")
    office_hours: float = parameter(
        EVEN_OFFICE_HOURS, 0, 1, "share of top-level messages written Monday to Friday, 9 to 17 UTC"
    )
    weekends: float = parameter(
        EVEN_WEEKENDS, 0, 1, "share of top-level messages written on Saturdays and Sundays (UTC)"
    )
    # replies fit a batch with their parents (generators/messages)
    most_replies: int = parameter(1, 1, 50, "a message that gets replies gets from 1 to so many")
    group_dms: float = parameter(0.0, 0, 1, "share of the DMs that have 3 to 8 members instead of two")
    viral: float = parameter(
        0.0, 0, 1, "share of all top-level messages that are in one channel of everyone; 0: there is none"
    )

    def __post_init__(self) -> None:
        check_parameters(self, "the shape's")
        if self.office_hours + self.weekends > 1:
            raise InputError(
                f"office_hours ({self.office_hours:g}) and weekends ({self.weekends:g}) are more than "
                "all messages: give shares that add up to 1 at most"
            )
        needed = self.idle_days + 2 * SETTLING_DAYS
        if self.idle and self.history * DAYS_IN_YEAR < needed:
            raise InputError(
                f"idle_days ({self.idle_days}) want a history of more than {needed} days: "
                f"give history {needed / DAYS_IN_YEAR:.2f} (years) or more"
            )

    @property
    def ranked(self) -> bool:
        """Whether channels have ranks, which say of each what it is and how much is in it."""
        return any((self.channel_sizes, self.channel_activity, self.group_dms, self.viral))

    @property
    def even_week(self) -> bool:
        """Whether every hour of the week is alike."""
        return self.office_hours == EVEN_OFFICE_HOURS and self.weekends == EVEN_WEEKENDS

    @property
    def replies_per_thread(self) -> float:
        """The mean number of replies of a message that has some."""
        return (1 + self.most_replies) / 2

    @property
    def history_days(self) -> float:
        """The days that ``history`` comes to."""
        return self.history * DAYS_IN_YEAR

    @property
    def settled_days(self) -> int:
        """The least age in days of accounts and channels."""
        return self.idle_days + SETTLING_DAYS if self.idle else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule of the user's own, for verify: an SQL query of one number, how many rows break it."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginTable:
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
    extras: tuple[PluginTable, ...] = ()
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
        known["extras"] = tuple(plugin_table_of(extra) for extra in known.get("extras", ()))
        known["rules"] = tuple(Rule(**rule) for rule in known.get("rules", ()))
        return cls(**known)


def differing(value: Any, usual: Any) -> dict[str, Any]:
    """The fields of one dataclass that are not as in another of its kind."""
    others = asdict(usual)
    return {name: each for name, each in asdict(value).items() if each != others[name]}


def plugin_table_of(values: Mapping[str, Any]) -> PluginTable:
    lists = {name: tuple(values[name]) for name in ("columns", "key")}
    return PluginTable(
        **dict(values) | lists | {"references": tuple((column, table) for column, table in values["references"])}
    )
