"""The numbering of messages: it has no gaps, and any range of it equals the same range of the complete numbering."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bulkseed.plan.shards import BLOCK, MessageLayout
from bulkseed.randomness.draws import Streams

probabilities = st.sampled_from([0.0, 0.001, 0.2, 0.5, 0.999, 1.0])
tops = st.integers(1, 5 * BLOCK) | st.sampled_from([1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK - 1])


def layout_of(top_level: int, probability: float, seed: int = 1) -> MessageLayout:
    return MessageLayout(Streams(seed, 1), top_level, probability)


@given(tops, probabilities, st.integers())
@example(1, 1.0, 1)
@example(BLOCK + 1, 0.2, 1)
def test_numbers_have_no_gaps(top_level: int, probability: float, seed: int) -> None:
    layout = layout_of(top_level, probability, seed)
    have_replies = layout.have_replies(0, top_level)
    numbers = np.array([layout.number(top) for top in range(0, top_level, 97)])
    expected = np.arange(top_level) + np.cumsum(have_replies) - have_replies
    np.testing.assert_array_equal(numbers, expected[::97])
    taken = np.concatenate([expected, expected[have_replies] + 1])
    assert sorted(taken.tolist()) == list(range(layout.messages))


@given(tops, probabilities, st.data())
def test_any_range_is_the_slice_of_the_whole(top_level: int, probability: float, data: st.DataObject) -> None:
    layout = layout_of(top_level, probability)
    start = data.draw(st.integers(0, top_level))
    stop = data.draw(st.integers(start, top_level))
    np.testing.assert_array_equal(layout.have_replies(start, stop), layout.have_replies(0, top_level)[start:stop])


@given(tops, probabilities)
def test_counts_add_up_block_by_block(top_level: int, probability: float) -> None:
    layout = layout_of(top_level, probability)
    have_replies = layout.have_replies(0, top_level)
    assert have_replies.shape == (top_level,)
    by_block = [int(have_replies[start : start + BLOCK].sum()) for start in range(0, top_level, BLOCK)]
    assert by_block == layout.replies.tolist()
    assert layout.messages == top_level + int(have_replies.sum()) == layout.number(top_level)


@pytest.mark.parametrize("top_level", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 10 * BLOCK + 7])
def test_certain_replies(top_level: int) -> None:
    assert layout_of(top_level, 0.0).messages == top_level
    assert layout_of(top_level, 1.0).messages == 2 * top_level
    assert layout_of(top_level, 1.0).number(top_level - 1) == 2 * (top_level - 1)


def test_last_partial_block_has_its_share_of_replies() -> None:
    rest, probability, seeds = 100, 0.2, 4000
    replies = np.array([layout_of(BLOCK + rest, probability, seed).replies[1] for seed in range(seeds)])
    assert replies.max() <= rest
    assert abs(replies.mean() - rest * probability) < 4 * math.sqrt(rest * probability * (1 - probability) / seeds)


def test_more_messages_do_not_change_the_blocks_before() -> None:
    short, long = layout_of(3 * BLOCK, 0.2), layout_of(9 * BLOCK + 5, 0.2)
    np.testing.assert_array_equal(short.have_replies(0, 3 * BLOCK), long.have_replies(0, 3 * BLOCK))


def test_every_message_of_a_block_gets_a_reply_as_often() -> None:
    blocks = 2000
    counts = layout_of(blocks * BLOCK, 0.2).have_replies(0, blocks * BLOCK).reshape(blocks, BLOCK).sum(axis=0)
    assert np.abs(counts - 0.2 * blocks).max() < 5 * math.sqrt(blocks * 0.2 * 0.8)


def test_share_of_replies_is_the_probability() -> None:
    top_level = 10**6
    layout = layout_of(top_level, 0.2)
    assert abs(layout.messages - 1.2 * top_level) < 4 * math.sqrt(top_level * 0.2 * 0.8)


def test_neighbours_are_independent() -> None:
    have_replies = layout_of(400_000, 0.2).have_replies(0, 400_000).astype(np.float64)
    correlation = np.corrcoef(have_replies[:-1], have_replies[1:])[0, 1]
    assert abs(correlation) < 4 / math.sqrt(len(have_replies)) + 1 / BLOCK
