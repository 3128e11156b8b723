"""What all the generators of a run share: pure functions of its plan and placement, worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa

from bulkseed.arrays import TIMESTAMP
from bulkseed.corpus import Corpus
from bulkseed.draws import Bools, Ints, below, between, chance
from bulkseed.layout import MessageLayout
from bulkseed.permutation import KEY_WORDS, permute
from bulkseed.plan import Placement, Plan, microseconds
from bulkseed.prose import Prose
from bulkseed.shards import Shard
from bulkseed.streams import Streams

__all__ = ["BATCH_ROWS", "MOST_BATCH_ROWS", "TIMESTAMP", "ChannelBlock", "Context", "channel_block", "times"]

BATCH_ROWS: Final = 16_384
"""Rows that a batch is made for; with replies and reactions it may hold more."""

MOST_BATCH_ROWS: Final = 65_536
"""Rows that a batch holds at most."""


def times(values: Ints) -> pa.TimestampArray:
    """Microseconds since 1970 as Arrow timestamps without zone (UTC)."""
    return pa.array(values).view(TIMESTAMP)


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

    @cached_property
    def layout(self) -> MessageLayout:
        return MessageLayout(self.streams, self.plan.top_level_messages, self.plan.probabilities.message_reply)

    @cached_property
    def as_of(self) -> int:
        return microseconds(self.plan.as_of)

    @cached_property
    def user_created(self) -> Ints:
        """When each user's account was made (rule U4): 8 bytes a user, the only thing kept for all of them."""
        words = self.streams.words("users", "created_at", 0, self.plan.users)
        return between(words, np.full(len(words), microseconds(self.plan.year_start)), self.as_of)

    @cached_property
    def channel_created(self) -> Ints:
        """When each channel was made (rule C4): 8 bytes a channel, for what points at channels of any shard."""
        channels = self.plan.channels
        owner = below(self.streams.words("channels", "owner_id", 0, channels), self.plan.users)
        words = self.streams.words("channels", "created_at", 0, channels)
        return between(words, self.user_created[owner], self.as_of)

    def first(self, table: str) -> int:
        """The first id of users, channels or messages."""
        firsts = {
            "users": self.placement.first_user,
            "channels": self.placement.first_channel,
            "messages": self.placement.first_message,
        }
        return firsts[table]

    def count(self, table: str) -> int:
        """How many users, channels or messages there are."""
        if table == "messages":
            return self.layout.messages
        return self.plan.users if table == "users" else self.plan.channels


@dataclass(frozen=True, slots=True)
class ChannelBlock:
    """The channels of a shard: one entry a channel, and the members of all of them one after the other.

    ``members`` are user ordinals; those of channel i are ``members[offsets[i]:offsets[i + 1]]``, the owner first.
    """

    start: int
    owner: Ints
    created: Ints
    is_dm: Bools
    is_private: Bools
    offsets: Ints
    members: Ints

    @property
    def sizes(self) -> Ints:
        """Members of each channel."""
        return np.diff(self.offsets)


def channel_block(context: Context, shard: Shard) -> ChannelBlock:
    """The channels of ``shard`` with their members (rules C1, C4, M1, M2, M3)."""
    plan, streams = context.plan, context.streams
    start, count = shard.start, shard.stop - shard.start
    is_dm = chance(streams.words("channels", "is_dm", start, count), plan.probabilities.channel_dm)
    private = chance(streams.words("channels", "is_private", start, count), plan.probabilities.channel_private)
    owner = below(streams.words("channels", "owner_id", start, count), plan.users)
    created = between(streams.words("channels", "created_at", start, count), context.user_created[owner], context.as_of)
    drawn = 2 + below(streams.words("user_channels", "members", start, count), plan.largest_channel - 1)
    sizes = np.where(is_dm, 2, drawn)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    channel = np.repeat(np.arange(count), sizes)
    place = np.arange(len(channel)) - offsets[channel]
    keys = streams.words("user_channels", "order", start * KEY_WORDS, count * KEY_WORDS).reshape(-1, KEY_WORDS)
    others = np.flatnonzero(place)
    members = owner[channel]
    picked = permute(place[others] - 1, plan.users - 1, keys, channel[others])
    # the permutation is of the users without the owner
    members[others] = picked + (picked >= owner[channel[others]])
    return ChannelBlock(start, owner, created, is_dm, is_dm | private, offsets, members)
