"""Scenarios: the shape of a workspace, names of the app's tables and columns, further tables, and rules."""

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
    """Return a field of a dataclass for a number from ``least`` to ``most``, both included."""
    declared: T = field(default=default, metadata={"least": least, "most": most, "description": description})
    return declared


def describe_range(kind: str, metadata: Mapping[str, Any]) -> str:
    """Return the permitted values of a parameter as text: ``a whole number from 1 to 50``."""
    return f"a {'whole ' if kind == 'int' else ''}number from {metadata['least']} to {metadata['most']}"


def check_parameters(parameters: Any, prefix: str) -> None:
    """Raise InputError, with ``prefix`` before the name, for a parameter of a dataclass that is outside its range."""
    for declared in fields(parameters):
        value, kind = getattr(parameters, declared.name), str(declared.type)
        is_number = isinstance(value, int if kind == "int" else int | float) and not isinstance(value, bool)
        if not is_number or not declared.metadata["least"] <= value <= declared.metadata["most"]:
            raise InputError(
                f"{prefix} {declared.name} is {value!r}: give {describe_range(kind, declared.metadata)}",
                code="parameter-out-of-range",
            )


EVEN_OFFICE_HOURS: Final = 40 / 168
EVEN_WEEKENDS: Final = 48 / 168

DAYS_IN_YEAR: Final = 365.25
SETTLING_DAYS: Final = 8
"""Days that every author has before ``idle_since``: a complete week to write in (``generators/messages.py``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The parameters of a workspace's distributions; the defaults give the rules as rules.md states them.

    Exponents are those of Zipf's law: the share of rank r is in proportion to r to the power of minus the exponent.

    - ``channel_sizes``: "all users" is the largest number of members that a channel may have (rule M2).
    - ``everyone``: the law of ``channel_sizes`` begins with the last of these channels.
    - ``channel_activity``: the busiest channels are the largest ones, and the first channel of the run is the busiest;
      group DMs come next, then DMs.
    - ``user_activity``: among the members of a channel who have joined. In a DM of two, both write equally often.
    - ``idle``: accounts and channels are then at least eight days older than ``idle_days``.
    - ``office_hours``, ``weekends``: by default all hours of the week are equal.
    - ``most_replies``: all numbers of replies are equally frequent.
    - ``viral``: the channel is the first of the run.

    Raises InputError for a value outside its range, and for values that contradict each other.
    """

    history: float = parameter(0.0, 0, 100, "years of data before as_of; 0: from 1 January of as_of's year")
    channel_sizes: float = parameter(
        0.0, 0, 3, "Zipf exponent of the members of regular channels by rank; 0: uniform from 2 to all users"
    )
    everyone: float = parameter(
        0.0,
        0,
        1,
        "share of the regular channels with all users as members, at least one channel; only if channel_sizes is not 0",
    )
    channel_activity: float = parameter(
        0.0, 0, 3, "Zipf exponent of the top-level messages of channels by rank; 0: all channels have equally many"
    )
    user_activity: float = parameter(
        0.0, 0, 3, "Zipf exponent of the messages of users by rank; 0: all members of a channel write equally many"
    )
    idle: float = parameter(0.0, 0, 1, "share of users, the least active, who wrote nothing in the last idle_days")
    idle_days: int = parameter(30, 1, 36_500, "days before as_of in which idle users wrote nothing")
    office_hours: float = parameter(
        EVEN_OFFICE_HOURS, 0, 1, "share of top-level messages written Monday to Friday, 9 to 17 UTC"
    )
    weekends: float = parameter(
        EVEN_WEEKENDS, 0, 1, "share of top-level messages written on Saturdays and Sundays (UTC)"
    )
    # a batch must have room for messages and all their replies (generators/messages.py)
    most_replies: int = parameter(1, 1, 50, "most replies of a message; a message with replies has 1 to this many")
    group_dms: float = parameter(0.0, 0, 1, "share of the DMs that have 3 to 8 members instead of 2")
    viral: float = parameter(
        0.0, 0, 1, "share of all top-level messages that are in one channel with all users; 0: there is no such channel"
    )

    def __post_init__(self) -> None:
        check_parameters(self, "the shape's")
        if self.office_hours + self.weekends > 1:
            raise InputError(
                f"office_hours ({self.office_hours:g}) and weekends ({self.weekends:g}) are more than "
                "all messages: give shares with a sum of at most 1",
                code="conflicting-parameters",
            )
        needed = self.idle_days + 2 * SETTLING_DAYS
        if self.idle and self.history * DAYS_IN_YEAR < needed:
            raise InputError(
                f"idle_days ({self.idle_days}) needs a history of more than {needed} days: "
                f"give history {needed / DAYS_IN_YEAR:.2f} (years) or more",
                code="conflicting-parameters",
            )

    @property
    def is_ranked(self) -> bool:
        """Return whether channels have ranks, which decide the kind, the size and the messages of each."""
        return any((self.channel_sizes, self.channel_activity, self.group_dms, self.viral))

    @property
    def even_week(self) -> bool:
        """Return whether all hours of the week are equal."""
        return self.office_hours == EVEN_OFFICE_HOURS and self.weekends == EVEN_WEEKENDS

    @property
    def replies_per_thread(self) -> float:
        """The mean number of replies to a message that has replies."""
        return (1 + self.most_replies) / 2

    @property
    def history_days(self) -> float:
        """``history`` in days."""
        return self.history * DAYS_IN_YEAR

    @property
    def settled_days(self) -> int:
        """The minimum age of accounts and channels, in days."""
        return self.idle_days + SETTLING_DAYS if self.idle else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule that the user adds to ``verify``: an SQL query that returns the number of rows that break it."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginTable:
    """The description of a table beyond the built-in five, without the code that generates its rows.

    The rows are generated with those of the table that it ``follows``, on average ``rows_per_parent`` for each.
    ``references`` are pairs of a column that holds ids and the table that they are ids of; the first one tells which
    run a row belongs to. ``key`` are the columns that identify a row. ``source`` names the code as ``module:name``; it
    is empty for a relationship, which needs no code. A ``late`` table has references to rows that are generated after
    those of the table that it follows.
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
    """The shape of a run's data, and the mapping of bulkseed's tables and columns to the app's.

    ``tables`` maps bulkseed's name of a table to the app's name, where they differ, or to None where the app has no
    such table; ``columns`` does the same for the columns of each table. ``fields`` maps a table and a column of the app
    to the entry of the scenario file that says how to fill the column. ``providers`` are the user's Faker providers, as
    ``module:name``. ``extras`` are the tables beyond the built-in five: relationships and plugins. ``uuid`` is the
    version of UUID keys, 4 or 7.
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
        """Return the values that differ from the defaults, ready for JSON: the ledger keeps them with each run."""
        values = changed_values(self, Scenario())
        return values | ({"shape": changed_values(self.shape, Shape())} if "shape" in values else {})

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Scenario:
        """Return the scenario from the output of :meth:`to_values`, read back from JSON."""
        known = dict(values)
        known["shape"] = Shape(**known.get("shape", {}))
        known["providers"] = tuple(known.get("providers", ()))
        known["extras"] = tuple(plugin_table_of(extra) for extra in known.get("extras", ()))
        known["rules"] = tuple(Rule(**rule) for rule in known.get("rules", ()))
        return cls(**known)


def changed_values(changed: Any, default: Any) -> dict[str, Any]:
    """Return the fields of a dataclass whose values differ from those of ``default``, of the same class."""
    defaults = asdict(default)
    return {name: value for name, value in asdict(changed).items() if value != defaults[name]}


def plugin_table_of(values: Mapping[str, Any]) -> PluginTable:
    lists = {name: tuple(values[name]) for name in ("columns", "key")}
    return PluginTable(
        **dict(values) | lists | {"references": tuple((column, table) for column, table in values["references"])}
    )
