"""What chance allows: a bound that never calls fair draws wrong, and sees what is far off."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkseed.verifier.rule_checks import FALSE_ALARM, within_chance

STEPS = 1024
shares = st.integers(0, STEPS).map(lambda step: step / STEPS)
"""Shares that are exact in binary, as are their complements."""
numbers = st.integers(1, 10_000_000)


@given(found=shares, expected=shares, trials=numbers)
def test_is_symmetric(found: float, expected: float, trials: int) -> None:
    assert within_chance(found, trials, expected) == within_chance(1 - found, trials, 1 - expected)


@given(expected=shares, steps=st.tuples(st.integers(0, STEPS), st.integers(0, STEPS)), trials=numbers)
def test_allows_less_the_further_away(expected: float, steps: tuple[int, int], trials: int) -> None:
    nearer, further = sorted(steps)
    for side in (-1, 1):
        if within_chance(expected + side * further / STEPS, trials, expected):
            assert within_chance(expected + side * nearer / STEPS, trials, expected)


@given(found=shares, expected=shares, trials=st.tuples(numbers, numbers))
def test_allows_less_the_more_trials(found: float, expected: float, trials: tuple[int, int]) -> None:
    fewer, more = sorted(trials)
    if within_chance(found, more, expected):
        assert within_chance(found, fewer, expected)


@given(expected=st.floats(0, 1), trials=st.integers(0, 10**12))
def test_allows_what_is_expected(expected: float, trials: int) -> None:
    assert within_chance(expected, trials, expected)


@given(found=shares, expected=shares, trials=numbers)
def test_sees_what_is_far_off(found: float, expected: float, trials: int) -> None:
    # Pinsker's inequality: the relative entropy is at least twice the square of the distance
    if 2 * trials * (found - expected) ** 2 > math.log(2 / FALSE_ALARM) + 1e-6:
        assert not within_chance(found, trials, expected)


@given(trials=st.integers(1, 150), expected=shares)
def test_false_alarms_are_as_rare_as_promised(trials: int, expected: float) -> None:
    refused = math.fsum(
        math.comb(trials, hits) * expected**hits * (1 - expected) ** (trials - hits)
        for hits in range(trials + 1)
        if not within_chance(hits / trials, trials, expected)
    )
    assert refused <= FALSE_ALARM


@given(
    found=shares,
    expected=shares,
    trials=numbers,
    low=st.integers(-1000, 1000),
    exponent=st.integers(0, 10),
)
def test_of_a_mean_is_that_of_the_share_on_its_scale(
    found: float, expected: float, trials: int, low: int, exponent: int
) -> None:
    width = 2**exponent
    high = low + width
    answer = within_chance(low + found * width, trials, low + expected * width, low=low, high=high)
    assert answer == within_chance(found, trials, expected)


@pytest.mark.parametrize(
    ("found", "trials", "expected", "within"),
    [
        (0.0, 0, 0.9, True),
        (0.5, 20, 0.9, True),
        (0.0, 20, 0.9, False),
        (0.901, 2_000_000, 0.9, True),
        (0.903, 2_000_000, 0.9, False),
        (1.0, 5, 1.0, True),
        (0.999, 1000, 1.0, False),
        (0.001, 1000, 0.0, False),
        (1.5, 10, 0.9, False),
        (-0.1, 10, 0.9, False),
    ],
)
def test_known_cases(found: float, trials: int, expected: float, within: bool) -> None:
    assert within_chance(found, trials, expected) is within


def test_values_that_can_only_be_one_must_be_it() -> None:
    assert within_chance(2.0, 100, 2.0, low=2.0, high=2.0)
    assert not within_chance(2.01, 100, 2.0, low=2.0, high=2.0)
