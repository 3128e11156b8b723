"""The users and channels of a run in order of time: kinds, founders, members and lives of channels (U4, C1 to M4).

Channels are created early in the history, and their owners are the first users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from bulkseed.generators.members import FOUNDERS, Members, make_members
from bulkseed.generators.pairs import choose_pairs, users_needed
from bulkseed.plan.activity import LARGEST_GROUP_DM, SMALLEST_GROUP_DM, Ranking, UserActivity
from bulkseed.plan.plan import Plan, microseconds
from bulkseed.randomness.draws import Bools, Ints, Streams, Words, below, chance, strata
from bulkseed.randomness.keyed import keyed_words

__all__ = ["REPLY_LATEST", "Workspace", "make_workspace"]

REPLY_LATEST: Final = 3_600_000_000
"""Microseconds after its parent (rule G4)."""
TRIES: Final = 64
"""How often founders are drawn again who are idle at last."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """The channels of a run, by ordinal. ``pairs`` are DMs of two, and ``ends`` the last moment of a message."""

    is_dm: Bools
    is_private: Bools
    pairs: Bools
    members: Members
    ends: Ints


def make_workspace(plan: Plan, streams: Streams, ranking: Ranking | None, activity: UserActivity | None) -> Workspace:
    """Return the channels of a plan: about 100 bytes each, and 8 bytes for each user."""
    user_created = user_creation_times(plan, streams)
    is_dm, is_private, sizes = channel_kinds(plan, streams, ranking)
    pairs = is_dm & (sizes == FOUNDERS)
    active = None
    least = users_needed(plan.users, int(pairs.sum()))
    if activity is not None and activity.idle.any() and (~activity.idle).sum() >= FOUNDERS:
        active = np.flatnonzero(~activity.idle)
        least = max(least, int(active[FOUNDERS - 1]) + 1)
    # from then on each DM can have a pair of its own, and each other channel two founders who are not idle
    first = int(user_created[least - 1])
    latest = max(first, microseconds(plan.latest_channel))
    words = streams.words("channels", "created_at", 0, plan.channels)
    created = strata(words, 0, plan.channels, first, latest)
    existing = np.searchsorted(user_created, created, side="right")
    draw = Founders(streams, plan.users, activity, active)
    owner, second = draw.of_channels(existing)
    owner[pairs], second[pairs] = choose_pairs(
        streams.key("user_channels", "pairs"), plan.users, existing[pairs], draw.of_pairs
    )
    phases = tuple(streams.words("user_channels", column, 0, plan.channels) for column in ("phase", "part"))
    keys = streams.key("user_channels", "user_id"), streams.key("user_channels", "joined")
    members = make_members((owner, second), created, sizes, user_created, (phases[0], phases[1]), keys)
    ends = np.full(plan.channels, microseconds(plan.as_of))
    if activity is not None:
        silent = activity.idle[owner] | activity.idle[second]
        ends[silent] = microseconds(plan.idle_since) - REPLY_LATEST
    return Workspace(is_dm, is_private, pairs, members, ends)


def user_creation_times(plan: Plan, streams: Streams) -> Ints:
    """Return the creation time of each user (rule U4): ascending, shape ``(users,)``."""
    words = streams.words("users", "created_at", 0, plan.users)
    return strata(words, 0, plan.users, microseconds(plan.history_start), microseconds(plan.latest_signup))


def channel_kinds(plan: Plan, streams: Streams, ranking: Ranking | None) -> tuple[Bools, Bools, Ints]:
    """Return three arrays for all channels: is a DM, is private, members (rules C1, M1, M2)."""
    count = plan.channels
    drawn = 2 + below(streams.words("user_channels", "members", 0, count), plan.largest_channel - 1)
    if ranking is None:
        is_dm = chance(streams.words("channels", "is_dm", 0, count), plan.probabilities.channel_dm)
        private = chance(streams.words("channels", "is_private", 0, count), plan.probabilities.channel_private)
        return is_dm, is_dm | private, np.where(is_dm, FOUNDERS, drawn)
    rank = ranking.rank
    is_dm = rank >= ranking.regular
    regular, group = ~is_dm, is_dm & (rank < ranking.regular + ranking.groups)
    private, sizes = np.zeros(count, dtype=np.bool_), np.full(count, FOUNDERS)
    private[regular] = ranking.private[rank[regular]]
    sizes[regular] = ranking.sizes[rank[regular]]
    sizes = np.where(sizes > 0, sizes, drawn)
    largest = min(LARGEST_GROUP_DM, plan.users)
    groups = streams.words("user_channels", "group", 0, count)[group]
    sizes[group] = SMALLEST_GROUP_DM + below(groups, largest - SMALLEST_GROUP_DM + 1)
    return is_dm, is_dm | private, sizes


@dataclass(frozen=True, slots=True)
class Founders:
    """Draws the owner and another member of channels, in proportion to the activity of users.

    ``active`` are the users who are not idle, two or more of them, ascending; None where all are alike.
    """

    streams: Streams
    users: int
    activity: UserActivity | None
    active: Ints | None

    def of_channels(self, existing: Ints) -> tuple[Ints, Ints]:
        """Return two users of the first ``existing`` for each channel, who are not idle."""
        key, channel = self.streams.key("channels", "owner_id"), np.arange(len(existing))

        def draw(chosen: Ints, attempt: int) -> tuple[Ints, Ints]:
            words = (keyed_words(key, chosen, 2 * attempt + place) for place in (0, 1))
            owner = self.draw(next(words), existing[chosen])
            return owner, self.draw_other(next(words), owner, existing[chosen])

        owner, second = draw(channel, 0)
        if self.active is None or self.activity is None:
            return owner, second
        wrong = channel
        for attempt in range(1, TRIES + 1):
            wrong = wrong[self.activity.idle[owner[wrong]] | self.activity.idle[second[wrong]]]
            if not len(wrong):
                break
            owner[wrong], second[wrong] = draw(wrong, attempt) if attempt < TRIES else self.active[:FOUNDERS]
        return owner, second

    def of_pairs(self, first: Words, second: Words, existing: Ints) -> tuple[Ints, Ints]:
        """Return the owner of each DM, one of the first ``existing`` users, and any other user."""
        owner = self.draw(first, existing)
        return owner, self.draw_other(second, owner, np.full(len(owner), self.users))

    def draw(self, words: Words, existing: Ints) -> Ints:
        """Return one of the first ``existing`` users for each word, in proportion to the weights."""
        if self.activity is None:
            return below(words, existing)
        return self.activity.draw(words, existing)

    def draw_other(self, words: Words, users: Ints, existing: Ints) -> Ints:
        """Return another one of the first ``existing`` users than ``users``, in proportion to the weights."""
        if self.activity is None:
            other = below(words, existing - 1)
            return other + (other >= users)
        return self.activity.draw_others(words, users, existing)
