"""Slices of time, into which the messages of a plan are divided so that each has about the same number of rows.

The boundaries follow from the plan alone, and change no row: the order of messages is total, whoever divides it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bulkseed.plan.activity import ranking_of
from bulkseed.plan.plan import Plan, microseconds
from bulkseed.plan.scenario import Shape
from bulkseed.randomness.distributions import Week
from bulkseed.randomness.draws import Ints

__all__ = ["slice_boundaries", "week_of"]


@lru_cache(maxsize=4)
def week_of(shape: Shape) -> Week | None:
    """Return the distribution of messages over the hours of a week; None where all hours are equal."""
    return None if shape.even_week else Week(shape.office_hours, shape.weekends)


@lru_cache(maxsize=4)
def slice_boundaries(plan: Plan, messages: float) -> tuple[int, ...]:
    """Return the boundaries of slices of time with about ``messages`` expected top-level messages each.

    They are microseconds since 1970 UTC, ascend, begin with the start of the history, and end after as_of. Uses
    elementwise operations and cumulative sums only, which give the same on every machine.
    """
    start, as_of = microseconds(plan.history_start), microseconds(plan.as_of)
    week = week_of(plan.scenario.shape)

    def positions(moments: Ints) -> Ints:
        return moments if week is None else week.positions(moments)

    begins, end = positions(expected_creation_times(plan)), int(positions(np.array([as_of]))[0])
    ranking = ranking_of(plan)
    per_channel = plan.messages_per_channel if ranking is None else ranking.messages[ranking.rank]
    rates = np.cumsum(per_channel / np.maximum(end - begins, 1).astype(np.float64))
    before = np.concatenate([[0.0], np.cumsum(rates[:-1] * np.diff(begins)), [0.0]])
    before[-1] = before[-2] + rates[-1] * (end - begins[-1])
    count = max(1, round(plan.top_level_messages / messages))
    wanted = before[-1] * (np.arange(1, count) / count)
    channel = np.minimum(np.searchsorted(before, wanted, side="right"), plan.channels) - 1
    cuts = begins[channel] + ((wanted - before[channel]) / rates[channel]).astype(np.int64)
    moments = cuts if week is None else week.moments(cuts)
    inner = np.unique(np.clip(moments, start, as_of + 1))
    return tuple(np.unique([start, *inner.tolist(), as_of + 1]).tolist())


def expected_creation_times(plan: Plan) -> Ints:
    """Return about when each channel is created (``generators/workspace.py``): microseconds, ``(channels,)``."""
    start, latest = microseconds(plan.history_start), microseconds(plan.latest_signup)
    first = start + (latest - start) * min(1.5 / plan.users, 1.0)
    places = (np.arange(plan.channels) + 0.5) / plan.channels
    moments: Ints = (first + places * (latest - first)).astype(np.int64)
    return moments
