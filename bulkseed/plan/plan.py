"""The plan: one frozen value from which, with its placement, every row of a run follows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, Self

from bulkseed.errors import InputError
from bulkseed.plan.scenario import Scenario, check_parameters, parameter
from bulkseed.plan.tables import Model

__all__ = ["EPOCH", "Placement", "Plan", "Probabilities", "microseconds", "parse_as_of", "scaled_counts"]

COUNTS_AT_1X: Final = {"users": 20, "channels": 10, "messages_per_channel": 20}

MOST_USERS: Final = 2_000_000_000
"""Draws below a bound use 32 bits (draws.below)."""
MOST_MESSAGES: Final = 10**12
"""Far below where bigint ids or the counters of the streams would end."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST_YEAR: Final = 1900
SCALE: Final = re.compile(r"(?P<factor>[0-9]{1,18}(\.[0-9]{1,9})?|\.[0-9]{1,9})[xX]?")


def microseconds(moment: datetime) -> int:
    """Whole microseconds from 1970-01-01 UTC to ``moment`` (which must be aware)."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def scaled_counts(scale: str, at_1x: Mapping[str, int] | None = None) -> dict[str, int]:
    """The three counts for ``scale``: ``100x``, ``100`` or ``2.5x``, rounded half up; ``at_1x`` where not rules.md's.

    Raises InputError for anything that is not a positive decimal number.
    """
    match = SCALE.fullmatch(scale.strip())
    if match is None or Decimal(match["factor"]) == 0:
        raise InputError(
            f"the scale {scale!r} is not a positive number such as 100x, 100 or 2.5x: give --scale one of that form"
        )
    factor = Decimal(match["factor"])

    def scaled(at_1x: int, least: int) -> int:
        return max(least, int((at_1x * factor).quantize(Decimal(1), rounding=ROUND_HALF_UP)))

    counts = COUNTS_AT_1X | dict(at_1x or {})
    return {name: scaled(count, 2 if name == "users" else 1) for name, count in counts.items()}


def parse_as_of(text: str, now: datetime) -> datetime:
    """The moment that ``text`` names (ISO 8601; UTC where no zone is given), not after ``now``.

    Raises InputError where it is malformed, in the future, or before 1900.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError(
            f"the moment {text!r} is not a date or time that can be read: "
            "give --as-of in ISO 8601, such as 2026-06-01 or 2026-06-01T12:30:00Z"
        ) from None
    if moment.year < EARLIEST_YEAR:
        raise InputError(f"the moment {text!r} is too early: give --as-of a time from the year {EARLIEST_YEAR} on")
    if moment > now:
        raise InputError(
            f"the moment {text!r} is in the future: give --as-of a time not after now, {now:%Y-%m-%dT%H:%M:%SZ}"
        )
    return moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Probabilities:
    """The probabilities of rules.md, by the name of what they decide."""

    user_active: float = parameter(0.90, 0, 1, "share of users with is_active")
    channel_dm: float = parameter(0.30, 0, 1, "share of channels that are DMs, of any size")
    channel_private: float = parameter(0.40, 0, 1, "share of the other channels that are private")
    message_paragraph: float = parameter(
        0.40, 0, 1, "share of top-level messages that are paragraphs; the others are sentences"
    )
    message_reply: float = parameter(0.20, 0, 1, "share of top-level messages that get replies")
    message_reactions: float = parameter(0.40, 0, 1, "share of messages, replies too, that get reactions (1 to 3)")

    def __post_init__(self) -> None:
        check_parameters(self, "the probability")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run makes: counts, probabilities, seed, as_of, locale and scenario.

    ``as_of`` is an aware UTC datetime; ``max_members`` caps the members of a regular channel (rule M2).
    Raises InputError where the values contradict each other or rules.md.
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
                raise InputError(f"{value} {noun} cannot make a workspace: give --{option} {least} or more")
        if self.max_members is not None and self.max_members < 2:
            raise InputError(
                f"--max-members {self.max_members} is too few: every channel has two members, so give 2 or more"
            )
        if self.users > MOST_USERS or self.channels * self.messages_per_channel > MOST_MESSAGES:
            raise InputError(
                f"{self.users:,} users and {self.channels * self.messages_per_channel:,} messages are more than "
                f"one run can make: stay within {MOST_USERS:,} users and {MOST_MESSAGES:,} messages"
            )
        if self.as_of.tzinfo is None:
            raise InputError("as_of has no time zone: give an aware datetime, such as datetime.now(UTC)")

    @property
    def history_start(self) -> datetime:
        """No row is older: 1 January, 00:00 UTC, of the year of as_of, or as far back as the shape says."""
        shape = self.scenario.shape
        if shape.history:
            return self.as_of - timedelta(days=shape.history_days)
        return datetime(self.as_of.astimezone(UTC).year, 1, 1, tzinfo=UTC)

    @property
    def model(self) -> Model:
        """The tables that its scenario fills."""
        return Model(self.scenario)

    @property
    def latest_signup(self) -> datetime:
        """No account and no channel is younger: as_of, or earlier where the shape has idle users."""
        return self.as_of - timedelta(days=self.scenario.shape.settled_days)

    @property
    def idle_since(self) -> datetime:
        """From when on idle users write nothing."""
        return self.as_of - timedelta(days=self.scenario.shape.idle_days)

    @property
    def largest_channel(self) -> int:
        """The most members that a regular channel can have (rule M2)."""
        return self.users if self.max_members is None else min(self.users, self.max_members)

    @property
    def top_level_messages(self) -> int:
        """Messages before replies, over all channels."""
        return self.channels * self.messages_per_channel

    def to_json(self) -> str:
        """The plan as one JSON object; :meth:`from_json` reads it back to an equal plan."""
        values = {"as_of": self.as_of.isoformat(), "scenario": self.scenario.to_values()}
        return json.dumps(asdict(self) | values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The plan that :meth:`to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        values["as_of"] = datetime.fromisoformat(values["as_of"])
        values["probabilities"] = Probabilities(**values["probabilities"])
        # a plan of before there were scenarios has none
        values["scenario"] = Scenario.from_values(values.get("scenario", {}))
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where in a target a plan's rows go: with the plan, all that the rows depend on.

    ``first_*`` are the first free ids; the rows of a table have ids without gaps from there.
    ``reactions`` are the ids of the catalogue's system reactions, in ascending order (rule R2).
    ``variant`` is 0, or counts up until no e-mail, auth0_id or join code meets one that the target
    already has (rules U2 and C5). ``uuids`` are the tables whose ids are UUIDs there, which stand for ours.
    """

    first_user: int
    first_channel: int
    first_message: int
    reactions: tuple[int | str, ...]
    variant: int = 0
    uuids: tuple[str, ...] = ()

    def first(self, table: str) -> int:
        """The first id of a table that has ids of its own."""
        firsts = {"users": self.first_user, "channels": self.first_channel, "messages": self.first_message}
        return firsts[table]

    def to_json(self) -> str:
        """The placement as one JSON object; :meth:`from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The placement that :meth:`to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        values["reactions"] = tuple(values["reactions"])
        values["uuids"] = tuple(values.get("uuids", ()))
        return cls(**values)
