"""Slices of time, into which the messages of a plan are divided so that each has about the same number of rows.

The boundaries follow from the plan alone, and change no row: the order of messages is total, whoever divides it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

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


@lru_cache(maxsize=8)
def slice_boundaries(plan: Plan, messages: float) -> tuple[int, ...]:
    """Return the boundaries of slices of time with about ``messages`` expected top-level messages each.

    They are microseconds since 1970 UTC, ascend, begin with the start of the history, and end after as_of. Uses
    elementwise operations, sorting and cumulative sums only, which give the same on every machine.
    """
    start, as_of = microseconds(plan.history_start), microseconds(plan.as_of)
    week = week_of(plan.scenario.shape)
    moments, expected = expected_begins(plan)
    ends = np.array([as_of])
    begins, end = (moments, as_of) if week is None else (week.positions(moments), int(week.positions(ends)[0]))
    rates = np.cumsum(expected / np.maximum(end - begins, 1).astype(np.float64))
    before = np.concatenate([[0.0], np.cumsum(rates[:-1] * np.diff(begins)), [0.0]])
    before[-1] = before[-2] + rates[-1] * (end - begins[-1])
    count = max(1, round(plan.top_level_messages / messages))
    wanted = before[-1] * (np.arange(1, count) / count)
    begin = np.minimum(np.searchsorted(before, wanted, side="right"), len(begins)) - 1
    cuts = begins[begin] + ((wanted - before[begin]) / rates[begin]).astype(np.int64)
    inner = np.clip(cuts if week is None else week.moments(cuts), start, as_of + 1)
    return tuple(np.unique([start, *inner.tolist(), as_of + 1]).tolist())


def expected_begins(plan: Plan) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Return about when channels get their first messages, ascending, and the top-level messages of each.

    A DM of two begins with the later account (``generators/workspace.py``), any other channel when it is created.
    """
    ranking, channels = ranking_of(plan), plan.channels
    if ranking is None:
        per_channel = np.full(channels, float(plan.messages_per_channel))
        share = np.full(channels, plan.probabilities.channel_dm)
    else:
        per_channel = ranking.messages[ranking.rank].astype(np.float64)
        share = (ranking.rank >= ranking.regular + ranking.groups).astype(np.float64)
    start, latest = microseconds(plan.history_start), microseconds(plan.latest_signup)
    first = start + (latest - start) * min(1.5 / plan.users, 1.0)
    places = (np.arange(channels) + 0.5) / channels
    created = first + places * max(microseconds(plan.latest_channel) - first, 0.0)
    begins = np.concatenate([created, first + places * (latest - first)]).astype(np.int64)
    order = np.argsort(begins, kind="stable")
    # DMs in the order of their channels, as which of them begins when is not yet known
    return begins[order], np.concatenate([per_channel * (1 - share), per_channel * share])[order]
