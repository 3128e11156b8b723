"""Values that all generators of a run share: pure functions of its plan and placement, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from bulkseed.plan.activity import (
    LARGEST_GROUP_DM,
    SMALLEST_GROUP_DM,
    Ranking,
    UserActivity,
    ranking_of,
    user_activity_of,
)
from bulkseed.plan.plan import Placement, Plan, microseconds
from bulkseed.plan.scenario import Shape
from bulkseed.plan.shards import MessageLayout, Shard
from bulkseed.randomness.distributions import Week
from bulkseed.randomness.draws import KEY_WORDS, Bools, Ints, Streams, below, between, chance, permute
from bulkseed.text.names import Corpus
from bulkseed.text.prose import Prose

__all__ = ["BATCH_ROWS", "MOST_BATCH_ROWS", "ChannelBlock", "Context", "channel_block", "channel_kinds"]

BATCH_ROWS: Final = 16_384
"""The rows of a batch; with replies and reactions it may have more."""

MOST_BATCH_ROWS: Final = 65_536
"""The most rows of a batch."""


@dataclass(frozen=True)
class Context:
    """A plan, its placement and the corpus of its locale, and values that follow from these.

    Times are microseconds since 1970 UTC; users and channels are ordinals from 0.
    """

    plan: Plan
    placement: Placement
    corpus: Corpus

    @cached_property
    def streams(self) -> Streams:
        return Streams(self.plan.seed, self.placement.first_user)

    @cached_property
    def prose(self) -> Prose:
        return Prose(self.corpus.lorem, self.streams)

    @property
    def shape(self) -> Shape:
        return self.plan.scenario.shape

    @cached_property
    def ranking(self) -> Ranking | None:
        return ranking_of(self.plan)

    @cached_property
    def user_activity(self) -> UserActivity | None:
        return user_activity_of(self.streams, self.plan.users, self.shape)

    @cached_property
    def week(self) -> Week | None:
        """The distribution of messages over the hours of a week; None where all hours are equal."""
        return None if self.shape.even_week else Week(self.shape.office_hours, self.shape.weekends)

    @cached_property
    def layout(self) -> MessageLayout:
        plan = self.plan
        return MessageLayout(
            self.streams, plan.top_level_messages, plan.probabilities.message_reply, self.shape.most_replies
        )

    @cached_property
    def messages_before(self) -> Ints | None:
        """The top-level messages before each channel, and last the total; None where all channels have equally many."""
        ranking = self.ranking
        return None if ranking is None else np.concatenate([[0], np.cumsum(ranking.messages[ranking.rank])])

    def top_level(self, channel: int) -> int:
        """Return the number of the first top-level message of ``channel``."""
        before = self.messages_before
        return channel * self.plan.messages_per_channel if before is None else int(before[channel])

    @cached_property
    def as_of(self) -> int:
        return microseconds(self.plan.as_of)

    @cached_property
    def latest_signup(self) -> int:
        """The latest creation time of users and channels."""
        return microseconds(self.plan.latest_signup)

    @cached_property
    def idle_since(self) -> int:
        """The time after which idle users write nothing."""
        return microseconds(self.plan.idle_since)

    @cached_property
    def user_created(self) -> Ints:
        """The creation time of each user (rule U4): 8 bytes a user."""
        words = self.streams.words("users", "created_at", 0, self.plan.users)
        return between(words, np.full(len(words), microseconds(self.plan.history_start)), self.latest_signup)

    @cached_property
    def channel_created(self) -> Ints:
        """The creation time of each channel (rule C4), for references to channels of any shard: 8 bytes a channel."""
        return self.channel_creation_times(0, self.owners(0, self.plan.channels))

    def owners(self, start: int, count: int) -> Ints:
        """Return the owners of ``count`` channels from ``start``: ordinals, shape ``(count,)``."""
        words = self.streams.words("channels", "owner_id", start, count)
        return below(words, self.plan.users) if self.user_activity is None else self.user_activity.draw(words)

    def channel_creation_times(self, start: int, owners: Ints) -> Ints:
        """Return the creation times of the channels from ``start``, whose ``owners`` are given: shape of ``owners``."""
        words = self.streams.words("channels", "created_at", start, len(owners))
        return between(words, self.user_created[owners], self.latest_signup)

    def creation_times(self, table: str, ordinals: Ints) -> Ints:
        """Return the creation times of the users or channels with these ordinals: shape of ``ordinals``."""
        return self.user_created[ordinals] if table == "users" else self.channel_created[ordinals]

    def count(self, table: str) -> int:
        """Return the number of users, channels or messages."""
        if table == "messages":
            return self.layout.messages
        return self.plan.users if table == "users" else self.plan.channels

    def ids(self, table: str) -> tuple[int, int]:
        """Return the first and the last id of the users, channels or messages."""
        first = self.placement.first(table)
        return first, first + self.count(table) - 1


@dataclass(frozen=True, slots=True)
class ChannelBlock:
    """The channels of a shard from ordinal ``start`` on: one entry for each channel, and one for each member.

    ``members`` are user ordinals; those of channel i are ``members[offsets[i]:offsets[i + 1]]``, the owner first.
    Where users differ in activity, ``cumulative_weights`` is the sum of the weights of all members before each one,
    and last the total, and ``max_weight`` is the largest weight of each channel; otherwise both are None.
    """

    start: int
    owner: Ints
    created: Ints
    is_dm: Bools
    is_private: Bools
    offsets: Ints
    members: Ints
    cumulative_weights: Ints | None = None
    max_weight: Ints | None = None

    @property
    def stop(self) -> int:
        """The ordinal after that of the last channel."""
        return self.start + len(self.owner)

    @property
    def sizes(self) -> Ints:
        """The number of members of each channel."""
        return np.diff(self.offsets)


def channel_block(context: Context, shard: Shard) -> ChannelBlock:
    """Return the channels of ``shard`` with their members (rules C1, C4, M1, M2, M3)."""
    plan, streams, activity = context.plan, context.streams, context.user_activity
    start, count = shard.start, shard.stop - shard.start
    is_dm, is_private, sizes = channel_kinds(context, start, count)
    owner = context.owners(start, count)
    created = context.channel_creation_times(start, owner)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    channel = np.repeat(np.arange(count), sizes)
    rank = np.arange(len(channel)) - offsets[channel]
    keys = streams.words("user_channels", "order", start * KEY_WORDS, count * KEY_WORDS).reshape(-1, KEY_WORDS)
    others = np.flatnonzero(rank)
    members = owner[channel]
    picked = permute(rank[others] - 1, plan.users - 1, keys, channel[others])
    # the permutation leaves out the owner
    members[others] = picked + (picked >= owner[channel[others]])
    if activity is None:
        return ChannelBlock(start, owner, created, is_dm, is_dm | is_private, offsets, members)
    # active users have DMs with each other: else the least active would reply to the most active all the time
    pairs = is_dm & (sizes == 2)
    other_bits = streams.words("user_channels", "other", start, count)
    members[offsets[:-1][pairs] + 1] = activity.draw_others(other_bits[pairs], owner[pairs])
    weights = np.where(pairs[channel], 1, activity.weight[members])
    cumulative_weights = np.concatenate([[0], np.cumsum(weights)])
    max_weight = np.maximum.reduceat(weights, offsets[:-1])
    return ChannelBlock(
        start, owner, created, is_dm, is_dm | is_private, offsets, members, cumulative_weights, max_weight
    )


def channel_kinds(context: Context, start: int, count: int) -> tuple[Bools, Bools, Ints]:
    """Return three arrays for ``count`` channels from ``start``: is a DM, is private (if regular), members."""
    plan, streams, ranking = context.plan, context.streams, context.ranking
    drawn = 2 + below(streams.words("user_channels", "members", start, count), plan.largest_channel - 1)
    if ranking is None:
        is_dm = chance(streams.words("channels", "is_dm", start, count), plan.probabilities.channel_dm)
        private = chance(streams.words("channels", "is_private", start, count), plan.probabilities.channel_private)
        return is_dm, private, np.where(is_dm, 2, drawn)
    rank = ranking.rank[start : start + count]
    is_dm = rank >= ranking.regular
    regular, group = ~is_dm, is_dm & (rank < ranking.regular + ranking.groups)
    private, sizes = np.zeros(count, dtype=np.bool_), np.full(count, 2)
    private[regular] = ranking.private[rank[regular]]
    sizes[regular] = ranking.sizes[rank[regular]]
    sizes = np.where(sizes > 0, sizes, drawn)
    largest = min(LARGEST_GROUP_DM, plan.users)
    groups = streams.words("user_channels", "group", start, count)[group]
    sizes[group] = SMALLEST_GROUP_DM + below(groups, largest - SMALLEST_GROUP_DM + 1)
    return is_dm, private, sizes
