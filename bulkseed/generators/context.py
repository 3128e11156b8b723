"""Values that all generators of a run share: pure functions of its plan and placement, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from bulkseed.generators.authors import Authors, make_weights
from bulkseed.generators.conversation import CHUNK, History
from bulkseed.generators.timeline import make_timeline
from bulkseed.generators.workspace import REPLY_LATEST, Workspace, make_workspace
from bulkseed.plan.activity import Ranking, UserActivity, ranking_of, user_activity_of
from bulkseed.plan.plan import Placement, Plan, microseconds
from bulkseed.plan.scenario import Shape
from bulkseed.plan.shards import MessageLayout, Shard
from bulkseed.plan.slices import slice_boundaries, week_of
from bulkseed.randomness.draws import Bools, Ints, Streams
from bulkseed.text.names import Corpus
from bulkseed.text.prose import Prose

__all__ = ["BATCH_ROWS", "MOST_BATCH_ROWS", "ChannelBlock", "Context", "channel_block"]

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
    def layout(self) -> MessageLayout:
        plan = self.plan
        return MessageLayout(
            self.streams, plan.top_level_messages, plan.probabilities.message_reply, self.shape.most_replies
        )

    @cached_property
    def as_of(self) -> int:
        return microseconds(self.plan.as_of)

    @cached_property
    def workspace(self) -> Workspace:
        """The users and channels of the run."""
        return make_workspace(self.plan, self.streams, self.ranking, self.user_activity)

    @property
    def user_created(self) -> Ints:
        """The creation time of each user (rule U4)."""
        return self.workspace.members.user_created

    @property
    def channel_created(self) -> Ints:
        """The creation time of each channel (rule C4)."""
        return self.workspace.members.created

    @cached_property
    def history(self) -> History:
        """What the messages of the run follow from."""
        plan, streams, workspace, ranking = self.plan, self.streams, self.workspace, self.ranking
        counts = np.full(plan.channels, plan.messages_per_channel)
        if ranking is not None:
            counts = ranking.messages[ranking.rank]
        members, week = workspace.members, week_of(self.shape)
        timeline = make_timeline(members.began, workspace.ends, counts, week, streams.key("messages", "created_at"))
        idle_from = microseconds(plan.idle_since) - REPLY_LATEST
        weights = None
        if self.user_activity is not None:
            weights = make_weights(members, workspace.pairs, self.user_activity, idle_from)
        keys = streams.key("messages", "user_id"), streams.key("messages", "reply.user_id")
        authors = Authors(members, weights, keys)
        return History(streams, timeline, authors, self.layout, self.as_of, slice_boundaries(plan, CHUNK))

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
    ``joined`` is since when they are members, in microseconds since 1970.
    """

    start: int
    owner: Ints
    created: Ints
    is_dm: Bools
    is_private: Bools
    offsets: Ints
    members: Ints
    joined: Ints


def channel_block(context: Context, shard: Shard) -> ChannelBlock:
    """Return the channels of ``shard`` with their members (rules C1, C4, M1 to M4, T4)."""
    workspace, rows = context.workspace, slice(shard.start, shard.stop)
    members = workspace.members
    sizes = members.sizes[rows]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    channel = np.repeat(np.arange(shard.start, shard.stop), sizes)
    index = np.arange(len(channel)) - offsets[channel - shard.start]
    user = members.users(channel, index)
    return ChannelBlock(
        shard.start,
        members.owner[rows],
        members.created[rows],
        workspace.is_dm[rows],
        workspace.is_private[rows],
        offsets,
        user,
        members.joined(channel, index, user),
    )
