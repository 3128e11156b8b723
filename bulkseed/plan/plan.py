"""The plan of a run: one frozen value which, with its placement, determines every row."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, Self

from bulkseed.errors import InputError
from bulkseed.plan.scenario import Scenario, check_parameters, parameter
from bulkseed.plan.tables import WITH_IDS, Model

__all__ = [
    "EPOCH",
    "PLAN_VERSION",
    "Placement",
    "Plan",
    "Probabilities",
    "Reservation",
    "check_time_zone",
    "microseconds",
    "parse_as_of",
    "scale_counts",
]

PLAN_VERSION: Final = 1
"""The version of the JSON of plans: raise it if older versions of bulkseed would read the plans of this one wrongly."""

COUNTS_AT_1X: Final = {"users": 20, "channels": 10, "messages_per_channel": 20}

MOST_USERS: Final = 2_000_000_000
"""Draws below a bound use 32 bits (``randomness.draws.below``)."""
MOST_MESSAGES: Final = 10**12
"""Far below the limits of bigint ids and of the counters of random streams."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST_YEAR: Final = 1900
FOUNDING_PART: Final = 20
SETTLED_PART: Final = 10
"""The history has this many times the length of its first and of its last part."""
SCALE: Final = re.compile(r"(?P<factor>[0-9]{1,18}(\.[0-9]{1,9})?|\.[0-9]{1,9})[xX]?")


def microseconds(moment: datetime) -> int:
    """Return the whole microseconds from 1970-01-01 UTC to ``moment``, an aware datetime."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def scale_counts(scale: str, at_1x: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return the three counts for ``scale``, such as ``100x``, ``100`` or ``2.5x``, rounded half up.

    ``at_1x`` are the counts at scale 1x that differ from those of rules.md. Raises InputError for anything that is not
    a positive decimal number.
    """
    match = SCALE.fullmatch(scale.strip())
    if match is None or Decimal(match["factor"]) == 0:
        raise InputError(
            f"the scale {scale!r} is not a positive number: give --scale a number such as 100x, 100 or 2.5x",
            code="invalid-scale",
        )
    factor = Decimal(match["factor"])

    def scaled(at_1x: int, least: int) -> int:
        return max(least, int((at_1x * factor).quantize(Decimal(1), rounding=ROUND_HALF_UP)))

    counts = COUNTS_AT_1X | dict(at_1x or {})
    return {name: scaled(count, 2 if name == "users" else 1) for name, count in counts.items()}


def parse_as_of(text: str, now: datetime) -> datetime:
    """Return the time in ``text`` (ISO 8601; UTC without a zone) as an aware datetime in UTC, not after ``now``.

    Raises InputError if the text is malformed, or the time is in the future or before 1900.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"the time {text!r} is not in ISO 8601: "
            "give --as-of a date or time such as 2026-06-01 or 2026-06-01T12:30:00Z",
            code="invalid-as-of",
        ) from error
    if moment.year < EARLIEST_YEAR:
        raise InputError(
            f"the time {text!r} is too early: give --as-of a time in the year {EARLIEST_YEAR} or later",
            code="as-of-too-early",
        )
    if moment > now:
        raise InputError(
            f"the time {text!r} is in the future: give --as-of a time not after now, {now:%Y-%m-%dT%H:%M:%SZ}",
            code="as-of-in-future",
        )
    return moment


def check_time_zone(as_of: datetime) -> None:
    """Raise InputError if the datetime is not aware."""
    if as_of.tzinfo is None:
        raise InputError(
            "as_of has no time zone: give an aware datetime, such as datetime.now(UTC)",
            code="as-of-without-time-zone",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Probabilities:
    """The probabilities of rules.md; each is named after the table and the property that it decides."""

    user_active: float = parameter(0.90, 0, 1, "share of users with is_active")
    channel_dm: float = parameter(0.30, 0, 1, "share of channels that are DMs, of any size")
    channel_private: float = parameter(0.40, 0, 1, "share of the other channels that are private")
    message_paragraph: float = parameter(
        0.40, 0, 1, "share of top-level messages that are paragraphs; the others are sentences"
    )
    message_reply: float = parameter(0.20, 0, 1, "share of top-level messages that get replies")
    message_reactions: float = parameter(0.40, 0, 1, "share of messages, replies included, that get reactions (1 to 3)")

    def __post_init__(self) -> None:
        check_parameters(self, "the probability")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The input of a run: counts, probabilities, seed, as_of, locale and scenario.

    ``as_of`` is an aware datetime in UTC; ``max_members`` is the limit of members of a regular channel (rule M2).
    Raises InputError if the values contradict each other or rules.md.
    """

    users: int
    channels: int
    messages_per_channel: int
    as_of: datetime
    seed: int = 1
    max_members: int | None = None
    locale: str = "en_US"
    probabilities: Probabilities = field(default_factory=Probabilities)
    scenario: Scenario = field(default_factory=Scenario)

    def __post_init__(self) -> None:
        for name, least in (("users", 2), ("channels", 1), ("messages_per_channel", 1)):
            value = getattr(self, name)
            if value < least:
                option = name.replace("_", "-")
                noun = name.split("_")[0][: None if value != 1 else -1]
                raise InputError(
                    f"{value} {noun} are too few for a workspace: give --{option} {least} or more",
                    code="count-too-small",
                )
        if self.max_members is not None and self.max_members < 2:
            raise InputError(
                f"--max-members {self.max_members} is too few, as every channel has two members: give 2 or more",
                code="count-too-small",
            )
        if self.users > MOST_USERS or self.channels * self.messages_per_channel > MOST_MESSAGES:
            raise InputError(
                f"{self.users:,} users and {self.channels * self.messages_per_channel:,} messages are more than "
                f"one run can make: give at most {MOST_USERS:,} users and {MOST_MESSAGES:,} messages",
                code="count-too-large",
            )
        check_time_zone(self.as_of)

    @property
    def history_start(self) -> datetime:
        """The earliest time of a row: 1 January, 00:00 UTC, of the year of as_of, or as long ago as the shape says."""
        shape = self.scenario.shape
        if shape.history:
            return self.as_of - timedelta(days=shape.history_days)
        return datetime(self.as_of.astimezone(UTC).year, 1, 1, tzinfo=UTC)

    @property
    def model(self) -> Model:
        """The tables that the scenario fills."""
        return Model(self.scenario)

    @property
    def latest_signup(self) -> datetime:
        """The latest creation time of users: as_of, or earlier where the shape ranks the activity of users.

        What users write after it is in proportion to their activity, as all of them exist.
        """
        shape = self.scenario.shape
        if shape.idle or not shape.user_activity:
            return self.as_of - timedelta(days=shape.settled_days)
        return self.as_of - (self.as_of - self.history_start) // SETTLED_PART

    @property
    def latest_channel(self) -> datetime:
        """The latest creation time of channels, unless there are too few users for them by then.

        If channels were created over the whole history, their ids would ascend along the heap of the messages (T2).
        """
        return self.history_start + (self.latest_signup - self.history_start) // FOUNDING_PART

    @property
    def idle_since(self) -> datetime:
        """The time after which idle users write nothing."""
        return self.as_of - timedelta(days=self.scenario.shape.idle_days)

    @property
    def largest_channel(self) -> int:
        """The most members that a regular channel can have (rule M2)."""
        return self.users if self.max_members is None else min(self.users, self.max_members)

    @property
    def top_level_messages(self) -> int:
        """The number of messages that are not replies, over all channels."""
        return self.channels * self.messages_per_channel

    def to_json(self) -> str:
        """Return the plan as one JSON object; :meth:`from_json` reads it back to an equal plan."""
        values = {"as_of": self.as_of.isoformat(), "scenario": self.scenario.to_values()}
        return json.dumps(asdict(self) | values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the plan that :meth:`to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        values["as_of"] = datetime.fromisoformat(values["as_of"])
        values["probabilities"] = Probabilities(**values["probabilities"])
        # plans of versions without scenarios have none
        values["scenario"] = Scenario.from_values(values.get("scenario", {}))
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The ids and variant of a plan's rows in a target. The rows depend on the plan and on this, and on nothing else.

    ``first_*`` are the first free ids; the rows of a table have consecutive ids from there.
    ``reactions`` are the ids of the catalogue's system reactions, in ascending order (rule R2).
    ``variant`` is 0, or the first number with which no e-mail, auth0_id or join code collides with an existing value
    (rules U2 and C5). ``uuids`` are the tables of the target that have UUIDs, computed from the ids, as keys.
    """

    first_user: int
    first_channel: int
    first_message: int
    reactions: tuple[int | str, ...]
    variant: int = 0
    uuids: tuple[str, ...] = ()

    def first(self, table: str) -> int:
        """Return the first id of ``table``: users, channels or messages."""
        firsts = {"users": self.first_user, "channels": self.first_channel, "messages": self.first_message}
        return firsts[table]

    def first_ids(self, tables: Collection[str]) -> dict[str, int]:
        """Return the first ids of those of ``tables`` that have ids, as ``--first-ids`` takes them."""
        return {table: self.first(table) for table in WITH_IDS if table in tables}

    def to_json(self) -> str:
        """Return the placement as one JSON object; :meth:`from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the placement that :meth:`to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        values["reactions"] = tuple(values["reactions"])
        values["uuids"] = tuple(values.get("uuids", ()))
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What a run takes from a sequence, with the state of the sequence before: all that giving it back needs.

    ``table`` is bulkseed's name of the table whose ``column`` has the values, ``sequence`` a name in SQL. ``last`` and
    ``is_called`` are the state before, as PostgreSQL has them in the sequence, and ``highest`` is the highest value
    that the column had. ``end`` is the last reserved value; None where each row takes the next value, since the
    column is left to its default.
    """

    table: str
    column: str
    sequence: str
    last: int
    is_called: bool
    highest: int = 0
    end: int | None = None
