"""The users of a run by how active they are, where the shape has them differ: who writes how much, and who is idle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bulkseed.plan.shape import Shape
from bulkseed.randomness.draws import Bools, Ints, between
from bulkseed.randomness.permutation import KEY_WORDS, permute
from bulkseed.randomness.streams import Streams, Words
from bulkseed.randomness.zipf import whole_weights

__all__ = ["Crowd", "crowd_of"]


@dataclass(frozen=True, slots=True)
class Crowd:
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


def crowd_of(streams: Streams, users: int, shape: Shape) -> Crowd | None:
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
    return Crowd(weight, np.concatenate([[0], np.cumsum(weight)]), idle)
