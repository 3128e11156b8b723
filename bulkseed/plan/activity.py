"""The activity of channels and users (ranks, sizes, weights), and the expected rows and bytes of a plan.

The first ranks are regular channels, the next ones group DMs, the last ones DMs; the number of each is exact. All of
this follows from the plan alone, so that shards can be split and ids be known before any row is generated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from bulkseed.plan.plan import Plan
from bulkseed.plan.scenario import Shape
from bulkseed.randomness.distributions import apportion, rank_weights, whole_weights
from bulkseed.randomness.draws import KEY_WORDS, Bools, Ints, Streams, Words, between, permute

__all__ = [
    "LARGEST_GROUP_DM",
    "MOST_REACTIONS",
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
MOST_REACTIONS: Final = 3
"""The most reactions to a message (rule R1)."""

NO_USER: Final = 0
"""Takes the place of the run's first user id in the keys of streams: a plan has ranks before it has ids."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The ranks of a plan's channels.

    ``rank`` is the rank of each channel, from 0: shape ``(channels,)``. Ranks below ``regular`` are regular channels,
    the next ``groups`` ranks are group DMs, and the rest are DMs of two members. ``messages`` is the number of
    top-level messages by rank: shape ``(channels,)``. ``private`` (whether the channel is private) and ``sizes`` (its
    members; 0 where the number is drawn) are by rank of the regular channels: shape ``(regular,)``.
    """

    rank: Ints
    regular: int
    groups: int
    messages: Ints
    private: Bools
    sizes: Ints

    @property
    def dms(self) -> int:
        """The number of DMs, of any size."""
        return len(self.rank) - self.regular


def rounded_share(share: float, total: int) -> int:
    return int(share * total + 0.5)


@lru_cache(maxsize=4)
def ranking_of(plan: Plan) -> Ranking | None:
    """Return the ranks of the channels of ``plan``; None where its shape does not rank channels."""
    shape, chances, channels = plan.scenario.shape, plan.probabilities, plan.channels
    if not shape.is_ranked:
        return None
    dms = min(rounded_share(chances.channel_dm, channels), channels - (shape.viral > 0))
    regular = channels - dms
    groups = rounded_share(shape.group_dms, dms) if plan.users >= SMALLEST_GROUP_DM else 0
    # the busiest channel comes first: a load that begins with its longest shard ends soonest
    return Ranking(
        rank=np.concatenate([[0], 1 + keyed_permutation(plan, "rank", channels - 1)]),
        regular=regular,
        groups=groups,
        messages=messages_by_rank(plan),
        private=keyed_permutation(plan, "rank.private", regular) < rounded_share(chances.channel_private, regular),
        sizes=sizes_by_rank(plan, regular),
    )


def keyed_permutation(plan: Plan, column: str, count: int) -> Ints:
    """Return a keyed permutation of [0, ``count``): shape ``(count,)``."""
    keys = Streams(plan.seed, NO_USER).words("channels", column, 0, KEY_WORDS).reshape(1, KEY_WORDS)
    indexes = np.arange(count)
    return permute(indexes, count, keys, np.zeros_like(indexes))


def messages_by_rank(plan: Plan) -> Ints:
    """Return the top-level messages of each rank: shape ``(channels,)``; their sum is the plan's total."""
    shape, total = plan.scenario.shape, plan.top_level_messages
    if not shape.viral:
        return apportion(total, rank_weights(plan.channels, shape.channel_activity))
    if plan.channels == 1:
        return np.array([total])
    first = rounded_share(shape.viral, total)
    others = apportion(total - first, rank_weights(plan.channels - 1, shape.channel_activity))
    return np.concatenate([[first], others])


def sizes_by_rank(plan: Plan, regular: int) -> Ints:
    """Return the members of each regular channel by rank: shape ``(regular,)``; 0 where they are drawn (rule M2)."""
    shape = plan.scenario.shape
    sizes = np.zeros(regular, dtype=np.int64)
    viral = shape.viral > 0
    if shape.channel_sizes:
        shares = rank_weights(regular - viral, shape.channel_sizes)
        of_everyone = max(1, rounded_share(shape.everyone, len(shares)))
        shares = np.minimum(shares / shares[of_everyone - 1 : of_everyone], 1)
        sizes[viral:] = np.maximum(np.floor(plan.largest_channel * shares + 0.5), 2)
    if viral:
        sizes[0] = plan.users
    return sizes


@dataclass(frozen=True, slots=True)
class UserActivity:
    """The activity of a run's users, by ordinal.

    ``weight`` is in proportion to the messages that a user writes, and ``idle`` says whether the user is idle: shape
    ``(users,)``. ``cumulative_weights`` is the sum of the weights of all users before each one, and last the total:
    shape ``(users + 1,)``.
    """

    weight: Ints
    cumulative_weights: Ints
    idle: Bools

    def draw(self, words: Words, existing: Ints) -> Ints:
        """Return one of the first ``existing`` users for each word, in proportion to the weights: ordinals."""
        totals = self.cumulative_weights[existing]
        return self.find(between(words, np.zeros_like(totals), totals - 1))

    def draw_others(self, words: Words, users: Ints, existing: Ints) -> Ints:
        """Return another one of the first ``existing`` users than ``users``, in proportion to the weights."""
        weight = self.weight[users]
        totals = self.cumulative_weights[existing] - weight
        point = between(words, np.zeros_like(totals), totals - 1)
        return self.find(point + np.where(point >= self.cumulative_weights[users], weight, 0))

    def find(self, points: Ints) -> Ints:
        """Return the users in whose intervals of the cumulative weights ``points`` lie."""
        return np.searchsorted(self.cumulative_weights, points, side="right") - 1


def user_activity_of(streams: Streams, users: int, shape: Shape) -> UserActivity | None:
    """Return the activity of a run's users (17 bytes each); None where all users are equally active.

    A user's rank is the user's value in a keyed permutation. The idle users are the last ranks; the shape says how many
    there are.
    """
    if not (shape.user_activity or shape.idle):
        return None
    keys = streams.words("users", "activity", 0, KEY_WORDS).reshape(1, KEY_WORDS)
    ordinals = np.arange(users)
    rank = permute(ordinals, users, keys, np.zeros_like(ordinals))
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
"""Bytes of heap and indexes in the reference schema, en_US."""
BYTES_PER_OTHER_ROW: Final = 150
"""An estimate for any other table: a short row with two indexes."""


def expected_rows(plan: Plan) -> dict[str, float]:
    """Return the expected number of rows of each table, in dependency order (rules C1, M1, M2, G4, R1)."""
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
    """Return the expected rows of each channel and its members: shape ``(channels,)``; None where all are equal."""
    ranking = ranking_of(plan)
    if ranking is None:
        return None
    by_rank = 1 + members_by_rank(plan, ranking)
    return by_rank[ranking.rank]


def expected_bytes(plan: Plan) -> dict[str, float]:
    """Return the expected bytes on disk of each table's rows and their indexes (the reference schema, en_US)."""
    return {table: rows * BYTES_PER_ROW.get(table, BYTES_PER_OTHER_ROW) for table, rows in expected_rows(plan).items()}
