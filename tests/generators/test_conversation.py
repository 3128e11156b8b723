"""Messages and replies in order of time: the same rows however the history is cut (rules G1, G2, G4, G5 and T1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkseed.generators.authors import Authors
from bulkseed.generators.conversation import History, MessageSpan, generate_spans
from bulkseed.generators.members import make_members
from bulkseed.generators.timeline import make_timeline
from bulkseed.plan.plan import Plan, microseconds
from bulkseed.plan.shards import MessageLayout
from bulkseed.plan.slices import slice_boundaries, week_of
from bulkseed.randomness.draws import Streams, below, strata
from bulkseed.scenarios.planning import make_plan

HOUR = 3_600_000_000

AS_OFS = {
    "months": datetime(2026, 6, 1, 12, 30, tzinfo=UTC),
    "hours": datetime(2026, 1, 1, 6, tzinfo=UTC),
    "less than an hour": datetime(2026, 1, 1, 0, 40, tzinfo=UTC),
    "no time": datetime(2026, 1, 1, tzinfo=UTC),
}


@cache
def planned(name: str, scenario: str = "default", scale: str = "4x") -> Plan:
    return make_plan(scenario=scenario, scale=scale, as_of=AS_OFS[name])


@cache
def history_of(plan: Plan) -> History:
    """The history of a workspace with two founders in each channel, and any number of further members."""
    streams, start, as_of = Streams(plan.seed, 1), microseconds(plan.history_start), microseconds(plan.as_of)
    user_created = strata(streams.words("users", "created_at", 0, plan.users), 0, plan.users, start, as_of)
    count = plan.channels
    created = strata(streams.words("channels", "created_at", 0, count), 0, count, int(user_created[1]), as_of)
    existing = np.searchsorted(user_created, created, side="right")
    owner = below(streams.words("channels", "owner_id", 0, count), existing)
    second = below(streams.words("user_channels", "second", 0, count), existing - 1)
    second += second >= owner
    sizes = 2 + below(streams.words("user_channels", "members", 0, count), plan.users - 1)
    phases = streams.words("user_channels", "phase", 0, count), streams.words("user_channels", "part", 0, count)
    keys = streams.key("user_channels", "user_id"), streams.key("user_channels", "joined")
    members = make_members((owner, second), created, sizes, user_created, phases, keys)
    counts, shape = np.full(count, plan.messages_per_channel), plan.scenario.shape
    timeline = make_timeline(
        members.began, np.full(count, as_of), counts, week_of(shape), streams.key("messages", "created_at")
    )
    layout = MessageLayout(streams, plan.top_level_messages, plan.probabilities.message_reply, shape.most_replies)
    authors = Authors(members, None, (streams.key("messages", "user_id"), streams.key("messages", "reply.user_id")))
    return History(streams, timeline, authors, layout, as_of, slice_boundaries(plan, 500))


def joined_spans(history: History, cuts: Sequence[int]) -> MessageSpan:
    """All messages, from one span of time after the other; numbers leave no gap."""
    spans = [span for start, stop in pairwise(cuts) for span in generate_spans(history, start, stop)]
    ends = np.cumsum([len(span.channel) for span in spans])
    assert [span.number for span in spans] == [0, *ends[:-1].tolist()]
    arrays = [np.concatenate([getattr(span, field.name) for span in spans]) for field in fields(MessageSpan)[1:]]
    return MessageSpan(0, *arrays)


@cache
def whole(plan: Plan) -> MessageSpan:
    return joined_spans(history_of(plan), [microseconds(plan.history_start), microseconds(plan.as_of) + 1])


@pytest.mark.parametrize("name", AS_OFS)
@given(shares=st.lists(st.floats(0, 1), max_size=4))
def test_cuts_change_no_message(name: str, shares: list[float]) -> None:
    plan = planned(name)
    start, end = microseconds(plan.history_start), microseconds(plan.as_of) + 1
    cut = joined_spans(
        history_of(plan), sorted({start, end, *(start + int(share * (end - start)) for share in shares)})
    )
    for field in fields(MessageSpan)[1:]:
        assert np.array_equal(getattr(cut, field.name), getattr(whole(plan), field.name)), field.name


@pytest.mark.parametrize("scenario", ["default", "archive"])
@pytest.mark.parametrize("name", AS_OFS)
def test_messages_are_in_order_of_time_and_replies_follow_their_parents(name: str, scenario: str) -> None:
    plan = planned(name, scenario)
    history, rows = history_of(plan), whole(plan)
    assert len(rows.channel) == history.layout.messages
    assert (np.diff(rows.created) >= 0).all()
    top_level = ~rows.is_reply
    assert (np.bincount(rows.channel[top_level]) == plan.messages_per_channel).all()
    number = np.arange(len(rows.channel))
    assert (rows.parent[top_level] == number[top_level]).all()
    replies, parents = np.flatnonzero(rows.is_reply), rows.parent[rows.is_reply]
    assert len(replies)
    assert (parents < replies).all()
    assert top_level[parents].all()
    assert (rows.channel[parents] == rows.channel[replies]).all()
    assert (rows.author[parents] != rows.author[replies]).all()
    assert (rows.parent_created[replies] == rows.created[parents]).all()
    delay = rows.created[replies] - rows.created[parents]
    assert (delay <= HOUR).all()
    assert ((delay >= HOUR // 60) | (rows.created[replies] == history.as_of)).all()


@pytest.mark.parametrize("name", AS_OFS)
def test_authors_are_members_who_have_joined(name: str) -> None:
    plan = planned(name)
    members, rows = history_of(plan).authors.members, whole(plan)
    channel = np.repeat(np.arange(plan.channels), members.sizes)
    index = np.arange(len(channel)) - (np.cumsum(members.sizes) - members.sizes)[channel]
    user = members.users(channel, index)
    joined = members.joined(channel, index, user)
    since = dict(zip((channel * plan.users + user).tolist(), joined.tolist(), strict=True))
    wrote = (rows.channel * plan.users + rows.author).tolist()
    # both authors of a thread have joined before its first message
    assert all(since[who] <= moment for who, moment in zip(wrote, rows.parent_created.tolist(), strict=True))
