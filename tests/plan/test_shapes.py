"""Shapes: rows have the distributions that a scenario file sets, and every rule holds for every shape."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import Field, fields
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bulkseed.embedded import Server
from bulkseed.errors import InputError
from bulkseed.loader.load import load
from bulkseed.plan.activity import expected_channel_rows, expected_rows, ranking_of, user_activity_of
from bulkseed.plan.plan import Plan, Probabilities, microseconds
from bulkseed.plan.scenario import EVEN_OFFICE_HOURS, EVEN_WEEKENDS, Scenario, Shape
from bulkseed.plan.shards import BLOCK, MessageLayout, shard_counts, split_into_shards
from bulkseed.postgres.address import Address
from bulkseed.randomness.distributions import (
    HOUR,
    MONDAY,
    apportion,
    fit_exponent,
    rank_weights,
    whole_weights,
)
from bulkseed.randomness.draws import Streams
from bulkseed.verifier.verify import VerifyReport, verify
from support.corruptions import UNCHECKED
from support.databases import MakeDatabase, address_of
from support.errors import raises
from support.generated_rows import placement_of, tables_of
from support.plans import AS_OF, plan_of
from support.queries import run_sql
from support.workspace_rules import Rows, check_columns, check_joining, check_reactions, rows_of

SCENARIOS: Final = ("default", "slack", "viral", "archive", "tiny")
DAY: Final = 24 * HOUR
MINUTE: Final = HOUR // 60


def scenario_file(name: str) -> dict[str, Any]:
    return tomllib.loads((files("bulkseed") / "scenarios" / f"{name}.toml").read_text())


def shaped(scale: float = 1, seed: int = 1, counts: Mapping[str, int] | None = None, **shape: Any) -> Plan:
    """A plan of a shape alone."""
    return plan_of(f"{scale}x", seed=seed, scenario=Scenario(shape=Shape(**shape)), **(counts or {}))


def shipped(name: str, scale: float = 1, seed: int = 1) -> Plan:
    """The plan of a scenario that ships, its counts times ``scale``."""
    values = scenario_file(name)
    counts = {count: max(2, round(value * scale)) for count, value in values["counts"].items()}
    scenario = Scenario(name=name, shape=Shape(**values.get("shape", {})))
    chances = Probabilities(**values.get("probabilities", {}))
    return Plan(**counts, as_of=AS_OF, seed=seed, probabilities=chances, scenario=scenario)


exponents = st.sampled_from([0.0, 0.3, 0.8, 1.0, 1.3, 2.5])
shares = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])
WEEKS: Final = [(EVEN_OFFICE_HOURS, EVEN_WEEKENDS), (0.7, 0.06), (0.0, 1.0), (1.0, 0.0), (0.1, 0.0)]


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    idle, (office_hours, weekends) = draw(shares), draw(st.sampled_from(WEEKS))
    return Shape(
        history=draw(st.sampled_from([0.5, 2, 7.5] if idle else [0, 0.001, 0.5, 2])),
        channel_sizes=draw(exponents),
        everyone=draw(shares),
        channel_activity=draw(exponents),
        user_activity=draw(exponents),
        idle=idle,
        idle_days=draw(st.sampled_from([1, 7, 90])),
        office_hours=office_hours,
        weekends=weekends,
        most_replies=draw(st.sampled_from([1, 2, 5, 50])),
        group_dms=draw(shares),
        viral=draw(shares),
    )


chances = st.builds(
    Probabilities,
    channel_dm=st.sampled_from([0.0, 0.3, 0.75, 1.0]),
    channel_private=shares,
    message_reply=st.sampled_from([0.0, 0.2, 1.0]),
    message_paragraph=st.just(0.1),
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    return Plan(
        users=draw(st.integers(2, 40)),
        channels=draw(st.integers(1, 15)),
        messages_per_channel=draw(st.integers(1, 40)),
        as_of=draw(st.sampled_from([AS_OF, datetime(2026, 1, 1, tzinfo=UTC), datetime(1969, 3, 1, tzinfo=UTC)])),
        seed=draw(st.integers(0, 2**64)),
        max_members=draw(st.none() | st.integers(2, 45)),
        probabilities=draw(chances),
        scenario=Scenario(shape=draw(shapes())),
    )


def check_rules_of_shape(rows: Rows) -> None:
    """Check the rules of rules.md that hold for every shape, and those of the shape itself."""
    plan, shape = rows.plan, rows.plan.scenario.shape
    start, latest_signup = microseconds(plan.history_start), microseconds(plan.latest_signup)
    joined, made = rows.numbers("users", "created_at"), rows.numbers("channels", "created_at")
    owners = rows.numbers("channels", "owner_id")
    assert ((joined >= start) & (joined <= latest_signup)).all()
    assert ((made >= rows.user_created(owners)) & (made <= latest_signup)).all()
    check_members(rows)

    ids, authors = rows.numbers("messages", "id"), rows.numbers("messages", "user_id")
    channels, created = rows.numbers("messages", "channel_id"), rows.numbers("messages", "created_at")
    np.testing.assert_array_equal(ids, rows.placement.first_message + np.arange(len(ids)))
    assert rows.are_members(authors, channels)
    assert (created >= np.maximum(rows.channel_created(channels), rows.user_created(authors))).all()
    assert (created <= rows.as_of).all()
    parents = rows.tables["messages"]["parent_id"].combine_chunks()
    is_reply = parents.is_valid().to_numpy(zero_copy_only=False)
    assert (~is_reply).sum() == plan.top_level_messages
    parent = parents.drop_null().to_numpy() - rows.placement.first_message
    assert not is_reply[parent].any()
    assert np.bincount(parent, minlength=1).max() <= shape.most_replies
    assert (parent < np.flatnonzero(is_reply)).all()
    assert (channels[is_reply] == channels[parent]).all()
    assert (authors[is_reply] != authors[parent]).all()
    assert (rows.user_created(authors[is_reply]) <= created[parent]).all()
    assert (created[is_reply] >= np.minimum(created[parent] + MINUTE, rows.as_of)).all()
    assert (created[is_reply] <= created[parent] + 60 * MINUTE).all()
    if shape.idle:
        lately = np.unique(authors[created > microseconds(plan.idle_since)])
        assert len(lately) <= plan.users - math.floor(shape.idle * plan.users + 0.5)


def check_members(rows: Rows) -> None:
    check_joining(rows)
    plan, shape = rows.plan, rows.plan.scenario.shape
    users, of = rows.numbers("user_channels", "user_id"), rows.numbers("user_channels", "channel_id")
    assert len(np.unique(np.stack([users, of]), axis=1).T) == len(users)
    first_rows = np.searchsorted(of, rows.numbers("channels", "id"))
    np.testing.assert_array_equal(users[first_rows], rows.numbers("channels", "owner_id"))
    sizes = rows.members_of(rows.numbers("channels", "id"))
    is_dm = rows.numbers("channels", "is_dm").astype(bool)
    assert sizes.min() >= 2
    assert (sizes[is_dm] <= (8 if shape.group_dms else 2)).all()
    assert (sizes[~is_dm][shape.viral > 0 :] <= plan.largest_channel).all()
    if shape.viral:
        assert sizes[0] == plan.users
        assert not is_dm[0]


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(plans())
@example(shaped(0.1, channel_activity=1.2, channel_sizes=0.8, user_activity=1.0))
def test_every_rule_holds_for_every_shape(plan: Plan) -> None:
    rows = rows_of(plan)
    check_columns(rows)
    check_rules_of_shape(rows)
    check_reactions(rows)


def failures(report: VerifyReport) -> list[str]:
    rules = [f"{check.rule} {check.text}: {check.example}" for check in report.rules if check.violations]
    return rules + [f"{check.rule} {check.text}: {check}" for check in report.chances if not check.within]


LOADED: Final = {
    **{name: shipped(name, scale) for name, scale in zip(SCENARIOS, (1, 5, 3, 1, 1), strict=True)},
    "steep": shaped(3, channel_sizes=2, channel_activity=2, user_activity=2.5, group_dms=1),
    "all of it": shaped(3, history=1, everyone=0.5, channel_sizes=1, channel_activity=0.5, user_activity=0.7, idle=0.5,
                        office_hours=0.9, weekends=0, most_replies=7, group_dms=0.5, viral=0.3),
    "young": shaped(3, history=0.01, office_hours=0.9, weekends=0.05, user_activity=1),
    "a dead workspace": shaped(3, history=1, idle=1),
    "everyone in one": shaped(2, viral=1),
    "long threads": shaped(3, most_replies=50, user_activity=1.2),
    "two users": shaped(3, counts={"users": 2}, group_dms=1, channel_sizes=1, viral=0.5),
}  # fmt: skip


@pytest.mark.parametrize("plan", LOADED.values(), ids=LOADED.keys())
async def test_loaded_rows_hold_every_rule(database: Address, plan: Plan) -> None:
    await load(plan, database)
    [report] = await verify(database)
    assert failures(report) == []


WRONG: Final = {
    "UPDATE messages SET created_at = '2026-04-05 23:00'": (
        "G2 no more users than the shape allows",
        "G2 share of top-level messages in office hours",
        "G2 share of top-level messages at weekends",
    ),
    "UPDATE messages SET created_at = '2025-06-01'": ("G2 share of users who wrote nothing",),
    "UPDATE messages SET parent_id = (SELECT min(parent_id) FROM messages) WHERE parent_id IS NOT NULL": (
        "G4 a message has at most 5 replies",
        "G4 share of top-level messages that have replies",
    ),
    "DELETE FROM messages AS m WHERE EXISTS "
    "(SELECT FROM messages AS o WHERE o.parent_id = m.parent_id AND o.id < m.id)": (
        "G4 share of messages with replies that have 1",
    ),
    "UPDATE channels SET is_dm = false, is_private = true WHERE is_dm AND id < 100": (
        "C1 the number of channels that are DMs",
        "C1 the number of channels that are private",
        "C1 share of channels that are DMs",
    ),
    "DELETE FROM user_channels AS m USING channels AS c WHERE m.channel_id = c.id AND m.user_id <> c.owner_id": (
        "M1 the number of channels that are group DMs",
        "M1 a DM has 2 to 8 members",
        "M1 share of DMs that are group DMs",
        "M2 the number of members of a regular channel",
    ),
    "UPDATE messages SET channel_id = 1, user_id = 1 + id % 30": (
        "N the number of top-level messages of a channel",
        "N Zipf exponent of messages over channels",
        "G1 Zipf exponent of messages over users",
    ),
    "UPDATE users SET created_at = '2026-05-31'": ("U4 created_at is from 2 years before as_of to 68 days before",),
}


async def test_finds_what_a_shape_forbids(make_database: MakeDatabase, server: Server) -> None:
    loaded = await make_database("reference")
    await load(shipped("slack", 5), loaded)
    [report] = await verify(loaded)
    assert failures(report) == []
    admin, name = address_of(server, "postgres"), loaded.url.database
    for statement, checks in WRONG.items():
        copy = f"{name}_wrong"
        await run_sql(admin, f"CREATE DATABASE {copy} TEMPLATE {name} STRATEGY file_copy")
        await run_sql(address_of(server, copy), UNCHECKED, statement)
        [report] = await verify(address_of(server, copy))
        await run_sql(admin, f"DROP DATABASE {copy} WITH (FORCE)")
        for check in checks:
            assert any(failure.startswith(check) for failure in failures(report)), (check, failures(report))


@pytest.mark.parametrize("plan", [shipped("slack", 4), LOADED["all of it"], LOADED["long threads"]])
def test_rows_do_not_depend_on_how_shards_are_cut(plan: Plan) -> None:
    whole, cut_small = tables_of(plan), tables_of(plan, rows_per_shard=300)
    assert len(list(split_into_shards(plan, 300))) > 10
    for name, table in whole.items():
        assert table.equals(cut_small[name]), name


@given(plans(), st.integers(1, 5000))
def test_shards_cover_every_shape_once_and_in_order(plan: Plan, rows: int) -> None:
    shards = list(split_into_shards(plan, rows))
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert len(shards) == sum(shard_counts(plan, rows).values())
    channels = [shard for shard in shards if shard.kind == "channels"]
    assert [channel for shard in channels for channel in range(shard.start, shard.stop)] == list(range(plan.channels))
    by_channel = expected_channel_rows(plan)
    if by_channel is None:
        return
    for shard in channels:
        inside = by_channel[shard.start : shard.stop]
        assert inside[:-1].sum() <= rows + 1e-6, "all but the last channel fit"
    expected = expected_rows(plan)
    assert by_channel.sum() == pytest.approx(expected["channels"] + expected["user_channels"])


@pytest.mark.parametrize("name", SCENARIOS)
def test_expected_rows_are_those_made(name: str) -> None:
    plan = shipped(name, 10)
    made = {table: rows.num_rows for table, rows in tables_of(plan).items()}
    expected = expected_rows(plan)
    for table, rows in made.items():
        # regular channels of viral and tiny are of any size, and there are few of them
        assert rows == pytest.approx(expected[table], rel=0.15 if table == "user_channels" else 0.04), table


@pytest.mark.parametrize("seed", [1, 2])
def test_slack_is_what_its_file_asks_for(seed: int) -> None:
    asked, plan = scenario_file("slack"), shipped("slack", 30, seed)
    shape, rows = asked["shape"], rows_of_numbers(plan)
    authors, channels = rows.numbers("messages", "user_id"), rows.numbers("messages", "channel_id")
    created = rows.numbers("messages", "created_at")
    top_level = ~rows.tables["messages"]["parent_id"].combine_chunks().is_valid().to_numpy(zero_copy_only=False)
    first_user, first_channel = rows.placement.first_user, rows.placement.first_channel
    everywhere = rows.numbers("channels", "id")[rows.members_of(rows.numbers("channels", "id")) * 2 >= plan.users]
    since = (created > microseconds(plan.as_of) - shape["idle_days"] * DAY) & np.isin(channels, everywhere)
    lately = np.bincount(authors[since] - first_user, minlength=plan.users)
    by_channel = np.bincount(channels[top_level] - first_channel, minlength=plan.channels)
    last = np.zeros(plan.users, dtype=np.int64)
    np.maximum.at(last, authors - first_user, created)
    hour = (created[top_level] - MONDAY) // HOUR % 168
    is_dm = rows.numbers("channels", "is_dm")
    sizes = rows.members_of(rows.numbers("channels", "id"))
    found = {
        "user_activity": fit_exponent(np.sort(lately)[::-1][: round(plan.users * (1 - shape["idle"]))]),
        "channel_activity": fit_exponent(by_channel),
        "idle": (last < microseconds(plan.as_of) - shape["idle_days"] * DAY).mean(),
        "office_hours": ((hour < 120) & (hour % 24 >= 9) & (hour % 24 < 17)).mean(),
        "weekends": (hour >= 120).mean(),
        "group_dms": (sizes[is_dm == 1] > 2).mean(),
    }
    for name, value in found.items():
        assert value == pytest.approx(shape[name], rel=0.025), name
    assert is_dm.mean() == pytest.approx(asked["probabilities"]["channel_dm"], rel=0.002)
    assert sizes.max() == plan.users


def rows_of_numbers(plan: Plan) -> Rows:
    return Rows(plan, placement_of(), tables_of(plan, placement_of()))


@pytest.mark.parametrize("parameter", fields(Shape), ids=lambda parameter: parameter.name)
def test_every_parameter_is_validated(parameter: Field[Any]) -> None:
    least, most = parameter.metadata["least"], parameter.metadata["most"]
    values: tuple[Any, ...] = (-0.5, 1e9, math.nan, "1", True, None)
    for value in values:
        with raises("parameter-out-of-range", parameter.name, repr(value), least, most, kind=InputError):
            Shape(**{parameter.name: value})


@pytest.mark.parametrize(
    ("shape", "facts"),
    [
        ({"office_hours": 0.7, "weekends": 0.5}, ("office_hours (0.7)", "weekends (0.5)")),
        ({"idle": 0.5}, ("idle_days (30)", "46 days", "history 0.13")),
        ({"idle": 0.5, "idle_days": 90, "history": 0.2}, ("idle_days (90)", "history 0.29")),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(shape: dict[str, Any], facts: tuple[str, ...]) -> None:
    with raises("conflicting-parameters", *facts, kind=InputError):
        Shape(**shape)


def test_parameters_at_their_limits_do_not_contradict_each_other() -> None:
    Shape(idle=0.5, idle_days=90, history=0.3)
    Shape(office_hours=0.7, weekends=0.3)


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_that_ship_name_their_parameters(name: str) -> None:
    """Each parameter with its comment; the defaults are those of the code."""
    text = (files("bulkseed") / "scenarios" / f"{name}.toml").read_text()
    values = scenario_file(name)
    assert list(values["counts"]) == ["users", "channels", "messages_per_channel"]
    for section in values.values():
        for parameter in section:
            before, _, _ = text.partition(f"\n{parameter} = ")
            assert before.splitlines()[-1].startswith("# "), parameter
    plan = shipped(name)
    assert Plan.from_json(plan.to_json()) == plan
    if name == "default":
        assert values["shape"].keys() == {parameter.name for parameter in fields(Shape)}
        assert plan.scenario.shape == Shape()
        assert plan.probabilities == Probabilities()
        assert values["shape"].keys() == {parameter.name for parameter in fields(Shape)}


def test_history_is_as_long_as_it_says() -> None:
    plan = shipped("archive")
    assert plan.history_start == AS_OF - timedelta(days=5 * 365.25)
    joined = rows_of_numbers(shipped("archive", 20)).numbers("users", "created_at")
    assert (joined.min() - microseconds(plan.history_start)) / DAY < 60
    assert (microseconds(AS_OF) - joined.max()) / DAY < 60


@given(st.integers(1, 5 * BLOCK), st.sampled_from([0.0, 0.2, 0.9, 1.0]), st.integers(2, 50), st.data())
def test_threads_are_numbered_without_gaps(top_level: int, probability: float, most: int, data: st.DataObject) -> None:
    layout = MessageLayout(Streams(1, 1), top_level, probability, most)
    replies = layout.replies_to(0, top_level)
    np.testing.assert_array_equal(replies > 0, layout.have_replies(0, top_level))
    assert replies.max(initial=0) <= most
    assert layout.messages == top_level + replies.sum() == layout.number(top_level)
    start = data.draw(st.integers(0, top_level))
    stop = data.draw(st.integers(start, top_level))
    np.testing.assert_array_equal(layout.replies_to(start, stop), replies[start:stop])
    assert layout.number(start) == start + replies[:start].sum()
    counts = np.bincount(replies, minlength=most + 1)[1:]
    # each number is as frequent, except for the incomplete rotation of each block
    assert counts.max() - counts.min() <= -(-top_level // BLOCK)


@given(st.integers(1, 3000), st.floats(0, 3))
def test_weights_are_powers_of_the_rank(count: int, exponent: float) -> None:
    weights = rank_weights(count, exponent)
    np.testing.assert_allclose(weights, np.arange(1, count + 1) ** -exponent, rtol=1e-14)
    whole = whole_weights(count, exponent)
    assert whole.min() >= 1
    assert whole.sum() == pytest.approx(2**42, rel=1e-6)


@given(st.integers(0, 10**7), st.integers(1, 500), st.floats(0, 3))
def test_shares_add_up_and_descend(total: int, count: int, exponent: float) -> None:
    weights = rank_weights(count, exponent)
    shares = apportion(total, weights)
    assert shares.sum() == total
    assert (np.diff(shares) <= 0).all()
    assert np.abs(shares - weights / weights.sum() * total).max() < 1 + 1e-6


@given(st.floats(0.1, 3), st.integers(10, 2000))
def test_exponent_of_exact_shares_is_found(exponent: float, count: int) -> None:
    shares = apportion(10**12, rank_weights(count, exponent))
    assert fit_exponent(np.random.default_rng(1).permutation(shares)) == pytest.approx(exponent, abs=1e-4)


def test_nothing_to_fit() -> None:
    assert fit_exponent(np.array([5])) == 0
    assert fit_exponent(np.zeros(3, dtype=np.int64)) == 0


def test_users_are_drawn_by_weight_and_never_twice() -> None:
    activity = user_activity_of(Streams(1, 1), 20, Shape(user_activity=1.0, idle=0.3, history=1))
    assert activity is not None
    assert activity.idle.sum() == 6
    assert activity.weight[activity.idle].max() < activity.weight[~activity.idle].min()
    words = Streams(1, 1).words("t", "c", 0, 400_000)
    everybody = np.full(200_000, 20)
    drawn = activity.draw(words[:200_000], everybody)
    np.testing.assert_allclose(np.bincount(drawn) / 200_000, activity.weight / activity.weight.sum(), atol=0.004)
    others = activity.draw_others(words[200_000:], drawn, everybody)
    assert (others != drawn).all()
    assert len(np.unique(others)) == 20
    first_ones = np.array([activity.draw(words[:1000], np.full(1000, count)).max() for count in range(1, 21)])
    assert (first_ones == np.arange(20)).all()


def test_ranks_are_exact() -> None:
    plan = shipped("slack", 25)
    ranking = ranking_of(plan)
    assert ranking is not None
    assert sorted(ranking.rank) == list(range(1000))
    assert ranking.rank[0] == 0, "the longest shard begins first"
    assert (ranking.dms, ranking.groups, ranking.private.sum()) == (750, 75, 70)
    quota = rank_weights(1000, 1.2) / rank_weights(1000, 1.2).sum() * plan.top_level_messages
    assert np.abs(ranking.messages - quota).max() < 1
    assert (ranking.sizes[:3] == 500).all()
    assert ranking.sizes[30] == pytest.approx(500 * (31 / 3) ** -0.8, abs=1)
    assert ranking_of(shipped("default")) is None
