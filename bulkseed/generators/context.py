"""What all the generators of a run share: pure functions of its plan and placement, worked out once."""

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

__all__ = ["BATCH_ROWS", "MOST_BATCH_ROWS", "ChannelBlock", "Context", "channel_block"]

BATCH_ROWS: Final = 16_384
"""Rows that a batch is made for; with replies and reactions it may hold more."""

MOST_BATCH_ROWS: Final = 65_536
"""Rows that a batch holds at most."""


@dataclass(frozen=True)
class Context:
    """A plan, where its rows go, and what is known of its locale.

    Times are microseconds since 1970 UTC, users and channels ordinals from 0.
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
        """The hours of messages; None where all hours are alike."""
        return None if self.shape.even_week else Week(self.shape.office_hours, self.shape.weekends)

    @cached_property
    def layout(self) -> MessageLayout:
        plan = self.plan
        return MessageLayout(
            self.streams, plan.top_level_messages, plan.probabilities.message_reply, self.shape.most_replies
        )

    @cached_property
    def messages_before(self) -> Ints | None:
        """The top-level messages of the channels before each, and at last all; None where each has as many."""
        ranking = self.ranking
        return None if ranking is None else np.concatenate([[0], np.cumsum(ranking.messages[ranking.rank])])

    def top_level(self, channel: int) -> int:
        """The top-level messages of the channels before ``channel``."""
        before = self.messages_before
        return channel * self.plan.messages_per_channel if before is None else int(before[channel])

    @cached_property
    def as_of(self) -> int:
        return microseconds(self.plan.as_of)

    @cached_property
    def latest_signup(self) -> int:
        """The last moment at which accounts and channels are made."""
        return microseconds(self.plan.latest_signup)

    @cached_property
    def idle_since(self) -> int:
        """From when on idle users write nothing."""
        return microseconds(self.plan.idle_since)

    @cached_property
    def user_created(self) -> Ints:
        """When each user's account was made (rule U4): 8 bytes a user, the only thing kept for all of them."""
        words = self.streams.words("users", "created_at", 0, self.plan.users)
        return between(words, np.full(len(words), microseconds(self.plan.history_start)), self.latest_signup)

    @cached_property
    def channel_created(self) -> Ints:
        """When each channel was made (rule C4): 8 bytes a channel, for what points at channels of any shard."""
        return self.since(0, self.owners(0, self.plan.channels))

    def owners(self, start: int, count: int) -> Ints:
        """The owners of ``count`` channels from ``start``: ordinals."""
        words = self.streams.words("channels", "owner_id", start, count)
        return below(words, self.plan.users) if self.user_activity is None else self.user_activity.draw(words)

    def since(self, start: int, owners: Ints) -> Ints:
        """When the channels from ``start`` were made, whose ``owners`` these are."""
        words = self.streams.words("channels", "created_at", start, len(owners))
        return between(words, self.user_created[owners], self.latest_signup)

    def created(self, table: str, ordinals: Ints) -> Ints:
        """When the users or channels of these ordinals were made."""
        return self.user_created[ordinals] if table == "users" else self.channel_created[ordinals]

    def count(self, table: str) -> int:
        """How many users, channels or messages there are."""
        if table == "messages":
            return self.layout.messages
        return self.plan.users if table == "users" else self.plan.channels


@dataclass(frozen=True, slots=True)
class ChannelBlock:
    """The channels of a shard: one entry a channel, and the members of all of them one after the other.

    ``members`` are user ordinals; those of channel i are ``members[offsets[i]:offsets[i + 1]]``, the owner first.
    Where users differ, ``cumulative_weights`` has the sum of the weights of all members before each, and at last that
    of all, and ``max_weight`` the largest weight of each channel.
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
        """The channel after the last one."""
        return self.start + len(self.owner)

    @property
    def sizes(self) -> Ints:
        """Members of each channel."""
        return np.diff(self.offsets)


def channel_block(context: Context, shard: Shard) -> ChannelBlock:
    """The channels of ``shard`` with their members (rules C1, C4, M1, M2, M3)."""
    plan, streams, crowd = context.plan, context.streams, context.user_activity
    start, count = shard.start, shard.stop - shard.start
    is_dm, is_private, sizes = kinds(context, start, count)
    owner = context.owners(start, count)
    created = context.since(start, owner)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    channel = np.repeat(np.arange(count), sizes)
    place = np.arange(len(channel)) - offsets[channel]
    keys = streams.words("user_channels", "order", start * KEY_WORDS, count * KEY_WORDS).reshape(-1, KEY_WORDS)
    others = np.flatnonzero(place)
    members = owner[channel]
    picked = permute(place[others] - 1, plan.users - 1, keys, channel[others])
    # the permutation is of the users without the owner
    members[others] = picked + (picked >= owner[channel[others]])
    if crowd is None:
        return ChannelBlock(start, owner, created, is_dm, is_dm | is_private, offsets, members)
    # who talks with whom goes by how much they write: else the least active would answer the most active all the time
    pairs = is_dm & (sizes == 2)
    other_words = streams.words("user_channels", "other", start, count)
    members[offsets[:-1][pairs] + 1] = crowd.draw_others(other_words[pairs], owner[pairs])
    weights = np.where(pairs[channel], 1, crowd.weight[members])
    cumulative_weights = np.concatenate([[0], np.cumsum(weights)])
    max_weight = np.maximum.reduceat(weights, offsets[:-1])
    return ChannelBlock(
        start, owner, created, is_dm, is_dm | is_private, offsets, members, cumulative_weights, max_weight
    )


def kinds(context: Context, start: int, count: int) -> tuple[Bools, Bools, Ints]:
    """Of ``count`` channels from ``start``: are they DMs, are the regular ones private, how many members they have."""
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
