"""The rules of a seeded workspace, checked on batches in memory for every row of every plan."""

from __future__ import annotations

import gc
import importlib
import math
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bulkseed.generators import Context, shard_tables
from bulkseed.generators.channels import JOIN_CODE_ALPHABET
from bulkseed.plan.activity import expected_rows
from bulkseed.plan.plan import Placement, Plan, Probabilities, microseconds
from bulkseed.plan.shards import split_into_shards
from bulkseed.plan.tables import TABLE_NAMES, TABLES
from bulkseed.text.faker_source import make_corpus
from support.evenness import unevenness
from support.generated_rows import batches_of, placement_of, tables_of
from support.plans import AS_OF, plan_of
from support.workspace_rules import MINUTE, Rows, check_rules, rows_of

MOST_ROWS = 65_536

MODULES_WITH_BATCHES = ("context", "users", "channels", "messages", "shard_context", "plugins")

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = [
    NEW_YEAR,
    NEW_YEAR + timedelta(microseconds=1),
    NEW_YEAR + timedelta(minutes=30),
    AS_OF,
    datetime(2024, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1969, 3, 1, tzinfo=UTC),
]

shares = st.sampled_from([0.0, 1.0, 0.2, 0.5, 0.9])
plans = st.builds(
    Plan,
    users=st.integers(2, 40),
    channels=st.integers(1, 12),
    messages_per_channel=st.integers(1, 60),
    as_of=st.sampled_from(MOMENTS),
    seed=st.integers(0, 2**64),
    max_members=st.none() | st.integers(2, 45),
    locale=st.sampled_from(["en_US", "en_US", "ja_JP", "fr_FR", "th_TH"]),
    probabilities=st.builds(
        Probabilities,
        user_active=shares,
        channel_dm=shares,
        channel_private=shares,
        message_paragraph=shares,
        message_reply=shares,
        message_reactions=shares,
    ),
)
placements = st.builds(placement_of, st.integers(1, 12), st.integers(0, 3))


@settings(deadline=None, max_examples=70, suppress_health_check=[HealthCheck.too_slow])
@given(plans, placements)
@example(plan_of(users=2, channels=1, messages_per_channel=1), placement_of(reactions=1))
@example(plan_of(as_of=NEW_YEAR), placement_of())
@example(plan_of("5x", max_members=2), placement_of(reactions=1, variant=2))
def test_every_rule_holds_for_every_plan(plan: Plan, placement: Placement) -> None:
    check_rules(rows_of(plan, placement))


@pytest.mark.parametrize("locale", ["de_DE", "zh_CN", "ar_AA", "ru_RU", "hy_AM", "en_PH"])
def test_every_rule_holds_for_other_locales(locale: str) -> None:
    check_rules(rows_of(plan_of("2x", locale=locale)))


@pytest.mark.parametrize("reactions", [1, 2, 12])
@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_workspace_of_two(reactions: int, chance: float) -> None:
    every = dict.fromkeys(Probabilities.__dataclass_fields__, chance)
    plan = plan_of(users=2, channels=8, messages_per_channel=50, probabilities=Probabilities(**every))
    check_rules(rows_of(plan, placement_of(reactions)))


def test_every_rule_holds_over_many_batches() -> None:
    check_rules(rows_of(plan_of(users=300, channels=60, messages_per_channel=1000, max_members=40)))


# shares and distributions -----------------------------------------------------------------------------------


@cache
def large() -> Rows:
    """Enough rows to see a wrong share: 60 thousand messages in 3,000 channels of 2 to 9 members."""
    return rows_of(plan_of(users=2000, channels=3000, messages_per_channel=20, max_members=9))


def assert_share(flags: npt.NDArray[Any], probability: float) -> None:
    error = math.sqrt(probability * (1 - probability) / len(flags))
    assert abs(flags.mean() - probability) < 4 * error


def assert_uniform(fractions: npt.NDArray[np.float64], cells: int = 20) -> None:
    """Assert that fractions of [0, 1] are spread evenly over ``cells`` cells."""
    assert unevenness(np.bincount(np.minimum((fractions * cells).astype(int), cells - 1), minlength=cells)) < 4


def test_shares_are_the_plans() -> None:
    rows = large()
    assert_share(rows.numbers("users", "is_active"), 0.9)
    is_dm = rows.numbers("channels", "is_dm").astype(bool)
    assert_share(is_dm, 0.3)
    assert_share(rows.numbers("channels", "is_private")[~is_dm], 0.4)
    parents = rows.tables["messages"]["parent_id"]
    is_reply = parents.is_valid().to_numpy()
    assert_share(np.arange(rows.plan.top_level_messages) < is_reply.sum(), 0.2)
    sentences = pc.count_substring(rows.tables["messages"]["content"], ".").to_numpy()[~is_reply]
    # a paragraph has one sentence in 14 of 81 cases: percents 60 to 66
    assert_share(sentences > 1, 0.4 * 74 / 81)
    reacted = np.unique(rows.numbers("message_reactions", "message_id"))
    assert_share(np.isin(rows.numbers("messages", "id"), reacted), 0.4)


def test_members_are_drawn_evenly() -> None:
    rows = large()
    regular = rows.numbers("channels", "is_dm") == 0
    sizes = rows.members_of(rows.numbers("channels", "id"))
    assert unevenness(np.bincount(sizes[regular] - 2, minlength=8)) < 4
    users, of = rows.numbers("user_channels", "user_id"), rows.numbers("user_channels", "channel_id")
    first_rows = np.searchsorted(of, rows.numbers("channels", "id"))
    # the founders are older than the channel; all others are any users
    others = np.delete(users, [*first_rows, *(first_rows + 1)]) - rows.placement.first_user
    assert unevenness(np.bincount(others[others >= 400] // 20, minlength=100)[20:]) < 4
    existing = np.searchsorted(rows.numbers("users", "created_at"), rows.numbers("channels", "created_at"), "right")
    owners = rows.numbers("channels", "owner_id") - rows.placement.first_user
    assert_uniform((owners + 0.5) / existing)


def test_authors_are_drawn_evenly() -> None:
    rows = rows_of(plan_of(users=7, channels=1, messages_per_channel=40_000, probabilities=no_dms()))
    members = rows.numbers("user_channels", "user_id")
    authors = rows.numbers("messages", "user_id")
    is_reply = rows.tables["messages"]["parent_id"].is_valid().to_numpy()
    member = np.argmax(authors[:, None] == members, axis=1)
    everybody = rows.numbers("messages", "created_at") >= rows.numbers("user_channels", "joined").max()
    assert unevenness(np.bincount(member[~is_reply & everybody], minlength=len(members))) < 4
    replies = np.flatnonzero(is_reply)
    parents = rows.tables["messages"]["parent_id"].drop_null().to_numpy() - rows.placement.first_message
    chosen = everybody[parents]
    distance = (member[replies[chosen]] - member[parents[chosen]]) % len(members)
    assert unevenness(np.bincount(distance, minlength=len(members))[1:]) < 4


def no_dms() -> Probabilities:
    return Probabilities(channel_dm=0.0)


def test_reactions_are_drawn_evenly() -> None:
    rows = rows_of(plan_of(users=5, channels=1, messages_per_channel=20_000, probabilities=no_dms()))
    members = rows.numbers("user_channels", "user_id")
    counts = np.bincount(rows.numbers("message_reactions", "message_id"))
    assert unevenness(np.bincount(counts[counts > 0])[1:]) < 4
    codes = np.searchsorted(rows.placement.reactions, rows.numbers("message_reactions", "reaction_id"))
    member = np.argmax(rows.numbers("message_reactions", "user_id")[:, None] == members, axis=1)
    assert unevenness(np.bincount(member * 12 + codes, minlength=12 * len(members))) < 4


def test_two_pairs_leave_fewer_reactions() -> None:
    """Of 1, 2 or 3 wanted reactions two pairs can give 1, 2 and 2."""
    plan = plan_of(users=2, channels=1, messages_per_channel=20_000)
    counts = np.bincount(rows_of(plan, placement_of(reactions=1)).numbers("message_reactions", "message_id"))
    assert unevenness(np.bincount(counts[counts > 0])[1:], [1, 2]) < 4


def test_times_are_spread_evenly() -> None:
    rows = large()
    users = rows.numbers("users", "created_at")
    assert_uniform((users - rows.year) / (rows.as_of - rows.year))
    made = rows.numbers("channels", "created_at")
    assert_uniform((made - made[0]) / (microseconds(rows.plan.latest_channel) - made[0]))

    created = rows.numbers("messages", "created_at")
    parents = rows.tables["messages"]["parent_id"]
    is_reply = parents.is_valid().to_numpy()
    parent = parents.drop_null().to_numpy() - rows.placement.first_message
    channels = rows.numbers("messages", "channel_id")
    members, of = rows.numbers("user_channels", "user_id"), rows.numbers("user_channels", "channel_id")
    second = members[np.searchsorted(of, rows.numbers("channels", "id")) + 1]
    began = np.maximum(made, rows.user_created(second))[channels - rows.placement.first_channel]
    assert_uniform(((created - began) / (rows.as_of - began))[~is_reply])

    old_enough = created[parent] + 60 * MINUTE <= rows.as_of
    delay = (created[is_reply] - created[parent])[old_enough]
    assert_uniform((delay - MINUTE) / (59 * MINUTE))

    message = rows.numbers("message_reactions", "message_id") - rows.placement.first_message
    low = np.maximum(created[message], rows.user_created(rows.numbers("message_reactions", "user_id")))
    span = rows.as_of - low
    moments = rows.numbers("message_reactions", "created_at") - low
    assert_uniform(moments[span > 0] / span[span > 0])


def test_young_parents_are_answered_at_the_last_moment() -> None:
    every = Probabilities(message_reply=1.0)
    rows = rows_of(plan_of("4x", as_of=NEW_YEAR + timedelta(seconds=30), probabilities=every))
    is_reply = rows.tables["messages"]["parent_id"].is_valid().to_numpy()
    assert (rows.numbers("messages", "created_at")[is_reply] == rows.as_of).all()


def test_rows_are_as_many_as_estimated() -> None:
    expected, rows = expected_rows(large().plan), large()
    assert len(rows.tables["users"]) == expected["users"]
    assert len(rows.tables["channels"]) == expected["channels"]
    for name in ("user_channels", "messages", "message_reactions"):
        assert abs(len(rows.tables[name]) / expected[name] - 1) < 0.03, name


@pytest.mark.parametrize("locale", ["en_US", "ja_JP", "zh_CN"])
def test_contents_of_a_million_messages_are_distinct(locale: str) -> None:
    plan = plan_of(users=2, channels=20, messages_per_channel=42_000, locale=locale)
    context = Context(plan, placement_of(), make_corpus(plan.locale))
    contents = []
    for shard in split_into_shards(plan):
        for name, batches in shard_tables(context, shard):
            if name == "messages":
                contents += [batch["content"] for batch in batches]
    texts = pa.chunked_array(contents)
    assert len(texts) > 10**6
    assert pc.count_distinct(texts).as_py() >= 0.99 * len(texts), "G6"


# one plan, one set of rows ----------------------------------------------------------------------------------


def set_batch_rows(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    for name in MODULES_WITH_BATCHES:
        monkeypatch.setattr(importlib.import_module(f"bulkseed.generators.{name}"), "BATCH_ROWS", rows)


SPLIT_PLAN = plan_of(users=150, channels=40, messages_per_channel=70)


@cache
def unsplit() -> dict[str, pa.Table]:
    return tables_of(SPLIT_PLAN)


@pytest.mark.parametrize("rows_per_shard", [1, 50, 1000, 7777])
def test_size_of_shards_changes_no_row(rows_per_shard: int) -> None:
    in_shards = tables_of(SPLIT_PLAN, rows_per_shard=rows_per_shard)
    assert len(list(split_into_shards(SPLIT_PLAN, rows_per_shard))) > 2
    for name, table in unsplit().items():
        assert in_shards[name].equals(table), name


@pytest.mark.parametrize("batch_rows", [3, 100, 1000, 1024, 1025, 100_000])
def test_size_of_batches_changes_no_row(monkeypatch: pytest.MonkeyPatch, batch_rows: int) -> None:
    expected = unsplit()
    set_batch_rows(monkeypatch, batch_rows)
    found = batches_of(SPLIT_PLAN, rows_per_shard=3000)
    assert len(found["messages"]) >= 70 * 40 // batch_rows
    for name, batches in found.items():
        assert pa.Table.from_batches(batches).combine_chunks().equals(expected[name]), name


def test_every_module_with_batches_is_known() -> None:
    package = importlib.import_module("bulkseed.generators")
    [folder] = package.__path__
    with_batches = {
        path.stem
        for path in Path(folder).glob("*.py")
        if hasattr(importlib.import_module(f"bulkseed.generators.{path.stem}"), "BATCH_ROWS")
    }
    assert with_batches == set(MODULES_WITH_BATCHES)


def test_order_of_shards_changes_no_row() -> None:
    """Workers finish shards in any order: sorted, the rows are the same."""
    made: dict[str, list[pa.RecordBatch]] = {name: [] for name in TABLE_NAMES}
    for shard in reversed(list(split_into_shards(SPLIT_PLAN, 1500))):
        for name, batches in shard_tables(Context(SPLIT_PLAN, placement_of(), make_corpus(SPLIT_PLAN.locale)), shard):
            made[name].extend(batches)
    for table in TABLES:
        keys = [(name, "ascending") for name in table.key]
        found = pa.Table.from_batches(made[table.name]).sort_by(keys).combine_chunks()
        assert found.equals(unsplit()[table.name].sort_by(keys).combine_chunks()), table.name


@pytest.mark.parametrize("table", ["users", "channels", "messages"])
def test_ids_ascend_through_all_batches(table: str) -> None:
    ids = np.concatenate([batch["id"].to_numpy() for batch in batches_of(SPLIT_PLAN, rows_per_shard=300)[table]])
    assert (np.diff(ids) == 1).all()


def test_same_plan_makes_the_same_rows() -> None:
    assert all(tables_of(SPLIT_PLAN)[name].equals(table) for name, table in unsplit().items())


@pytest.mark.parametrize(
    ("plan", "placement"),
    [
        (plan_of(users=150, channels=40, messages_per_channel=70, seed=2), placement_of()),
        (SPLIT_PLAN, Placement(first_user=1002, first_channel=500_001, first_message=7, reactions=(3, 4))),
    ],
)
def test_another_seed_or_first_user_makes_other_rows(plan: Plan, placement: Placement) -> None:
    other = tables_of(plan, placement)
    for table, column in (("users", "name"), ("users", "created_at"), ("channels", "name"), ("messages", "content")):
        ours = unsplit()[table][column].slice(0, 30).to_pylist()
        theirs = other[table][column].slice(0, 30).to_pylist()
        assert sum(one == another for one, another in zip(ours, theirs, strict=True)) < 5


def test_variant_changes_the_unique_columns_only() -> None:
    unique = {("users", "auth0_id"), ("users", "email"), ("channels", "join_code")}
    other = tables_of(SPLIT_PLAN, placement_of(variant=1))
    for name, table in unsplit().items():
        for column in table.column_names:
            assert other[name][column].equals(table[column]) == ((name, column) not in unique), (name, column)
    for name, column in unique:
        ours, theirs = (set(tables[name][column].to_pylist()) - {None} for tables in (unsplit(), other))
        assert not ours & theirs


def test_join_codes_use_every_letter() -> None:
    codes = "".join(code for code in large().texts("channels", "join_code") if code)
    assert set(codes) == set(JOIN_CODE_ALPHABET)
    assert unevenness(np.bincount([JOIN_CODE_ALPHABET.index(letter) for letter in codes], minlength=32)) < 4


# size -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(
            plan_of(users=100_000, channels=20_000, messages_per_channel=1, max_members=5, probabilities=no_dms()),
            id="wide",
        ),
        pytest.param(plan_of(users=2, channels=1, messages_per_channel=200_000), id="long"),
        pytest.param(plan_of(users=70_000, channels=1, messages_per_channel=1, probabilities=no_dms()), id="crowded"),
        pytest.param(
            plan_of(
                users=50,
                channels=1,
                messages_per_channel=100_000,
                probabilities=Probabilities(message_reply=1.0, message_reactions=1.0),
            ),
            id="dense",
        ),
    ],
)
def test_batches_hold_at_most_64k_rows(plan: Plan) -> None:
    for name, batches in batches_of(plan).items():
        assert max(batch.num_rows for batch in batches) <= MOST_ROWS, name


def peak_of_messages_and_reactions(messages: int) -> int:
    """The most bytes that NumPy, Python and Arrow hold at once while the rows of one channel are generated."""
    plan = plan_of(users=20, channels=1, messages_per_channel=messages)
    context = Context(plan, placement_of(), make_corpus(plan.locale))
    _ = context.prose, context.user_created  # kept for all shards, independent of their size

    def batches() -> Iterator[pa.RecordBatch]:
        for shard in split_into_shards(plan):
            for _, made in shard_tables(context, shard):
                yield from made

    gc.collect()
    arrow = pa.total_allocated_bytes()
    most_of_arrow = 0
    tracemalloc.start()
    try:
        for _ in batches():
            most_of_arrow = max(most_of_arrow, pa.total_allocated_bytes() - arrow)
        return tracemalloc.get_traced_memory()[1] + most_of_arrow
    finally:
        tracemalloc.stop()


def test_one_large_channel_streams_in_flat_memory() -> None:
    peak_of_messages_and_reactions(20_000)  # fills the caches that are kept
    small, large_one = (peak_of_messages_and_reactions(count) for count in (200_000, 800_000))
    assert large_one < 1.25 * small, "a span has up to one and a half times CHUNK messages"
