"""The two users of each DM: no two DMs have the same pair, as long as there are enough pairs (rule M4)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Final

import numpy as np

from bulkseed.randomness.draws import Ints, Words, below
from bulkseed.randomness.keyed import keyed_words

__all__ = ["choose_pairs", "pairs_of", "users_needed"]

DENSE: Final = 4
"""Where there are more DMs than a quarter of all pairs, drawing again would take long, and the pairs are listed."""


def pairs_of(users: int, existing: int) -> int:
    """Return the number of pairs of ``users`` users of which one is among the first ``existing``."""
    later = users - existing
    return users * (users - 1) // 2 - later * (later - 1) // 2


def users_needed(users: int, dms: int) -> int:
    """Return how many users must exist, so that each DM can get a pair of its own with an owner among them.

    Where pairs are plenty, half of those that are possible must remain. At least 2.
    """
    all_pairs = users * (users - 1) // 2
    if dms > all_pairs:
        return 2  # there are not enough pairs, and some repeat in any case
    wanted = (2 if DENSE * dms <= all_pairs else 1) * dms
    return bisect_left(range(users), wanted, lo=2, key=lambda existing: pairs_of(users, existing))


Draw = Callable[[Words, Words, Ints], tuple[Ints, Ints]]
"""Draws an owner among the first ``existing`` users, and any other user, from two words each."""


def choose_pairs(key: int, users: int, existing: Ints, draw: Draw, tries: int = 4) -> tuple[Ints, Ints]:
    """Return the owner and the other user of each DM, in order of time: ordinals, shape of ``existing``.

    The owner exists when the DM is created; the other one may be younger, so that all users have DMs.
    ``draw`` is asked ``tries`` times for a pair that is not taken.
    """
    dms = len(existing)
    if DENSE * dms > users * (users - 1) // 2:
        return deal_pairs(key, users, existing)
    owner, other = np.zeros(dms, dtype=np.int64), np.zeros(dms, dtype=np.int64)
    missing, attempt = np.arange(dms), 0
    while len(missing):
        first, second = keyed_words(key, missing, 2 * attempt), keyed_words(key, missing, 2 * attempt + 1)
        if attempt < tries:
            owner[missing], other[missing] = draw(first, second, existing[missing])
        else:
            one = below(first, existing[missing])
            another = below(second, users - 1)
            another += another >= one
            # the older one exists, as it comes before the other or is among the first
            owner[missing], other[missing] = np.minimum(one, another), np.maximum(one, another)
        pairs = np.minimum(owner, other) * users + np.maximum(owner, other)
        order = np.argsort(pairs, kind="stable")
        # the first DM with a pair keeps it, so that those with few possible pairs come to an end
        missing = np.sort(order[1:][pairs[order][1:] == pairs[order][:-1]])
        attempt += 1
    return owner, other


def deal_pairs(key: int, users: int, existing: Ints) -> tuple[Ints, Ints]:
    """Return pairs as choose_pairs() does, drawn from a list of those that are possible and not yet taken."""
    owner, other = np.zeros_like(existing), np.zeros_like(existing)
    words = keyed_words(key, np.arange(len(existing))).tolist()
    free: list[tuple[int, int]] = []
    listed = 0
    for number, most in enumerate(existing.tolist()):
        free += [(one, another) for one in range(listed, most) for another in range(one + 1, users)]
        listed = max(listed, most)
        if not free:  # all are taken: once more
            free = [(one, another) for one in range(most) for another in range(one + 1, users)]
        place = words[number] * len(free) >> 64
        owner[number], other[number] = free[place]
        free[place] = free[-1]
        free.pop()
    return owner, other
