"""The members of channels and since when they are: functions of channel and place, without a list (rules M1 to M4, T4).

A channel's first two members are its owner and a second one, who both exist when it is created. Each further member is
one of an equal part of the other users, in order of their accounts. So a channel grows with the workspace, no user is a
member twice, and how many members have joined by a moment follows from the number of users at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from bulkseed.randomness.draws import Bools, Ints, Words, below, between
from bulkseed.randomness.keyed import keyed_words

__all__ = ["FOUNDERS", "Members", "make_members"]

FOUNDERS: Final = 2
FRACTION: Final = 20
"""Bits of a phase: sums with places below 2**32 are exact."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Members:
    """The members of all channels; arrays have an entry for each channel, except ``user_created``.

    ``ratio`` is the number of other users in a part, and ``phase`` where the first part begins, in parts: between 0
    and 1, or less than 0 where it is cut off. The other users are numbered without the founders of a channel.
    """

    owner: Ints
    second: Ints
    older: Ints
    younger: Ints
    """The two founders by ordinal."""
    created: Ints
    began: Ints
    """The moment from which both founders are members."""
    sizes: Ints
    ratio: Floats
    phase: Floats
    user_created: Ints
    user_key: int
    joined_key: int

    def part(self, channel: Ints, place: Ints) -> tuple[Ints, Ints]:
        """Return the part of the other users for a place from 0 on: the first one, and the last one exclusive."""
        begin = place + self.phase[channel]
        ratio = self.ratio[channel]
        low = np.maximum(begin * ratio, 0.0).astype(np.int64)
        high = np.minimum(((begin + 1) * ratio).astype(np.int64), len(self.user_created) - FOUNDERS)
        return low, high

    def with_founders(self, channel: Ints, other: Ints) -> Ints:
        """Return the ordinals of users who are numbered without the channel's founders."""
        user = other + (other >= self.older[channel])
        user += user >= self.younger[channel]
        return user

    def users(self, channel: Ints, index: Ints) -> Ints:
        """Return the members ``index`` of the channels: ordinals of users, the shape of both arguments."""
        place = np.maximum(index - FOUNDERS, 0)
        low, high = self.part(channel, place)
        other = low + below(keyed_words(self.user_key, channel, index), np.maximum(high - low, 1))
        user = self.with_founders(channel, other)
        founders = np.flatnonzero(index < FOUNDERS)
        of = channel[founders]
        user[founders] = np.where(index[founders] == 0, self.owner[of], self.second[of])
        return user

    def joined(self, channel: Ints, index: Ints, user: Ints) -> Ints:
        """Return since when the members ``index``, who are ``user``, have been members: microseconds since 1970."""
        _, high = self.part(channel, np.maximum(index - FOUNDERS, 0))
        begin = np.maximum(self.created[channel], self.user_created[user])
        last = self.with_founders(channel, np.maximum(high - 1, 0))
        end = np.maximum(begin, self.user_created[np.minimum(last, len(self.user_created) - 1)])
        moment = between(keyed_words(self.joined_key, channel, index), begin, end)
        moment = np.where(index == 1, self.began[channel], moment)
        return np.where(index == 0, self.created[channel], moment)

    def present(self, channel: Ints, existing: Ints) -> Ints:
        """Return how many members have surely joined when ``existing`` users exist: from 2 on, shape of both.

        These are the first ones. The channel is ``began``.
        """
        others = np.maximum(existing - FOUNDERS, 0)
        most = self.sizes[channel] - FOUNDERS
        count = (others / self.ratio[channel] - self.phase[channel]).astype(np.int64)
        all_exist = others >= len(self.user_created) - FOUNDERS
        return FOUNDERS + np.where(all_exist, most, np.clip(count, 0, most))


def make_members(
    founders: tuple[Ints, Ints],
    created: Ints,
    sizes: Ints,
    user_created: Ints,
    phase_words: tuple[Words, Words],
    keys: tuple[int, int],
) -> Members:
    """Return the members of channels with these founders, creation times and sizes."""
    owner, second = founders
    others, parts = len(user_created) - FOUNDERS, sizes - FOUNDERS
    ratio = np.where(parts > 0, others / np.maximum(parts, 1), 1.0)
    share = (phase_words[0] >> np.uint64(64 - FRACTION)).astype(np.int64)
    phase: Floats = share.astype(np.float64) * 2.0**-FRACTION
    # the first or the last part is cut off: one of the two incomplete ones has a member, in proportion to their sizes
    head = (phase * ratio).astype(np.int64)
    tail = others - ((parts - 1 + phase) * ratio).astype(np.int64)
    has_head: Bools = below(phase_words[1], np.maximum(head + tail, 1)) < head
    return Members(
        owner,
        second,
        np.minimum(owner, second),
        np.maximum(owner, second),
        created,
        np.maximum(created, user_created[second]),
        sizes,
        ratio,
        phase - has_head.astype(np.float64),
        user_created,
        *keys,
    )
