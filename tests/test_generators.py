"""The rules of a seeded workspace, on batches in memory: each holds for every row of every plan."""

from __future__ import annotations

import gc
import importlib
import math
import re
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
from conftest import AS_OF, plan_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from samples import batches_of, placement_of, tables_of, unevenness

from bulkseed.generators import Context, shard_tables
from bulkseed.generators.channels import JOIN_CODE_ALPHABET
from bulkseed.plan.activity import expected_rows
from bulkseed.plan.plan import Placement, Plan, Probabilities, microseconds
from bulkseed.plan.shards import cut
from bulkseed.plan.tables import TABLE_NAMES, TABLES
from bulkseed.text.faker_corpus import corpus_of

Numbers = npt.NDArray[np.int64]

MOST_ROWS = 65_536
MINUTE = 60_000_000
UUID_4 = re.compile(r"auth0\|[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
EMAIL = re.compile(r"(?P<name>[a-z]+(?:\.[a-z]+)*)\.(?P<id>\d+)(?P<variant>-\d+)?@example\.(com|net|org)")
PICTURE = re.compile(r"https://[a-z.]+/[!-~]+")
JOIN_CODE = re.compile("[A-HJ-NP-Z2-9]{8}")

MODULES_WITH_BATCHES = ("context", "users", "channels", "messages", "part", "plugins")

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


class Rows:
    """The tables of a plan as NumPy columns; times are microseconds since 1970."""

    def __init__(self, plan: Plan, placement: Placement, tables: dict[str, pa.Table]) -> None:
        self.plan = plan
        self.placement = placement
        self.tables = tables
        self.as_of = microseconds(plan.as_of)
        self.year = microseconds(plan.history_start)

    def numbers(self, table: str, column: str) -> Numbers:
        values = self.tables[table][column].combine_chunks()
        if pa.types.is_timestamp(values.type):
            values = values.view(pa.int64())
        assert values.null_count == 0
        return np.asarray(values.to_numpy(zero_copy_only=False)).astype(np.int64)

    def texts(self, table: str, column: str) -> list[Any]:
        listed: list[Any] = self.tables[table][column].to_pylist()
        return listed

    def user_created(self, users: Numbers) -> Numbers:
        return self.numbers("users", "created_at")[users - self.placement.first_user]

    def channel_created(self, channels: Numbers) -> Numbers:
        return self.numbers("channels", "created_at")[channels - self.placement.first_channel]

    def members_of(self, channels: Numbers) -> Numbers:
        """How many members each channel has."""
        counts = np.bincount(self.numbers("user_channels", "channel_id") - self.placement.first_channel)
        return counts[channels - self.placement.first_channel]

    def are_members(self, users: Numbers, channels: Numbers) -> bool:
        pairs = pair(self.numbers("user_channels", "user_id"), self.numbers("user_channels", "channel_id"))
        return bool(np.isin(pair(users, channels), pairs).all())


def pair(one: Numbers, other: Numbers) -> Numbers:
    return one * 2**31 + other


def rows_of(plan: Plan, placement: Placement | None = None) -> Rows:
    placement = placement or placement_of()
    return Rows(plan, placement, tables_of(plan, placement))


def assert_ids(ids: Numbers, first: int, count: int) -> None:
    np.testing.assert_array_equal(ids, np.arange(first, first + count))


def check_columns(rows: Rows) -> None:
    kinds = {
        "integer": pa.int64(),
        "text": pa.string(),
        "boolean": pa.bool_(),
        "timestamp": pa.timestamp("us"),
    }
    for table in TABLES:
        found = rows.tables[table.name]
        assert tuple(found.schema.names) == table.column_names
        for column in table.columns:
            values = found[column.name]
            assert values.type == kinds[column.kind]
            assert column.nullable or values.null_count == 0
            if column.longest is not None and values.null_count < len(values):
                assert pc.max(pc.utf8_length(values)).as_py() <= column.longest


def check_users(rows: Rows) -> None:
    plan, person = rows.plan, corpus_of(rows.plan.locale).person
    ids = rows.numbers("users", "id")
    assert_ids(ids, rows.placement.first_user, plan.users)
    auth0_ids, emails = rows.texts("users", "auth0_id"), rows.texts("users", "email")
    assert all(UUID_4.fullmatch(text) for text in auth0_ids), "U1"
    assert len(set(auth0_ids)) == plan.users, "U1"
    assert len(set(emails)) == plan.users, "U2"
    for user, email, name in zip(ids, emails, rows.texts("users", "name"), strict=True):
        slugs = person.slugs(name)
        assert slugs, "U5"
        found = EMAIL.fullmatch(email)
        assert found, "U2"
        assert found["name"] in {slug[:40].rstrip(".") or "user" for slug in slugs}, "U2"
        assert int(found["id"]) == user
        assert (found["variant"] or "-0") == f"-{rows.placement.variant}"
    check_certainty(rows.numbers("users", "is_active"), plan.probabilities.user_active, "U3")
    created = rows.numbers("users", "created_at")
    assert ((created >= rows.year) & (created <= rows.as_of)).all(), "U4"
    assert all(PICTURE.fullmatch(text) for text in rows.texts("users", "picture")), "U5"
    assert all(1 <= len(text) <= 200 for text in rows.texts("users", "bio")), "U5"


def check_certainty(flags: npt.NDArray[Any], probability: float, rule: str) -> None:
    if probability in (0.0, 1.0):
        assert (flags == probability).all(), rule


def check_channels(rows: Rows) -> None:
    plan, company = rows.plan, corpus_of(rows.plan.locale).company
    chance = plan.probabilities
    assert_ids(rows.numbers("channels", "id"), rows.placement.first_channel, plan.channels)
    is_dm, is_private = (rows.numbers("channels", name).astype(bool) for name in ("is_dm", "is_private"))
    check_certainty(is_dm, chance.channel_dm, "C1")
    check_certainty(is_private[~is_dm], chance.channel_private, "C1")
    assert is_private[is_dm].all(), "C1"
    owners = rows.numbers("channels", "owner_id")
    assert np.isin(owners, rows.numbers("users", "id")).all(), "C4"
    created = rows.numbers("channels", "created_at")
    assert ((created >= rows.user_created(owners)) & (created <= rows.as_of)).all(), "C4"
    names = rows.texts("users", "name")
    columns = (rows.texts("channels", name) for name in ("name", "description", "join_code"))
    for owner, dm, private, name, description, code in zip(owners, is_dm, is_private, *columns, strict=True):
        if dm:
            assert name == f"{names[owner - rows.placement.first_user]} DM", "C2"
            assert description is None, "C3"
        else:
            assert company.slugs(name), "C2"
            assert 1 <= len(description) <= 100, "C3"
        if private and not dm:
            assert JOIN_CODE.fullmatch(code), "C5"
        else:
            assert code is None, "C5"
    codes = [code for code in rows.texts("channels", "join_code") if code]
    assert len(set(codes)) == len(codes), "C5"


def check_memberships(rows: Rows) -> None:
    plan = rows.plan
    users, channels = rows.numbers("user_channels", "user_id"), rows.numbers("user_channels", "channel_id")
    assert np.isin(users, rows.numbers("users", "id")).all()
    assert (np.diff(channels) >= 0).all()
    assert len(np.unique(pair(users, channels))) == len(users), "M2"
    first_rows = np.searchsorted(channels, rows.numbers("channels", "id"))
    np.testing.assert_array_equal(users[first_rows], rows.numbers("channels", "owner_id"), "M3")
    sizes = rows.members_of(rows.numbers("channels", "id"))
    is_dm = rows.numbers("channels", "is_dm").astype(bool)
    assert (sizes[is_dm] == 2).all(), "M1"
    most = min(plan.users, plan.max_members or plan.users)
    assert ((sizes >= 2) & (sizes <= most)).all(), "M2"


def check_messages(rows: Rows) -> None:
    plan, chance = rows.plan, rows.plan.probabilities
    ids, authors = rows.numbers("messages", "id"), rows.numbers("messages", "user_id")
    channels, created = rows.numbers("messages", "channel_id"), rows.numbers("messages", "created_at")
    assert_ids(ids, rows.placement.first_message, len(ids))
    assert rows.are_members(authors, channels), "G1"
    assert (created >= rows.channel_created(channels)).all(), "G2"
    assert (created >= rows.user_created(authors)).all(), "G2"
    assert (created <= rows.as_of).all(), "G2"
    np.testing.assert_array_equal(rows.numbers("messages", "updated_at"), created, "G2")

    parents = rows.tables["messages"]["parent_id"].combine_chunks()
    is_reply = parents.is_valid().to_numpy(zero_copy_only=False)
    per_channel = np.bincount(channels[~is_reply] - rows.placement.first_channel)
    assert (per_channel == plan.messages_per_channel).all()
    assert len(per_channel) == plan.channels
    assert chance.message_reply > 0 or not is_reply.any(), "G4"
    parent_ids = parents.drop_null().to_numpy()
    assert (parent_ids < ids[is_reply]).all(), "G5"
    assert len(np.unique(parent_ids)) == len(parent_ids), "G4: one reply"
    assert chance.message_reply < 1 or len(parent_ids) == plan.top_level_messages, "G4"
    parent = parent_ids - rows.placement.first_message
    assert not is_reply[parent].any(), "G4: a reply gets none"
    np.testing.assert_array_equal(channels[is_reply], channels[parent], "G4")
    assert (authors[is_reply] != authors[parent]).all(), "G4"
    assert (rows.user_created(authors[is_reply]) <= created[parent]).all(), "G4: both accounts are older"
    assert (created[is_reply] >= np.minimum(created[parent] + MINUTE, rows.as_of)).all(), "G4"
    assert (created[is_reply] <= created[parent] + 60 * MINUTE).all(), "G4"
    check_contents(rows, is_reply)


def check_contents(rows: Rows, is_reply: npt.NDArray[np.bool_]) -> None:
    full_stop = corpus_of(rows.plan.locale).lorem.full_stop
    contents = rows.tables["messages"]["content"]
    assert pc.all(pc.ends_with(contents, full_stop)).as_py(), "G3"
    sentences = pc.count_substring(contents, full_stop).to_numpy()
    assert (sentences[is_reply] == 1).all(), "G4: a sentence"
    top_level = sentences[~is_reply]
    assert ((top_level >= 1) & (top_level <= 4)).all(), "G3"
    if rows.plan.probabilities.message_paragraph == 0:
        assert (top_level == 1).all(), "G3"


def check_reactions(rows: Rows) -> None:
    chance, reactions = rows.plan.probabilities, rows.placement.reactions
    messages, users = (rows.numbers("message_reactions", name) for name in ("message_id", "user_id"))
    codes, created = (rows.numbers("message_reactions", name) for name in ("reaction_id", "created_at"))
    assert (np.diff(messages) >= 0).all()
    first = rows.placement.first_message
    counts = np.bincount(messages - first, minlength=len(rows.tables["messages"]))
    assert len(counts) == len(rows.tables["messages"])
    pairs = rows.members_of(rows.numbers("messages", "channel_id")) * len(reactions)
    assert (counts <= np.minimum(3, pairs)).all(), "R1"
    check_certainty(counts > 0, chance.message_reactions, "R1")
    assert rows.are_members(users, rows.numbers("messages", "channel_id")[messages - first]), "R2"
    assert np.isin(codes, reactions).all(), "R2"
    triples = np.stack([messages, users, codes], axis=1)
    assert len(np.unique(triples, axis=0)) == len(triples), "R3"
    assert (created >= rows.numbers("messages", "created_at")[messages - first]).all(), "R4"
    assert (created >= rows.user_created(users)).all(), "R4"
    assert (created <= rows.as_of).all(), "R4"


def check_rules(rows: Rows) -> None:
    check_columns(rows)
    check_users(rows)
    check_channels(rows)
    check_memberships(rows)
    check_messages(rows)
    check_reactions(rows)


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
    """Fractions of [0, 1], in as many cells, each as frequent."""
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
    users = rows.numbers("user_channels", "user_id") - rows.placement.first_user
    assert unevenness(np.bincount(users, minlength=2000)) < 4
    owners = rows.numbers("channels", "owner_id") - rows.placement.first_user
    assert unevenness(np.bincount(owners // 20, minlength=100)) < 4


def test_authors_are_drawn_evenly() -> None:
    rows = rows_of(plan_of(users=7, channels=1, messages_per_channel=40_000, probabilities=no_dms()))
    members = rows.numbers("user_channels", "user_id")
    authors = rows.numbers("messages", "user_id")
    is_reply = rows.tables["messages"]["parent_id"].is_valid().to_numpy()
    place = np.argmax(authors[:, None] == members, axis=1)
    assert unevenness(np.bincount(place[~is_reply], minlength=len(members))) < 4
    replies = np.flatnonzero(is_reply)
    apart = (place[replies] - place[replies - 1]) % len(members)
    assert unevenness(np.bincount(apart, minlength=len(members))[1:]) < 4


def no_dms() -> Probabilities:
    return Probabilities(channel_dm=0.0)


def test_reactions_are_drawn_evenly() -> None:
    rows = rows_of(plan_of(users=5, channels=1, messages_per_channel=20_000, probabilities=no_dms()))
    members = rows.numbers("user_channels", "user_id")
    counts = np.bincount(rows.numbers("message_reactions", "message_id"))
    assert unevenness(np.bincount(counts[counts > 0])[1:]) < 4
    codes = np.searchsorted(rows.placement.reactions, rows.numbers("message_reactions", "reaction_id"))
    place = np.argmax(rows.numbers("message_reactions", "user_id")[:, None] == members, axis=1)
    assert unevenness(np.bincount(place * 12 + codes, minlength=12 * len(members))) < 4


def test_two_pairs_leave_fewer_reactions() -> None:
    """Of 1, 2 or 3 wanted reactions two pairs can give 1, 2 and 2."""
    plan = plan_of(users=2, channels=1, messages_per_channel=20_000)
    counts = np.bincount(rows_of(plan, placement_of(reactions=1)).numbers("message_reactions", "message_id"))
    assert unevenness(np.bincount(counts[counts > 0])[1:], [1, 2]) < 4


def test_times_are_spread_evenly() -> None:
    rows = large()
    users = rows.numbers("users", "created_at")
    assert_uniform((users - rows.year) / (rows.as_of - rows.year))
    low = rows.user_created(rows.numbers("channels", "owner_id"))
    assert_uniform((rows.numbers("channels", "created_at") - low) / (rows.as_of - low))

    created, authors = rows.numbers("messages", "created_at"), rows.numbers("messages", "user_id")
    parents = rows.tables["messages"]["parent_id"]
    is_reply = parents.is_valid().to_numpy()
    parent = parents.drop_null().to_numpy() - rows.placement.first_message
    low = np.maximum(rows.channel_created(rows.numbers("messages", "channel_id")), rows.user_created(authors))
    low[parent] = np.maximum(low[parent], rows.user_created(authors[is_reply]))
    assert_uniform(((created - low) / (rows.as_of - low))[~is_reply])

    old_enough = created[parent] + 60 * MINUTE <= rows.as_of
    delay = (created[is_reply] - created[parent])[old_enough]
    assert_uniform((delay - MINUTE) / (59 * MINUTE))

    message = rows.numbers("message_reactions", "message_id") - rows.placement.first_message
    low = np.maximum(created[message], rows.user_created(rows.numbers("message_reactions", "user_id")))
    whole = rows.as_of - low
    moments = rows.numbers("message_reactions", "created_at") - low
    assert_uniform(moments[whole > 0] / whole[whole > 0])


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
    context = Context(plan, placement_of(), corpus_of(plan.locale))
    contents = []
    for shard in cut(plan):
        for name, batches in shard_tables(context, shard):
            if name == "messages":
                contents += [batch["content"] for batch in batches]
    whole = pa.chunked_array(contents)
    assert len(whole) > 10**6
    assert pc.count_distinct(whole).as_py() >= 0.99 * len(whole), "G6"


# one plan, one set of rows ----------------------------------------------------------------------------------


def set_batch_rows(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    for name in MODULES_WITH_BATCHES:
        monkeypatch.setattr(importlib.import_module(f"bulkseed.generators.{name}"), "BATCH_ROWS", rows)


CUT_PLAN = plan_of(users=150, channels=40, messages_per_channel=70)


@cache
def uncut() -> dict[str, pa.Table]:
    return tables_of(CUT_PLAN)


@pytest.mark.parametrize("rows_per_shard", [1, 50, 1000, 7777])
def test_size_of_shards_touches_no_row(rows_per_shard: int) -> None:
    cut_up = tables_of(CUT_PLAN, rows_per_shard=rows_per_shard)
    assert len(list(cut(CUT_PLAN, rows_per_shard))) > 2
    for name, table in uncut().items():
        assert cut_up[name].equals(table), name


@pytest.mark.parametrize("batch_rows", [3, 100, 1000, 1024, 1025, 100_000])
def test_size_of_batches_touches_no_row(monkeypatch: pytest.MonkeyPatch, batch_rows: int) -> None:
    whole = uncut()
    set_batch_rows(monkeypatch, batch_rows)
    found = batches_of(CUT_PLAN, rows_per_shard=3000)
    assert len(found["messages"]) >= 70 * 40 // batch_rows
    for name, batches in found.items():
        assert pa.Table.from_batches(batches).combine_chunks().equals(whole[name]), name


def test_every_module_with_batches_is_known() -> None:
    package = importlib.import_module("bulkseed.generators")
    [folder] = package.__path__
    with_batches = {
        path.stem
        for path in Path(folder).glob("*.py")
        if hasattr(importlib.import_module(f"bulkseed.generators.{path.stem}"), "BATCH_ROWS")
    }
    assert with_batches == set(MODULES_WITH_BATCHES)


def test_order_of_shards_touches_no_row() -> None:
    """Another worker, another order: sorted, the rows are the same."""
    made: dict[str, list[pa.RecordBatch]] = {name: [] for name in TABLE_NAMES}
    for shard in reversed(list(cut(CUT_PLAN, 1500))):
        for name, batches in shard_tables(Context(CUT_PLAN, placement_of(), corpus_of(CUT_PLAN.locale)), shard):
            made[name].extend(batches)
    for table in TABLES:
        keys = [(name, "ascending") for name in table.key]
        found = pa.Table.from_batches(made[table.name]).sort_by(keys).combine_chunks()
        assert found.equals(uncut()[table.name].sort_by(keys).combine_chunks()), table.name


@pytest.mark.parametrize("table", ["users", "channels", "messages"])
def test_ids_ascend_through_all_batches(table: str) -> None:
    ids = np.concatenate([batch["id"].to_numpy() for batch in batches_of(CUT_PLAN, rows_per_shard=300)[table]])
    assert (np.diff(ids) == 1).all()


def test_same_plan_makes_the_same_rows() -> None:
    assert all(tables_of(CUT_PLAN)[name].equals(table) for name, table in uncut().items())


@pytest.mark.parametrize(
    ("plan", "placement"),
    [
        (plan_of(users=150, channels=40, messages_per_channel=70, seed=2), placement_of()),
        (CUT_PLAN, Placement(first_user=1002, first_channel=500_001, first_message=7, reactions=(3, 4))),
    ],
)
def test_another_seed_or_first_user_makes_other_rows(plan: Plan, placement: Placement) -> None:
    other = tables_of(plan, placement)
    for table, column in (("users", "name"), ("users", "created_at"), ("channels", "name"), ("messages", "content")):
        ours = uncut()[table][column].slice(0, 30).to_pylist()
        theirs = other[table][column].slice(0, 30).to_pylist()
        assert sum(one == another for one, another in zip(ours, theirs, strict=True)) < 5


def test_variant_changes_the_unique_columns_only() -> None:
    unique = {("users", "auth0_id"), ("users", "email"), ("channels", "join_code")}
    other = tables_of(CUT_PLAN, placement_of(variant=1))
    for name, table in uncut().items():
        for column in table.column_names:
            assert other[name][column].equals(table[column]) == ((name, column) not in unique), (name, column)
    for name, column in unique:
        ours, theirs = (set(tables[name][column].to_pylist()) - {None} for tables in (uncut(), other))
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
    """The most bytes that NumPy, Python and Arrow hold at once while one channel of so many messages streams."""
    plan = plan_of(users=20, channels=1, messages_per_channel=messages)
    context = Context(plan, placement_of(), corpus_of(plan.locale))
    _ = context.prose, context.user_created  # kept for all shards, whatever their size

    def batches() -> Iterator[pa.RecordBatch]:
        for shard in cut(plan):
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
    peak_of_messages_and_reactions(20_000)  # what is made once and kept
    small, large_one = (peak_of_messages_and_reactions(count) for count in (60_000, 300_000))
    assert large_one < 1.1 * small
