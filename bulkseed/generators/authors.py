"""Who writes the messages of a channel (rules G1 and G4): its members alike, or by how active each of them is."""

from __future__ import annotations

import numpy as np

from bulkseed.generators.context import ChannelBlock, Context
from bulkseed.randomness.draws import Ints, below, between
from bulkseed.randomness.streams import Words

__all__ = ["authors"]


def authors(
    context: Context, block: ChannelBlock, number: int, channel: Ints, parent: Ints, threads: Ints, replies: Ints
) -> Ints:
    """The authors of messages that follow each other from ``number`` on: user ordinals.

    ``channel`` is the channel of each as an index into ``block``, ``parent`` the place of its parent (of a top-level
    message its own); ``threads`` and ``replies`` are the places of top-level messages, and of replies, which are by
    other members than their parents' authors.
    """
    words = context.streams.words("messages", "user_id", number, len(channel))
    if block.voices is None or block.loudest is None:
        return block.members[even(block, words, channel, parent, replies)]
    return block.members[by_voice(block.voices, block.loudest, block.offsets, words, channel, parent, threads, replies)]


def even(block: ChannelBlock, words: Words, channel: Ints, parent: Ints, replies: Ints) -> Ints:
    sizes = block.sizes[channel]
    place = below(words, sizes)
    # one of the places that are left
    other = below(words[replies], sizes[replies] - 1)
    place[replies] = other + (other >= place[parent[replies]])
    return block.offsets[channel] + place


def by_voice(
    voices: Ints,
    loudest: Ints,
    offsets: Ints,
    words: Words,
    channel: Ints,
    parent: Ints,
    threads: Ints,
    replies: Ints,
) -> Ints:
    """Members in proportion to their weights, which lie one after the other from ``voices[offsets[channel]]``.

    A reply is so far from its parent on that line, closed to a circle, as no weight of the channel reaches: by
    another member, and over all replies each still as often as their weight says. Where one member weighs more than
    all others together there is no such distance, and the reply goes to the others by their weights.
    """
    first = voices[offsets[:-1]]
    total = (voices[offsets[1:]] - first)[channel]
    place = between(words, np.zeros(len(words), dtype=np.int64), total - 1)
    start, whole, most = first[channel], total[replies], loudest[channel[replies]]
    asked = parent[replies]
    member = np.empty(len(channel), dtype=np.int64)
    member[threads] = np.searchsorted(voices, start[threads] + place[threads], side="right") - 1
    fair = 2 * most <= whole
    nearest = np.where(fair, most, 0)
    # of the others: the parent's author is left out by going on from where their weight ends
    theirs = voices[member[asked] + 1] - voices[member[asked]]
    begin = np.where(fair, place[asked], voices[member[asked] + 1] - start[asked])
    step = between(words[replies], nearest, np.where(fair, whole - most, whole - theirs - 1))
    member[replies] = np.searchsorted(voices, start[replies] + (begin + step) % whole, side="right") - 1
    return member
