"""The members of channels as functions of their place, since when they are members, and the pairs of DMs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkseed.generators.members import Members, make_members
from bulkseed.generators.pairs import choose_pairs, pairs_of, users_needed
from bulkseed.randomness.draws import Ints, Streams, Words, below, strata
from bulkseed.randomness.keyed import keyed_words

END = 10**12


def words(seed: int, column: str, count: int) -> Words:
    return Streams(seed, 1).words("members", column, 0, count)


def user_times(seed: int, users: int) -> Ints:
    return strata(words(seed, "users", users), 0, users, 0, END)


def some_members(seed: int, users: int, sizes: Ints) -> Members:
    """The members of channels with these sizes, created when two users or more existed."""
    user_created, count = user_times(seed, users), len(sizes)
    created = strata(words(seed, "created", count), 0, count, int(user_created[1]), END)
    existing = np.searchsorted(user_created, created, side="right")
    owner = below(words(seed, "owner", count), existing)
    second = below(words(seed, "second", count), existing - 1)
    second += second >= owner
    phases = words(seed, "phase", count), words(seed, "part", count)
    return make_members((owner, second), created, sizes, user_created, phases, (seed, seed + 1))


def everyone(members: Members) -> tuple[Ints, Ints]:
    """The channel and the place of every member."""
    channel = np.repeat(np.arange(len(members.sizes)), members.sizes)
    ends = np.cumsum(members.sizes)
    return channel, np.arange(len(channel)) - (ends - members.sizes)[channel]


workspaces = st.integers(2, 60).flatmap(
    lambda users: st.tuples(st.just(users), st.lists(st.integers(2, users), min_size=1, max_size=6))
)


@given(workspaces, st.integers(0, 2**32), st.lists(st.floats(0, 1), max_size=5))
def test_members_are_different_users_who_join_after_user_and_channel(
    workspace: tuple[int, list[int]], seed: int, shares: list[float]
) -> None:
    users, sizes = workspace
    members = some_members(seed, users, np.array(sizes))
    channel, index = everyone(members)
    user = members.users(channel, index)
    joined = members.joined(channel, index, user)
    assert len(np.unique(channel * users + user)) == len(user)
    assert user.min() >= 0
    assert user.max() < users
    assert (user[index == 0] == members.owner).all()
    assert (joined[index == 0] == members.created).all()
    assert (joined >= np.maximum(members.created[channel], members.user_created[user])).all()
    assert (joined <= END).all()
    # those who are present have joined
    moments = sorted({END, *members.began.tolist(), *(int(share * END) for share in shares)})
    for moment in moments:
        existing = np.full(len(sizes), np.searchsorted(members.user_created, moment, side="right"))
        began = members.began <= moment
        present = np.where(began, members.present(np.arange(len(sizes)), existing), 0)
        assert (joined[index < present[channel]] <= moment).all()
        assert (present[began] >= 2).all()
        assert (present <= sizes).all()
    assert (members.present(np.arange(len(sizes)), np.full(len(sizes), users)) == sizes).all()


@pytest.mark.parametrize("size", [3, 10, 67, 99])
def test_every_user_is_equally_often_a_member(size: int) -> None:
    users, channels = 100, 20_000
    user_created = user_times(1, users)
    count = np.full(channels, size)
    owner = below(words(2, "owner", channels), users)
    second = below(words(2, "second", channels), users - 1)
    second += second >= owner
    phases = words(2, "phase", channels), words(2, "part", channels)
    members = make_members((owner, second), np.full(channels, END), count, user_created, phases, (3, 4))
    channel, index = everyone(members)
    found = np.bincount(members.users(channel, index), minlength=users) / channels
    share = size / users
    assert np.abs(found - share).max() < 5 * np.sqrt(share * (1 - share) / channels)


@given(st.integers(2, 40), st.floats(0, 1.3), st.integers(0, 2**32))
def test_pairs_are_different_as_long_as_there_are_enough(users: int, share: float, seed: int) -> None:
    all_pairs = users * (users - 1) // 2
    dms = max(1, round(share * all_pairs))
    user_created = user_times(seed, users)
    needed = users_needed(users, dms)
    if needed > 2 and 4 * dms > all_pairs:
        assert pairs_of(users, needed - 1) < dms <= pairs_of(users, needed)
    created = strata(words(seed, "dms", dms), 0, dms, int(user_created[needed - 1]), END)
    existing = np.searchsorted(user_created, created, side="right")

    def draw(first: Words, second: Words, among: Ints) -> tuple[Ints, Ints]:
        one, another = below(first, among), below(second, users - 1)
        return one, another + (another >= one)

    owner, other = choose_pairs(seed, users, existing, draw)
    assert (owner != other).all()
    assert (owner < existing).all()
    assert (np.maximum(owner, other) < users).all()
    pairs = np.unique(np.minimum(owner, other) * users + np.maximum(owner, other))
    if dms <= all_pairs:
        assert len(pairs) == dms


def test_words_at_single_places_are_uniform_and_of_their_place_alone() -> None:
    first, second = np.arange(1000).repeat(1000), np.tile(np.arange(1000), 1000)
    found = keyed_words(2**100 + 7, first, second)
    assert len(np.unique(found)) == len(found)
    assert np.array_equal(
        keyed_words(2**100 + 7, first[:1000], 5), keyed_words(2**100 + 7, first[:1000], second[:1000] * 0 + 5)
    )
    ones = np.unpackbits(found.view(np.uint8).reshape(-1, 8), axis=1).mean(axis=0)
    assert np.abs(ones - 0.5).max() < 5 * 0.5 / np.sqrt(len(found))
    shares = np.bincount((found >> np.uint64(56)).astype(np.int64), minlength=256) / len(found)
    assert np.abs(shares * 256 - 1).max() < 5 * np.sqrt(256 / len(found))
