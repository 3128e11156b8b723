"""How active channels and users are: ranks, sizes and weights; and the rows and bytes that are expected of a plan.

The largest ranks are regular channels, then come group DMs, then DMs: how many of each is exact. All of it follows
from the plan alone, so that shards can be cut and ids be known before any row is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from bulkseed.plan.plan import Plan
from bulkseed.plan.scenario import Shape
from bulkseed.randomness.distributions import apportioned, rank_weights, whole_weights
from bulkseed.randomness.draws import KEY_WORDS, Bools, Ints, Streams, Words, between, permute

__all__ = [
    "LARGEST_GROUP_DM",
    "SMALLEST_GROUP_DM",
    "Ranking",
    "UserActivity",
    "expected_bytes",
    "expected_channel_rows",
    "expected_rows",
    "ranking_of",
    "user_activity_of",
]

SMALLEST_GROUP_DM: Final = 3
LARGEST_GROUP_DM: Final = 8

NO_USER: Final = 0
"""In place of the run's first user id, which the streams are keyed by: a plan has ranks before it has ids."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The channels of a plan by rank: ``rank`` has that of each channel, from 0.

    Ranks below ``regular`` are of regular channels, the next ``groups`` of group DMs, the others of DMs of two.
    By rank, ``messages`` has the top-level messages; and of the regular channels ``private`` says which are, and
    ``sizes`` has the members (0 where they are drawn).
    """

    rank: Ints
    regular: int
    groups: int
    messages: Ints
    private: Bools
    sizes: Ints

    @property
    def dms(self) -> int:
        """DMs of any size."""
        return len(self.rank) - self.regular


def rounded(share: float, of: int) -> int:
    return int(share * of + 0.5)


@lru_cache(maxsize=4)
def ranking_of(plan: Plan) -> Ranking | None:
    """The ranks of the channels of ``plan``; None where its shape has none."""
    shape, chances, channels = plan.scenario.shape, plan.probabilities, plan.channels
    if not shape.ranked:
        return None
    dms = min(rounded(chances.channel_dm, channels), channels - (shape.viral > 0))
    regular = channels - dms
    groups = rounded(shape.group_dms, dms) if plan.users >= SMALLEST_GROUP_DM else 0
    # the busiest channel of all is the first: a load that begins with its longest shard ends soonest
    return Ranking(
        rank=np.concatenate([[0], 1 + shuffled(plan, "rank", channels - 1)]),
        regular=regular,
        groups=groups,
        messages=messages_by_rank(plan),
        private=shuffled(plan, "rank.private", regular) < rounded(chances.channel_private, regular),
        sizes=sizes_by_rank(plan, regular),
    )


def shuffled(plan: Plan, column: str, count: int) -> Ints:
    """A keyed permutation of [0, ``count``)."""
    keys = Streams(plan.seed, NO_USER).words("channels", column, 0, KEY_WORDS).reshape(1, KEY_WORDS)
    places = np.arange(count)
    return permute(places, count, keys, np.zeros_like(places))


def messages_by_rank(plan: Plan) -> Ints:
    """The top-level messages of each rank; they are all of the plan's."""
    shape, total = plan.scenario.shape, plan.top_level_messages
    if not shape.viral:
        return apportioned(total, rank_weights(plan.channels, shape.channel_activity))
    if plan.channels == 1:
        return np.array([total])
    first = rounded(shape.viral, total)
    others = apportioned(total - first, rank_weights(plan.channels - 1, shape.channel_activity))
    return np.concatenate([[first], others])


def sizes_by_rank(plan: Plan, regular: int) -> Ints:
    """The members of the regular channels; 0 where they are drawn (rule M2)."""
    shape = plan.scenario.shape
    sizes = np.zeros(regular, dtype=np.int64)
    viral = shape.viral > 0
    if shape.channel_sizes:
        shares = rank_weights(regular - viral, shape.channel_sizes)
        full = max(1, rounded(shape.everyone, len(shares)))
        shares = np.minimum(shares / shares[full - 1 : full], 1)
        sizes[viral:] = np.maximum(np.floor(plan.largest_channel * shares + 0.5), 2)
    if viral:
        sizes[0] = plan.users
    return sizes


@dataclass(frozen=True, slots=True)
class UserActivity:
    """What is known of each user, by ordinal: the ``weight`` of what they write, and whether they are ``idle``.

    ``reached`` has the sum of the weights of all users before each, and at last that of all.
    """

    weight: Ints
    reached: Ints
    idle: Bools

    def drawn(self, words: Words) -> Ints:
        """Users in proportion to their weights."""
        nothing = np.zeros(len(words), dtype=np.int64)
        return self.at(between(words, nothing, int(self.reached[-1]) - 1))

    def others(self, words: Words, users: Ints) -> Ints:
        """For each of ``users`` another one, in proportion to the weights."""
        weight = self.weight[users]
        place = between(words, np.zeros(len(words), dtype=np.int64), self.reached[-1] - weight - 1)
        return self.at(place + np.where(place >= self.reached[users], weight, 0))

    def at(self, places: Ints) -> Ints:
        return np.searchsorted(self.reached, places, side="right") - 1


def user_activity_of(streams: Streams, users: int, shape: Shape) -> UserActivity | None:
    """The crowd of a run's users; None where all are alike. It takes 17 bytes a user.

    A user's rank is their place in a keyed permutation; the idle are the last ranks, as many as the shape says.
    """
    if not (shape.user_activity or shape.idle):
        return None
    keys = streams.words("users", "activity", 0, KEY_WORDS).reshape(1, KEY_WORDS)
    places = np.arange(users)
    rank = permute(places, users, keys, np.zeros_like(places))
    weight = whole_weights(users, shape.user_activity)[rank]
    idle = rank >= users - int(shape.idle * users + 0.5)
    return UserActivity(weight, np.concatenate([[0], np.cumsum(weight)]), idle)


REACTIONS_PER_REACTED_MESSAGE: Final = 2
"""The mean of 1..3 (rule R1)."""

BYTES_PER_ROW: Final = {
    "users": 500,
    "channels": 275,
    "user_channels": 100,
    "messages": 210,
    "message_reactions": 112,
}
"""Heap and indexes of the reference schema, en_US."""
BYTES_PER_OTHER_ROW: Final = 150
"""A guess: a short row with two indexes."""


def expected_rows(plan: Plan) -> dict[str, float]:
    """The expected number of rows of each table, in dependency order (rules C1, M1, M2, G4, R1)."""
    messages = plan.top_level_messages * (1 + replies_per_message(plan))
    rows = {
        "users": float(plan.users),
        "channels": float(plan.channels),
        "user_channels": expected_members(plan),
        "messages": messages,
        "message_reactions": messages * reactions_per_message(plan),
    }
    model = plan.model
    for table in model.all_tables():
        if (extra := model.extras.get(table.name)) is not None:
            rows[extra.name] = rows[extra.follows] * extra.rows_per_parent
    return {name: rows[name] for name in model.names}


def replies_per_message(plan: Plan) -> float:
    return plan.probabilities.message_reply * plan.scenario.shape.replies_per_thread


def reactions_per_message(plan: Plan) -> float:
    return plan.probabilities.message_reactions * REACTIONS_PER_REACTED_MESSAGE


def regular_members(plan: Plan) -> float:
    return (2 + plan.largest_channel) / 2


def expected_members(plan: Plan) -> float:
    ranking = ranking_of(plan)
    if ranking is not None:
        return float(members_by_rank(plan, ranking).sum())
    dm = plan.probabilities.channel_dm
    return plan.channels * (dm * 2 + (1 - dm) * regular_members(plan))


def members_by_rank(plan: Plan, ranking: Ranking) -> npt.NDArray[np.float64]:
    members = np.full(plan.channels, 2.0)
    members[: ranking.regular] = np.where(ranking.sizes > 0, ranking.sizes, regular_members(plan))
    group = (SMALLEST_GROUP_DM + min(LARGEST_GROUP_DM, plan.users)) / 2
    members[ranking.regular : ranking.regular + ranking.groups] = group
    return members


def expected_channel_rows(plan: Plan) -> npt.NDArray[np.float64] | None:
    """The expected rows of each channel with all that is in it: shape ``(channels,)``; None where all are alike."""
    ranking = ranking_of(plan)
    if ranking is None:
        return None
    per_message = (1 + replies_per_message(plan)) * (1 + reactions_per_message(plan))
    by_rank = 1 + members_by_rank(plan, ranking) + ranking.messages * per_message
    return by_rank[ranking.rank]


def expected_bytes(plan: Plan) -> dict[str, float]:
    """The expected bytes on disk of each table's rows with their indexes (the reference schema, en_US)."""
    return {table: rows * BYTES_PER_ROW.get(table, BYTES_PER_OTHER_ROW) for table, rows in expected_rows(plan).items()}
