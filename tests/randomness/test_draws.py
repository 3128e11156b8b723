"""Draws: every transform stays within its bounds for extreme words, and has the distribution in its name."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkseed.randomness.draws import (
    Ints,
    Streams,
    Words,
    below,
    between,
    binomial,
    binomial_thresholds,
    chance,
    thresholds_of,
    weighted,
)
from support.evenness import unevenness

LAST = 2**64 - 1
STREAMS = Streams(seed=1, first_user=1)

any_word = st.integers(0, LAST) | st.sampled_from([0, 1, 2**11, 2**32 - 1, 2**32, 2**63, LAST - 2**11, LAST - 1, LAST])
any_words = st.lists(any_word, min_size=1, max_size=8)


def words_of(values: list[int]) -> Words:
    return np.array(values, dtype=np.uint64)


def drawn(name: str, count: int) -> Words:
    return STREAMS.words("test_draws", name, 0, count)


def spread(count: int) -> Words:
    """Words that divide the scale evenly."""
    return words_of([(2 * index + 1) * 2**63 // count for index in range(count)])


@given(any_words, st.integers(1, 2**32 - 1))
def test_below_stays_below(values: list[int], bound: int) -> None:
    found = below(words_of(values), bound)
    assert found.dtype == np.int64
    assert ((found >= 0) & (found < bound)).all()


@given(st.lists(st.tuples(any_word, st.integers(1, 2**32 - 1)), min_size=1, max_size=8))
def test_below_takes_a_bound_for_each_word(pairs: list[tuple[int, int]]) -> None:
    words, bounds = words_of([word for word, _ in pairs]), np.array([bound for _, bound in pairs])
    one_by_one = [int(below(words[index : index + 1], bound)[0]) for index, (_, bound) in enumerate(pairs)]
    assert below(words, bounds).tolist() == one_by_one


@pytest.mark.parametrize("bound", [1, 2, 3, 2000, 2_000_000_000, 2**32 - 1])
def test_below_reaches_both_ends(bound: int) -> None:
    assert below(words_of([0, LAST]), bound).tolist() == [0, bound - 1]


@pytest.mark.parametrize("bound", [2, 3, 7, 20, 100])
def test_below_is_uniform(bound: int) -> None:
    assert unevenness(np.bincount(below(drawn(f"below.{bound}", 40_000), bound), minlength=bound)) < 4


@given(any_words, st.integers(-(2**50), 2**50), st.integers(0, 2**52 - 1))
def test_between_stays_between(values: list[int], low: int, span: int) -> None:
    found = between(words_of(values), np.full(len(values), low), low + span)
    assert found.dtype == np.int64
    assert ((found >= low) & (found <= low + span)).all()


@given(any_words, st.integers(-(2**50), 2**50), st.integers(0, 2**46))
def test_between_is_the_exact_product_to_a_microsecond(values: list[int], low: int, span: int) -> None:
    words = sorted(values)
    found = between(words_of(words), np.full(len(words), low), low + span).tolist()
    exact = [low + ((word >> 11) * (span + 1) >> 53) for word in words]
    assert all(abs(one - other) <= 1 for one, other in zip(found, exact, strict=True))
    assert found == sorted(found)


@pytest.mark.parametrize("span", [0, 1, 2, 59 * 60_000_000, 366 * 86_400 * 10**6, 2**45, 2**45 + 1, 2**52 - 1])
def test_between_reaches_both_ends(span: int) -> None:
    low = np.full(2, 1_780_000_000_000_000)
    assert (between(words_of([0, LAST]), low, int(low[0]) + span) - low).tolist() == [0, span]


def test_between_takes_an_upper_end_for_each_word() -> None:
    low, high = np.array([5, 5, 5]), np.array([5, 6, 5 + 2**45])
    assert between(words_of([LAST] * 3), low, high).tolist() == high.tolist()


@pytest.mark.parametrize("span", [1, 2, 9, 2**45])
def test_between_is_uniform(span: int) -> None:
    found: Ints = between(drawn(f"between.{span}", 40_000), np.zeros(40_000, dtype=np.int64), span)
    cells = min(span + 1, 64)
    assert unevenness(np.bincount(found * cells // (span + 1), minlength=cells)) < 4


@given(any_words)
def test_chance_of_nothing_and_of_everything_is_certain(values: list[int]) -> None:
    assert not chance(words_of(values), 0.0).any()
    assert chance(words_of(values), 1.0).all()


@pytest.mark.parametrize("probability", [2**-53, 0.001, 0.2, 0.3, 0.5, 0.9, 1 - 2**-53])
def test_chance_is_exact_to_53_bits(probability: float) -> None:
    limit = round(Fraction(probability) * 2**53) << 11
    assert chance(words_of([0, limit - 1, limit]), probability).tolist() == [True, True, False]


@pytest.mark.parametrize("probability", [0.2, 0.3, 0.9])
def test_chance_has_its_share(probability: float) -> None:
    found = chance(drawn("chance", 40_000), probability)
    assert abs(found.mean() - probability) < 4 * math.sqrt(probability * (1 - probability) / len(found))


weights_strategy = st.lists(st.fractions(0, 1000, max_denominator=1000), min_size=1, max_size=12).filter(any)


@settings(max_examples=50)
@given(weights_strategy)
def test_weighted_gives_every_element_its_exact_share(weights: list[Fraction]) -> None:
    thresholds = thresholds_of(weights)
    assert thresholds.dtype == np.uint64
    total = sum(weights)
    # elements without weight at the end need no threshold
    ends = [0, *(int(end) for end in thresholds), *[2**64] * (len(weights) - len(thresholds))]
    assert ends == sorted(ends)
    for weight, begin, end in zip(weights, ends[:-1], ends[1:], strict=True):
        assert abs((end - begin) - weight * 2**64 / total) <= 1


@settings(max_examples=50)
@given(weights_strategy, any_words)
def test_weighted_draws_only_elements_that_have_weight(weights: list[Fraction], values: list[int]) -> None:
    found = weighted(words_of(values), thresholds_of(weights))
    assert found.dtype == np.int64
    assert all(weights[index] > 0 for index in found)
    assert found.max() < len(weights)


def test_single_element_is_always_drawn() -> None:
    assert weighted(words_of([0, 1, LAST]), thresholds_of([Fraction(7, 3)])).tolist() == [0, 0, 0]


@pytest.mark.parametrize("trials", range(1, 13))
@pytest.mark.parametrize("probability", [0.2, 0.5, 0.77, 2**-20, 1 - 2**-20])
def test_binomial_is_exact(trials: int, probability: float) -> None:
    hit = Fraction(round(probability * 2**32), 2**32)
    reached = Fraction(0)
    expected = []
    for successes in range(trials):
        reached += math.comb(trials, successes) * hit**successes * (1 - hit) ** (trials - successes)
        expected.append(min(math.floor(reached * 2**64), LAST))
    assert binomial_thresholds(trials, probability).tolist() == expected


@pytest.mark.parametrize("trials", [1, 2, 5, 12, 1000, 1024])
def test_binomial_of_certainties(trials: int) -> None:
    words = words_of([0, 1, 2**63, LAST - 1])
    assert (binomial(words, trials, 0.0) == 0).all()
    assert (binomial(words, trials, 1.0) == trials).all()


@pytest.mark.parametrize("probability", [0.001, 0.2, 0.5, 0.999])
def test_binomial_of_a_block_has_its_mean_and_variance(probability: float) -> None:
    found = binomial(drawn("binomial", 40_000), 1024, probability)
    variance = 1024 * probability * (1 - probability)
    assert abs(found.mean() - 1024 * probability) < 4 * math.sqrt(variance / len(found))
    kurtosis = 3 + (1 - 6 * probability * (1 - probability)) / variance
    assert abs(found.var() / variance - 1) < 4 * math.sqrt((kurtosis - 1) / len(found))
    assert found.min() >= 0
    assert found.max() <= 1024


def test_binomial_of_few_trials_is_drawn_in_its_proportions() -> None:
    found = np.bincount(binomial(spread(100_000), 4, 0.25), minlength=5)
    exact = [math.comb(4, k) * 0.25**k * 0.75 ** (4 - k) * 100_000 for k in range(5)]
    assert np.abs(found - exact).max() <= 1
