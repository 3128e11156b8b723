"""The moments of messages in closed form: any span of time finds its part of every channel."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkseed.generators import Context
from bulkseed.generators.timeline import Timeline, make_timeline
from bulkseed.plan.plan import Plan, microseconds
from bulkseed.plan.slices import slice_boundaries
from bulkseed.randomness.distributions import WEEK, Week
from bulkseed.randomness.draws import Ints
from bulkseed.scenarios.planning import make_plan
from bulkseed.text.faker_source import make_corpus
from support.generated_rows import placement_of

AS_OF = microseconds(datetime(2026, 6, 1, 12, 30, tzinfo=UTC))
DAY = 86_400_000_000

weeks = st.sampled_from([None, Week(0.7, 0.06), Week(1, 0), Week(0, 1), Week(0.2, 0.5)])
ages = st.one_of(st.integers(0, 3), st.integers(0, 10 * DAY), st.integers(0, 700 * DAY))
channels = st.lists(st.tuples(ages, st.one_of(st.integers(1, 5), st.integers(1, 500))), min_size=1, max_size=8)
shares = st.lists(st.floats(0, 1), max_size=6)


def timeline_of(drawn: list[tuple[int, int]], week: Week | None, key: int) -> tuple[Timeline, Ints]:
    starts = np.array([AS_OF - age for age, _ in drawn])
    counts = np.array([count for _, count in drawn])
    return make_timeline(starts, np.full(len(drawn), AS_OF), counts, week, key), starts


@given(channels, weeks, st.integers(0, 2**128 - 1), shares)
def test_the_parts_of_a_history_are_the_whole_however_it_is_cut(
    drawn: list[tuple[int, int]], week: Week | None, key: int, cuts: list[float]
) -> None:
    timeline, starts = timeline_of(drawn, week, key)
    first, end = int(starts.min()), AS_OF + 1
    whole = timeline.between(first, end)
    assert np.bincount(whole.channel, minlength=len(drawn)).tolist() == [count for _, count in drawn]
    assert (np.diff(whole.created) >= 0).all()
    assert (starts[whole.channel] <= whole.created).all()
    assert (whole.created <= AS_OF).all()
    # moments of messages too, where rounding would show first
    inner = {first + int(cut * (end - first)) for cut in cuts} | set(whole.created[:: max(1, len(whole.created) // 20)])
    moments = sorted({first, end, *map(int, inner)})
    parts = [timeline.between(start, stop) for start, stop in pairwise(moments)]
    for part, (start, stop) in zip(parts, pairwise(moments), strict=True):
        assert part.number == np.searchsorted(whole.created, start)
        assert ((start <= part.created) & (part.created < stop)).all()
    assert np.array_equal(np.concatenate([part.channel for part in parts]), whole.channel)
    assert np.array_equal(np.concatenate([part.created for part in parts]), whole.created)


@given(weeks.filter(lambda week: week is not None), st.integers(1, 800 * WEEK), st.integers(1, 10**7))
def test_positions_in_a_week_are_the_least_of_their_moments(week: Week, moment: int, step: int) -> None:
    moments = np.arange(20) * step + moment
    positions = week.positions(moments)
    assert (week.moments(positions) >= moments).all()
    assert (week.moments(positions - 1) < moments).all()


def test_the_hours_of_the_week_have_their_shares() -> None:
    week = Week(0.7, 0.06)
    timeline = make_timeline(np.array([AS_OF - 50 * WEEK - DAY]), np.array([AS_OF]), np.array([100_000]), week, key=5)
    created = timeline.between(AS_OF - 100 * WEEK, AS_OF + 1).created
    within = (created - 4 * DAY) % WEEK
    weekend, hour = within >= 5 * DAY, within % DAY // (DAY // 24)
    office = ~weekend & (hour >= 9) & (hour < 17)
    assert (office.mean(), weekend.mean()) == pytest.approx((0.7, 0.06), abs=0.001)


PLANS = {
    "default": lambda: make_plan(scale="20x", as_of=datetime(2026, 6, 1, tzinfo=UTC)),
    "slack": lambda: make_plan(scenario="slack", scale="20x", as_of=datetime(2026, 6, 1, tzinfo=UTC)),
    "no time": lambda: make_plan(scale="2x", as_of=datetime(2026, 1, 1, tzinfo=UTC)),
    "one hour": lambda: make_plan(scale="2x", as_of=datetime(2026, 1, 1, 1, tzinfo=UTC)),
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("messages", [100, 5_000, 10**9])
def test_slices_cover_the_history(name: str, messages: int) -> None:
    plan: Plan = PLANS[name]()
    cuts = slice_boundaries(plan, messages)
    assert cuts[0] == microseconds(plan.history_start)
    assert cuts[-1] == microseconds(plan.as_of) + 1
    assert list(cuts) == sorted(set(cuts))
    assert len(cuts) - 1 <= max(1, round(plan.top_level_messages / messages))


def test_slices_have_about_equally_many_messages() -> None:
    plan = make_plan(scale="50x", as_of=datetime(2026, 6, 1, tzinfo=UTC))
    timeline = Context(plan, placement_of(), make_corpus(plan.locale)).history.timeline
    found = [len(timeline.between(*bounds).channel) for bounds in pairwise(slice_boundaries(plan, 10_000))]
    assert sum(found) == plan.top_level_messages
    assert found == pytest.approx([10_000] * 50, rel=0.1)


@given(channels, weeks, st.integers(0, 2**128 - 1), shares, st.integers(1, 40))
def test_the_moment_after_some_messages_is_the_first_with_so_many(
    drawn: list[tuple[int, int]], week: Week | None, key: int, cuts: list[float], messages: int
) -> None:
    timeline, starts = timeline_of(drawn, week, key)
    first, end = int(starts.min()), AS_OF + 1
    start = first + int((cuts[0] if cuts else 0) * (end - first))
    moment = timeline.moment_after(start, messages, end)
    assert start <= moment <= end
    if moment < end:
        assert len(timeline.between(start, moment).channel) >= messages
    if moment > start:
        assert len(timeline.between(start, moment - 1).channel) < messages


def test_a_channel_without_messages_is_no_trouble() -> None:
    starts, ends = np.array([0, 0]), np.array([1000, 1000])
    timeline = make_timeline(starts, ends, np.array([0, 3]), None, key=1)
    found = timeline.between(0, 1001)
    assert found.channel.tolist() == [1, 1, 1]
    assert (
        timeline.between(0, 1001, timeline.before(0), timeline.before(1001)).created.tolist() == found.created.tolist()
    )
