"""The moments of top-level messages in closed form, so that any span of time finds its part of every channel.

A channel with M messages has one in each of M equal parts of its life (measured by the hours of the week), at a keyed
place in the part. So the number of its messages before any moment is known without the messages before.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from bulkseed.randomness.distributions import WEEK, Week
from bulkseed.randomness.draws import Ints
from bulkseed.randomness.keyed import keyed_words

__all__ = ["Timeline", "TopLevel", "make_timeline", "stable_order"]

NEAR: Final = 1e-6
"""Shares of a part, within which rounding decides where a boundary lies."""
HALF: Final = np.uint64(32)


class TopLevel(NamedTuple):
    """Top-level messages in order of time: the ``number`` of the first one, and the channel and moment of each."""

    number: int
    channel: Ints
    created: Ints


@dataclass(frozen=True, slots=True)
class Timeline:
    """The moments of the top-level messages of all channels; the arrays have an entry for each channel.

    ``starts`` and ``ends`` are the first and the last moment of a message. ``begins`` and ``lengths`` are the same as
    positions in ``week`` (without one, microseconds since 1970), ``counts`` the messages and ``parts`` the length of a
    part of each. ``key`` is that of the places in the parts.
    """

    starts: Ints
    ends: Ints
    begins: Ints
    lengths: Ints
    counts: Ints
    parts: npt.NDArray[np.float64]
    week: Week | None
    key: int

    def places(self, channel: Ints, rank: Ints) -> Ints:
        """Return the distance from the channel's begin of its message ``rank``: the shape of both; may be too far."""
        words = keyed_words(self.key, channel, rank)
        share = rank + (words >> HALF).astype(np.float64) * 2.0**-32
        distance: Ints = (share * self.parts[channel]).astype(np.int64)
        return distance

    def before(self, moment: int) -> Ints:
        """Return the number of messages of each channel before ``moment``: shape ``(channels,)``."""
        position = moment if self.week is None else int(self.week.positions(np.array([moment]))[0])
        distance = np.clip(position - self.begins, 0, self.lengths)
        share = distance / self.parts
        rank = share.astype(np.int64)
        channel = np.arange(len(rank))
        found = np.minimum(rank + (self.places(channel, rank) < distance), self.counts)
        rest = share - rank
        unsure = np.flatnonzero((rest < NEAR) | (rest > 1 - NEAR))
        if len(unsure):
            near = np.maximum(rank[unsure, None] - 1, 0) + np.arange(4)
            is_before = self.places(unsure[:, None], near) < distance[unsure, None]
            found[unsure] = np.minimum(near[:, 0] + is_before.sum(axis=1), self.counts[unsure])
        found = np.where((distance >= self.lengths) | (moment > self.ends), self.counts, found)
        return np.where(moment <= self.starts, 0, found)

    def moment_after(self, start: int, messages: int, end: int) -> int:
        """Return the first moment with ``messages`` or more since ``start``; ``end`` if that is not before it."""
        earlier = int(self.before(start).sum())
        return start + bisect_left(
            range(end - start), messages, key=lambda since: int(self.before(start + since).sum()) - earlier
        )

    def between(self, start: int, stop: int, first: Ints | None = None, last: Ints | None = None) -> TopLevel:
        """Return the messages from the moment ``start`` to ``stop`` (exclusive); of one moment by channel and rank.

        ``first`` and ``last`` are the numbers of messages before these moments, if they are known.
        """
        first = self.before(start) if first is None else first
        last = self.before(stop) if last is None else last
        counts = last - first
        ends = np.cumsum(counts)
        channel = np.repeat(np.arange(len(counts)), counts)
        rank = np.arange(len(channel)) + (first - (ends - counts))[channel]
        distance = np.minimum(self.places(channel, rank), self.lengths[channel] - 1)
        position = self.begins[channel] + distance
        # a life without any weight has all its messages at its ends
        created = (
            position
            if self.week is None
            else np.clip(self.week.moments(position), self.starts[channel], self.ends[channel])
        )
        order = stable_order(created, start, stop)
        return TopLevel(int(first.sum()), channel[order], created[order])


def make_timeline(starts: Ints, ends: Ints, counts: Ints, week: Week | None, key: int) -> Timeline:
    """Return the timeline of channels with ``counts`` messages from ``starts`` to ``ends``, both included.

    Where a channel has a week or more, the messages are in the complete weeks before its end, so that the shares of the
    hours are exact.
    """
    if week is None:
        begins, lengths = starts, ends - starts + 1
    else:
        whole = (ends - starts) // WEEK * WEEK
        starts = np.where(whole > 0, ends - whole, starts)
        begins = week.positions(starts)
        lengths = np.maximum(week.positions(ends + 1) - begins, 1)
    return Timeline(starts, ends, begins, lengths, counts, lengths / np.maximum(counts, 1), week, key)


def stable_order(moments: Ints, start: int, stop: int) -> Ints:
    """Return the order of ``moments``, all from ``start`` to ``stop``; equal ones keep theirs: shape ``(n,)``."""
    bits = max(len(moments) - 1, 1).bit_length()
    if (stop - start).bit_length() + bits > 62:
        return np.argsort(moments, kind="stable")
    # several times as fast: the index in the low bits makes each value unique
    keys = np.sort((moments - start) << bits | np.arange(len(moments)))
    return keys & ((1 << bits) - 1)
