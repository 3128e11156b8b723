"""Keyed permutations: one-to-one for every size and key, and no order more frequent than another."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkseed.randomness.draws import KEY_WORDS, Ints, Streams, Words, permute
from support.evenness import unevenness


def keys_of(count: int, seed: int = 1) -> Words:
    return Streams(seed, 1).words("test_permutation", "keys", 0, count * KEY_WORDS).reshape(count, KEY_WORDS)


def orders(size: int, count: int, first: int | None = None, seed: int = 1) -> Ints:
    """The ``first`` values of ``count`` permutations, one permutation a row."""
    width = size if first is None else first
    rows = np.repeat(np.arange(count), width)
    found: Ints = permute(np.tile(np.arange(width), count), size, keys_of(count, seed), rows).reshape(count, width)
    return found


@pytest.mark.parametrize("first", range(1, 301, 50))
def test_every_small_size_is_a_bijection(first: int) -> None:
    for size in range(first, first + 50):
        found = np.sort(orders(size, 4, seed=size), axis=1)
        assert (found == np.arange(size)).all(), size


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 20_000), st.integers())
def test_any_size_and_key_is_a_bijection(size: int, seed: int) -> None:
    assert (np.sort(orders(size, 1, seed=seed)[0]) == np.arange(size)).all()


@pytest.mark.parametrize("size", [1023, 1024, 1025, 65_535, 65_536, 65_537, 300_007])
def test_large_size_is_a_bijection(size: int) -> None:
    assert (np.sort(orders(size, 1)[0]) == np.arange(size)).all()


@pytest.mark.parametrize("size", [2**40, 2**40 - 1, 2**40 + 1, 2**61 + 1, 2**62])
def test_huge_size_keeps_places_apart_and_in_range(size: int) -> None:
    places = np.concatenate([np.arange(50_000), size - 1 - np.arange(50_000)])
    found = permute(places, size, keys_of(1), np.zeros(len(places), dtype=np.int64))
    assert len(np.unique(found)) == len(places)
    assert found.min() >= 0
    assert found.max() < size


@given(st.integers(2, 500), st.lists(st.tuples(st.integers(0, 499), st.integers(0, 4)), min_size=1, max_size=20))
def test_a_place_is_the_same_alone_and_among_others(size: int, wanted: list[tuple[int, int]]) -> None:
    places = np.array([place % size for place, _ in wanted])
    rows = np.array([row for _, row in wanted])
    keys = keys_of(5)
    together = permute(places, size, keys, rows).tolist()
    alone = [
        int(permute(places[at : at + 1], size, keys[row : row + 1].copy(), np.zeros(1, dtype=np.int64))[0])
        for at, row in enumerate(rows)
    ]
    assert together == alone


def test_sizes_of_nothing_and_of_one() -> None:
    empty = np.empty(0, dtype=np.int64)
    assert permute(empty, 5, keys_of(1), empty).tolist() == []
    assert permute(np.zeros(3, dtype=np.int64), 1, keys_of(3), np.arange(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_every_order_is_as_frequent(size: int) -> None:
    count = 100 * math.factorial(size)
    order_numbers = {order: number for number, order in enumerate(permutations(range(size)))}
    found = [order_numbers[tuple(row)] for row in orders(size, count).tolist()]
    assert unevenness(np.bincount(found, minlength=len(order_numbers))) < 4


@pytest.mark.parametrize("size", [7, 8, 9, 12, 16, 19, 20, 39, 100])
def test_every_pair_of_first_members_is_as_frequent(size: int) -> None:
    """A channel's members are the first values of a permutation."""
    count = 20 * size * size
    first, second = orders(size, count, first=2).T
    cells = np.bincount(first * size + second, minlength=size * size)
    assert unevenness(cells[np.arange(size * size) % (size + 1) != 0]) < 4  # without the diagonal


@pytest.mark.parametrize("size", [5, 12, 20, 33])
def test_every_place_takes_every_value_as_often(size: int) -> None:
    found = orders(size, 4000, seed=2)
    for place in range(size):
        assert unevenness(np.bincount(found[:, place], minlength=size)) < 4.5
