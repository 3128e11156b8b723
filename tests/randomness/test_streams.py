"""Random streams: a row has the same word in whatever range it is drawn, and no two streams are alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkseed.randomness.draws import Streams

STREAMS = Streams(seed=1, first_user=1)
NAMES = st.text(max_size=6)

PINNED = {
    (1, 1, "users", "name"): [
        0x02D0DC6D27CBFE09,
        0xBAD8FED86B079AEE,
        0x9438C7286DF9DB7E,
        0xC1E3F39AE9F5DC27,
        0x13992D69A4E1432C,
    ],
    (1, 1, "messages", "content"): [
        0x3487AF0B04821E3E,
        0x18AEAF3EB318D2A7,
        0x926CBC081B213622,
        0x068925926959F40F,
        0x5117F25F0D9F632B,
    ],
    (42, 7, "users", "name"): [
        0xCA318A89B8740E8E,
        0x3D9AEF5193BA49CC,
        0xDC788A264CCF2018,
        0x346F3847AD2684C3,
        0x02483D152E320284,
    ],
    (-(2**70), 10**12, "", "\xe9.0"): [
        0xB5BC21EB4F4106AC,
        0xB7B8B9402ED4A21C,
        0x9B6A7F4CA8AF6784,
        0x01E05A01D9D499A8,
        0x539FA768F3AA1887,
    ],
}
"""The first words of some streams, and those at 2**40 + 1. They read the UUIDs of runs of the first generator."""


@given(st.integers(0, 2**60), st.integers(0, 200), st.integers(0, 200))
def test_any_slice_is_the_same_words(first: int, skipped: int, count: int) -> None:
    whole = STREAMS.words("messages", "content", first, skipped + count)
    assert whole.dtype == np.uint64
    assert whole.shape == (skipped + count,)
    np.testing.assert_array_equal(STREAMS.words("messages", "content", first + skipped, count), whole[skipped:])


@given(st.lists(st.integers(0, 50), max_size=12))
def test_any_cutting_is_the_same_words(sizes: list[int]) -> None:
    starts = np.cumsum([0, *sizes]).tolist()
    pieces = [STREAMS.words("users", "bio", start, size) for start, size in zip(starts, sizes, strict=False)]
    joined = np.concatenate([np.empty(0, dtype=np.uint64), *pieces])
    np.testing.assert_array_equal(joined, STREAMS.words("users", "bio", 0, sum(sizes)))


def test_every_part_of_the_key_makes_another_stream() -> None:
    keys = [
        (Streams(seed, first_user), table, column)
        for seed in (0, 1, -1, 2**64)
        for first_user in (1, 2)
        for table in ("users", "messages")
        for column in ("name", "created_at")
    ]
    words = {tuple(streams.words(table, column, 0, 4).tolist()) for streams, table, column in keys}
    assert len(words) == len(keys)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 23, "t", "c"), (12, 3, "t", "c")),
        ((1, 1, "ab", "c"), (1, 1, "a", "bc")),
        ((1, 1, "a", ""), (1, 1, "", "a")),
        ((1, 11, "a", "b"), (11, 1, "a", "b")),
        ((1, 1, "name.1", ""), (1, 1, "name", ".1")),
        ((1, 1, "a\x00", "b"), (1, 1, "a", "\x00b")),
        ((1, 1, "1", "x"), (11, 1, "", "x")),
    ],
)
def test_keys_do_not_collide_by_concatenation(one: tuple[int, int, str, str], other: tuple[int, int, str, str]) -> None:
    assert Streams(*one[:2]).key(*one[2:]) != Streams(*other[:2]).key(*other[2:])


@given(
    st.tuples(st.integers(), st.integers(), NAMES, NAMES),
    st.tuples(st.integers(), st.integers(), NAMES, NAMES),
)
def test_keys_are_equal_only_for_equal_parts(one: tuple[int, int, str, str], other: tuple[int, int, str, str]) -> None:
    same = Streams(*one[:2]).key(*one[2:]) == Streams(*other[:2]).key(*other[2:])
    assert same == (one == other)


def test_streams_do_not_overlap() -> None:
    columns = [STREAMS.words("messages", f"column.{number}", 0, 4096) for number in range(16)]
    assert len(np.unique(np.concatenate(columns))) == 16 * 4096


def test_words_look_random() -> None:
    words = STREAMS.words("messages", "content", 0, 50_000)
    bits = np.unpackbits(words.view(np.uint8)).reshape(-1, 64).mean(axis=0)
    assert np.abs(bits - 0.5).max() < 5 * 0.5 / np.sqrt(len(words))


@pytest.mark.parametrize("key", PINNED)
def test_words_are_what_they_always_were(key: tuple[int, int, str, str]) -> None:
    seed, first_user, table, column = key
    streams = Streams(seed, first_user, generator=1)
    words = [
        *streams.words(table, column, 0, 3).tolist(),
        *streams.words(table, column, 2**40 + 1, 2).tolist(),
    ]
    assert words == PINNED[key]


@given(st.sets(st.integers(0, 5_000) | st.integers(0, 2**62), min_size=1, max_size=30))
def test_words_at_any_rows_are_those_of_the_rows(rows: set[int]) -> None:
    wanted = np.array(sorted(rows))
    expected = [int(STREAMS.words("users", "name", row, 1)[0]) for row in wanted.tolist()]
    assert STREAMS.words_at("users", "name", wanted).tolist() == expected
