"""The authors of messages: members who have joined, in proportion to their activity (rules G1, G4 and T4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from bulkseed.generators.members import Members
from bulkseed.plan.activity import UserActivity
from bulkseed.randomness.draws import Bools, Ints, Words, below, between
from bulkseed.randomness.keyed import keyed_words

__all__ = ["Authors", "Drawn", "MemberWeights", "make_weights"]

CHANNELS_AT_A_TIME: Final = 1024
TRIES: Final = 64
"""How often an author is drawn again who is idle by then; after that it is a founder, who never is."""
TRY: Final = 2**32
"""The distance of the numbers by which the draws of one message are keyed."""


class Drawn(NamedTuple):
    """The authors of some messages. ``place`` is their places among the members of the channel.

    ``point`` is the draw on the scale of the weights of those members, and ``present`` the number of members among whom
    replies are drawn.
    """

    place: Ints
    point: Ints
    present: Ints


@dataclass(frozen=True, slots=True)
class MemberWeights:
    """The weights of all members, channel by channel in the order of their places, and who of the users is idle.

    ``cumulative`` is the sum of all weights before each member, and last the total. ``peaks`` are the members heavier
    than all before them in their channel, and ``peak_weights`` their weights. Idle users write nothing ``idle_from``
    this moment on.
    """

    offsets: Ints
    cumulative: Ints
    peaks: Ints
    peak_weights: Ints
    idle: Bools
    idle_from: int

    def largest(self, channel: Ints, present: Ints) -> Ints:
        """Return the largest weight among the first ``present`` members of each channel: the shape of both."""
        last = np.searchsorted(self.peaks, self.offsets[channel] + present, side="left") - 1
        return self.peak_weights[last]


def make_weights(members: Members, pairs: Bools, activity: UserActivity, idle_from: int) -> MemberWeights:
    """Return the weights of the members of all channels: 8 bytes a member.

    The two members of the channels that are ``pairs`` write equally often.
    """
    sizes = members.sizes
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    cumulative = np.zeros(int(offsets[-1]) + 1, dtype=np.int64)
    peaks, peak_weights = [], []
    for start in range(0, len(sizes), CHANNELS_AT_A_TIME):
        stop = min(start + CHANNELS_AT_A_TIME, len(sizes))
        first, last = int(offsets[start]), int(offsets[stop])
        channel = np.repeat(np.arange(start, stop), sizes[start:stop])
        index = np.arange(first, last) - offsets[channel]
        weights = np.where(pairs[channel], 1, activity.weight[members.users(channel, index)])
        np.cumsum(weights, out=cumulative[first + 1 : last + 1])
        cumulative[first + 1 : last + 1] += cumulative[first]
        # each channel begins above all weights of the one before
        heights = np.maximum.accumulate(weights + (channel - start) * (int(weights.max()) + 1))
        new = np.flatnonzero(np.diff(heights, prepend=-1))
        peaks.append(first + new)
        peak_weights.append(weights[new])
    return MemberWeights(
        offsets, cumulative, np.concatenate(peaks), np.concatenate(peak_weights), activity.idle, idle_from
    )


@dataclass(frozen=True, slots=True)
class Authors:
    """Draws authors. ``keys`` are those of the streams of top-level messages and of replies.

    Without ``weights``, all members who have joined write equally often.
    """

    members: Members
    weights: MemberWeights | None
    keys: tuple[int, int]

    def of_threads(self, channel: Ints, created: Ints, numbers: Ints) -> Drawn:
        """Return the authors of top-level messages with these ``numbers``: arrays of their shape."""
        members = self.members
        existing = np.searchsorted(members.user_created, created, side="right")
        present = members.present(channel, existing)
        if self.weights is None:
            index = self.choose(channel, created, present, numbers)
            return Drawn(index, index, present)
        return self.choose_by_weight(self.weights, channel, created, present, numbers)

    def choose(self, channel: Ints, created: Ints, present: Ints, numbers: Ints) -> Ints:
        """Return uniformly distributed members who have joined: places, the shape of the arguments."""
        members, key = self.members, self.keys[0]
        index = below(keyed_words(key, numbers), np.minimum(members.sizes[channel], present + 1))
        # of the next member it is not sure: drawn again where too young
        next_one = np.flatnonzero(index == present)
        user = members.users(channel[next_one], index[next_one])
        young = next_one[members.joined(channel[next_one], index[next_one], user) > created[next_one]]
        index[young] = below(keyed_words(key, numbers[young], TRY), present[young])
        return index

    def choose_by_weight(
        self, weights: MemberWeights, channel: Ints, created: Ints, present: Ints, numbers: Ints
    ) -> Drawn:
        first = weights.offsets[channel]
        begin = weights.cumulative[first]
        totals = weights.cumulative[first + present] - begin

        def draw(chosen: Ints, attempt: int) -> tuple[Ints, Ints]:
            words = keyed_words(self.keys[0], numbers[chosen], attempt * TRY)
            point = between(words, np.zeros(len(chosen), dtype=np.int64), totals[chosen] - 1)
            return find(weights, begin[chosen] + point) - first[chosen], point

        index, point = draw(np.arange(len(channel)), 0)
        late = np.flatnonzero(created >= weights.idle_from)
        for attempt in range(1, TRIES + 1):
            late = late[weights.idle[self.members.users(channel[late], index[late])]]
            if not len(late):
                break
            index[late], point[late] = draw(late, attempt) if attempt < TRIES else (0, 0)
        return Drawn(index, point, present)

    def of_replies(self, channel: Ints, created: Ints, numbers: Ints, rank: Ints, parents: Drawn) -> Ints:
        """Return the authors of replies: other members than the authors of their ``parents``, who have joined.

        ``numbers`` and ``created`` are those of the parents, and ``rank`` counts the replies to each.
        """
        if self.weights is None:
            present, own = parents.present, parents.place
            # one of the members who have surely joined, without the author of the parent
            index = below(keyed_words(self.keys[1], numbers, rank), present - (own < present))
            return index + (index >= own)
        return self.choose_others_by_weight(self.weights, channel, created, numbers, rank, parents)

    def choose_others_by_weight(
        self, weights: MemberWeights, channel: Ints, created: Ints, numbers: Ints, rank: Ints, parents: Drawn
    ) -> Ints:
        """Return members in proportion to their weights, but not the authors of the parents.

        The weights of the members are consecutive intervals of a circle. A message is a random point on it. A reply is
        the parent's point moved by a random distance that is at least the largest weight in both directions: it lands
        on another member, and over all replies each member has the share of its weight. If one member has more weight
        than all others together there is no such distance; the reply then goes to one of the others, in proportion to
        their weights.
        """
        first = weights.offsets[channel]
        begin = weights.cumulative[first]
        circle = weights.cumulative[first + parents.present] - begin
        most = weights.largest(channel, parents.present)
        own_begin, own_end = (weights.cumulative[first + parents.place + step] - begin for step in (0, 1))
        is_fair = 2 * most <= circle
        nearest = np.where(is_fair, most, 0)
        # otherwise the distance is counted from the end of the interval of the parent's author, which it leaves out
        origin = np.where(is_fair, parents.point, own_end)
        farthest = np.where(is_fair, circle - most, circle - (own_end - own_begin) - 1)

        def draw(chosen: Ints, attempt: int) -> Ints:
            words: Words = keyed_words(self.keys[1], numbers[chosen], rank[chosen] + attempt * TRY)
            step = between(words, nearest[chosen], farthest[chosen])
            return find(weights, begin[chosen] + (origin[chosen] + step) % circle[chosen]) - first[chosen]

        index = draw(np.arange(len(channel)), 0)
        late = np.flatnonzero(created >= weights.idle_from)
        for attempt in range(1, TRIES + 1):
            late = late[weights.idle[self.members.users(channel[late], index[late])]]
            if not len(late):
                break
            # both founders of a channel in which somebody is not idle are not
            index[late] = draw(late, attempt) if attempt < TRIES else (parents.place[late] == 0).astype(np.int64)
        return index


def find(weights: MemberWeights, points: Ints) -> Ints:
    """Return the members in whose intervals of the cumulative weights ``points`` lie."""
    return np.searchsorted(weights.cumulative, points, side="right") - 1
