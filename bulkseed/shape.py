"""The shape of a workspace: what its distributions are, by the name that a scenario file gives each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bulkseed.errors import InputError
from bulkseed.parameters import check_parameters, parameter

__all__ = ["EVEN_OFFICE_HOURS", "EVEN_WEEKENDS", "Shape"]

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
