"""Plans: which values are accepted, which are refused with which code, and the way through JSON."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkseed.errors import InputError
from bulkseed.plan.activity import expected_rows
from bulkseed.plan.plan import Placement, Plan, Probabilities, microseconds, parse_as_of, scale_counts
from bulkseed.plan.shards import split_into_shards
from bulkseed.plan.tables import ROOTS
from support.errors import raises
from support.plans import AS_OF, plan_of

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)

probabilities = st.floats(0, 1)
plans = st.builds(
    Plan,
    users=st.integers(2, 10**6),
    channels=st.integers(1, 10**6),
    messages_per_channel=st.integers(1, 10**6),
    as_of=st.datetimes(timezones=st.just(UTC)),
    seed=st.integers(),
    max_members=st.none() | st.integers(2),
    locale=st.text(max_size=12),
    probabilities=st.builds(
        Probabilities,
        user_active=probabilities,
        channel_dm=probabilities,
        channel_private=probabilities,
        message_paragraph=probabilities,
        message_reply=probabilities,
        message_reactions=probabilities,
    ),
)
ids = st.integers(1, 2**62)
placements = st.builds(
    Placement,
    first_user=ids,
    first_channel=ids,
    first_message=ids,
    reactions=st.lists(ids, max_size=8).map(tuple),
    variant=st.integers(0, 20),
)


def refused(code: str, call: Any, *arguments: Any, **named: Any) -> str:
    """The message of the InputError with ``code`` that a call raises: a single line."""
    with raises(code, kind=InputError) as caught:
        call(*arguments, **named)
    message = str(caught.value)
    assert message
    assert message.isprintable(), "one line, without control characters"
    return message


@pytest.mark.parametrize(
    ("scale", "users", "channels", "messages"),
    [
        ("1x", 20, 10, 20),
        ("100x", 2000, 1000, 2000),
        ("100", 2000, 1000, 2000),
        ("100X", 2000, 1000, 2000),
        (" 3x\n", 60, 30, 60),
        ("2.5x", 50, 25, 50),
        (".5x", 10, 5, 10),
        ("0.125x", 3, 1, 3),  # 2.5 up, 1.25 down
        ("1.25x", 25, 13, 25),  # 12.5 up
        ("1.2499x", 25, 12, 25),
        ("0.075", 2, 1, 2),  # 1.5 and 0.75 up
        ("0.05x", 2, 1, 1),  # the fewest users are two
        ("0.000000001x", 2, 1, 1),
        ("007x", 140, 70, 140),
        ("999999999x", 19_999_999_980, 9_999_999_990, 19_999_999_980),
    ],
)
def test_scale_multiplies_and_rounds_half_up(scale: str, users: int, channels: int, messages: int) -> None:
    assert scale_counts(scale) == {"users": users, "channels": channels, "messages_per_channel": messages}


@given(st.integers(1, 10**12))
def test_scale_rounds_half_up_to_the_ninth_place(billionths: int) -> None:
    factor = Fraction(billionths, 10**9)

    def half_up(at_1x: int, least: int) -> int:
        return max(least, math.floor(at_1x * factor + Fraction(1, 2)))

    counts = scale_counts(f"{billionths // 10**9}.{billionths % 10**9:09}x")
    assert counts == {
        "users": half_up(20, 2),
        "channels": half_up(10, 1),
        "messages_per_channel": half_up(20, 1),
    }


@pytest.mark.parametrize(
    "scale",
    [
        "0x",
        "0",
        "0.0x",
        "-1x",
        "+1x",
        "abc",
        "1e400x",
        "1e3",
        "",
        " ",
        "x",
        "100xx",
        "nan",
        "inf",
        "nanx",
        "1 x",
        "1,5x",
        "1_0x",
        "1/2x",
        "5.x",
        ".x",
        "1.2.3",
        "1x\n2x",
        "0x10",
    ],
)
def test_wrong_scale_is_refused(scale: str) -> None:
    message = refused("invalid-scale", scale_counts, scale)
    assert "--scale" in message
    assert repr(scale) in message


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-06-01", datetime(2026, 6, 1, tzinfo=UTC)),
        (" 2026-06-01 ", datetime(2026, 6, 1, tzinfo=UTC)),
        ("2026-06-01T12:30:00", datetime(2026, 6, 1, 12, 30, tzinfo=UTC)),
        ("2026-06-01 12:30:00Z", datetime(2026, 6, 1, 12, 30, tzinfo=UTC)),
        ("2026-06-01T12:30:00.123456+05:45", datetime(2026, 6, 1, 6, 45, 0, 123456, tzinfo=UTC)),
        ("2026-01-01T00:30+02:00", datetime(2025, 12, 31, 22, 30, tzinfo=UTC)),
        ("2026-06-15T12:00:00Z", NOW),
        ("2026-06-15T23:59:59+12:00", NOW - timedelta(seconds=1)),
    ],
)
def test_as_of_is_read_as_utc(text: str, moment: datetime) -> None:
    read = parse_as_of(text, NOW)
    assert read == moment
    assert read.tzinfo is UTC


@given(st.datetimes(datetime(1900, 1, 1), datetime(2026, 1, 1)), st.integers(-1439, 1439))
def test_as_of_comes_back_from_any_zone(naive: datetime, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    if naive - timedelta(days=1) > datetime.min:
        local = naive.replace(tzinfo=UTC).astimezone(zone)
        assert parse_as_of(local.isoformat(), NOW) == naive.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2026-06-15T12:00:00.000001Z", "2026-06-16", "2026-06-15T12:00:00-00:01", "9999-12-31"]
)
def test_as_of_in_the_future_is_refused(text: str) -> None:
    message = refused("as-of-in-future", parse_as_of, text, NOW)
    assert "--as-of" in message
    assert repr(text) in message
    assert "2026-06-15T12:00:00Z" in message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "yesterday",
        "2026-13-01",
        "2026-02-30",
        "01.06.2026",
        "2026-06-01T25:00",
        "1780000000",
        "nan",
        "2026-06-01T12:30:00+25:00",
        "0001-01-01T00:00+05:00",
        "9999-12-31T23:59-05:00",
        "2026-06-01\x00",
    ],
)
def test_malformed_as_of_is_refused(text: str) -> None:
    message = refused("invalid-as-of", parse_as_of, text, NOW)
    assert "--as-of" in message
    assert repr(text) in message


@pytest.mark.parametrize("text", ["1899-12-31T23:59:59Z", "0001-01-02", "1900-01-01T00:30+01:00"])
def test_as_of_too_early_is_refused(text: str) -> None:
    message = refused("as-of-too-early", parse_as_of, text, NOW)
    assert "--as-of" in message
    assert repr(text) in message
    assert "1900" in message


@pytest.mark.parametrize(
    ("changes", "code", "fact"),
    [
        ({"users": 1}, "count-too-small", "--users 2"),
        ({"users": 0}, "count-too-small", "--users 2"),
        ({"users": -5}, "count-too-small", "--users 2"),
        ({"channels": 0}, "count-too-small", "--channels 1"),
        ({"messages_per_channel": 0}, "count-too-small", "--messages-per-channel 1"),
        ({"max_members": 1}, "count-too-small", "--max-members 1"),
        ({"max_members": 0}, "count-too-small", "--max-members 0"),
        ({"users": 2_000_000_001}, "count-too-large", "2,000,000,001 users"),
        ({"channels": 10**7, "messages_per_channel": 10**6}, "count-too-large", "10,000,000,000,000 messages"),
        ({"as_of": datetime(2026, 6, 1)}, "as-of-without-time-zone", "as_of"),
    ],
)
def test_plan_that_contradicts_the_rules_is_refused(changes: dict[str, Any], code: str, fact: str) -> None:
    assert fact in refused(code, plan_of, **changes)


def test_counts_are_named_in_the_singular_and_plural() -> None:
    assert refused("count-too-small", plan_of, users=1).startswith("1 user ")
    assert refused("count-too-small", plan_of, users=0).startswith("0 users ")
    assert refused("count-too-small", plan_of, channels=-1).startswith("-1 channels ")
    assert refused("count-too-small", plan_of, messages_per_channel=0).startswith("0 messages ")


@pytest.mark.parametrize("name", [*Probabilities.__dataclass_fields__])
@pytest.mark.parametrize("value", [-0.1, 1.0000001, math.nan, math.inf, -math.inf])
def test_number_that_is_no_probability_is_refused(name: str, value: float) -> None:
    message = refused("parameter-out-of-range", Probabilities, **{name: value})
    assert name in message
    assert repr(value) in message


def test_limits_themselves_are_allowed() -> None:
    plan_of(users=2, channels=1, messages_per_channel=1, max_members=2)
    plan_of(users=2_000_000_000, channels=10**6, messages_per_channel=10**6)
    Probabilities(user_active=0, channel_dm=1, message_reply=0.0, message_reactions=1.0)


@pytest.mark.parametrize(
    ("users", "max_members", "largest"), [(20, None, 20), (20, 5, 5), (20, 500, 20), (2, None, 2), (2, 2, 2)]
)
def test_largest_channel(users: int, max_members: int | None, largest: int) -> None:
    assert plan_of(users=users, max_members=max_members).largest_channel == largest


def test_year_begins_in_utc() -> None:
    assert plan_of(as_of=datetime(2026, 6, 1, 5, tzinfo=UTC)).history_start == datetime(2026, 1, 1, tzinfo=UTC)
    assert plan_of(as_of=datetime(2026, 1, 1, tzinfo=UTC)).history_start == datetime(2026, 1, 1, tzinfo=UTC)
    # in Kiritimati it is 2026 already
    early = datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=14)))
    assert plan_of(as_of=early).history_start == datetime(2025, 1, 1, tzinfo=UTC)


@given(st.datetimes(timezones=st.just(UTC)))
def test_microseconds_are_exact(moment: datetime) -> None:
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds(moment)) == moment


@given(plans)
def test_plan_survives_json(plan: Plan) -> None:
    back = Plan.from_json(plan.to_json())
    assert back == plan
    assert back.as_of.tzinfo is not None
    assert back.to_json() == plan.to_json()


@given(placements)
def test_placement_survives_json(placement: Placement) -> None:
    back = Placement.from_json(placement.to_json())
    assert back == placement
    assert isinstance(back.reactions, tuple)


@given(plans)
def test_plan_expects_rows_of_every_table(plan: Plan) -> None:
    rows = expected_rows(plan)
    assert rows["users"] == plan.users
    assert rows["channels"] == plan.channels
    assert 2 * plan.channels <= rows["user_channels"] <= plan.channels * plan.users
    assert plan.top_level_messages <= rows["messages"] <= 2 * plan.top_level_messages
    assert 0 <= rows["message_reactions"] <= 3 * rows["messages"]


@given(st.integers(2, 500), st.integers(1, 500), st.integers(1, 100), st.integers(1, 100_000))
def test_shards_cover_the_plan_once_and_in_order(users: int, channels: int, messages: int, rows: int) -> None:
    shards = list(split_into_shards(plan_of(users=users, channels=channels, messages_per_channel=messages), rows))
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert [shard.kind for shard in shards] == sorted((shard.kind for shard in shards), key=ROOTS.index)
    slices = [(shard.start, shard.stop) for shard in shards if shard.kind == "messages"]
    assert all(start < stop for start, stop in slices)
    assert all(one[1] == other[0] for one, other in pairwise(slices))
    assert (slices[0][0], slices[-1][1]) == (microseconds(plan_of().history_start), microseconds(AS_OF) + 1)
    for kind, count in (("users", users), ("channels", channels)):
        covered = [number for shard in shards if shard.kind == kind for number in range(shard.start, shard.stop)]
        assert covered == list(range(count))


def test_plan_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        plan_of().users = 3  # type: ignore[misc]
    assert hash(plan_of()) == hash(plan_of())
    assert plan_of().as_of == AS_OF
