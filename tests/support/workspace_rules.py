"""The rules of a seeded workspace, checked on its rows in memory."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.plan.plan import Placement, Plan, microseconds
from bulkseed.plan.tables import TABLES
from bulkseed.text.faker_source import make_corpus
from support.generated_rows import placement_of, tables_of

Numbers = npt.NDArray[np.int64]

MINUTE = 60_000_000
UUID_4 = re.compile(r"auth0\|[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
EMAIL = re.compile(r"(?P<name>[a-z]+(?:\.[a-z]+)*)\.(?P<id>\d+)(?P<variant>-\d+)?@example\.(com|net|org)")
PICTURE = re.compile(r"https://[a-z.]+/[!-~]+")
JOIN_CODE = re.compile("[A-HJ-NP-Z2-9]{8}")


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
        generated = rows.tables[table.name]
        assert tuple(generated.schema.names) == table.column_names
        for column in table.columns:
            values = generated[column.name]
            assert values.type == kinds[column.kind]
            assert column.nullable or values.null_count == 0
            if column.longest is not None and values.null_count < len(values):
                assert pc.max(pc.utf8_length(values)).as_py() <= column.longest


def check_users(rows: Rows) -> None:
    plan, person = rows.plan, make_corpus(rows.plan.locale).person
    ids = rows.numbers("users", "id")
    assert_ids(ids, rows.placement.first_user, plan.users)
    auth0_ids, emails = rows.texts("users", "auth0_id"), rows.texts("users", "email")
    assert all(UUID_4.fullmatch(text) for text in auth0_ids), "U1"
    assert len(set(auth0_ids)) == plan.users, "U1"
    assert len(set(emails)) == plan.users, "U2"
    for user, email, name in zip(ids, emails, rows.texts("users", "name"), strict=True):
        slugs = person.slugs(name)
        assert slugs, "U5"
        match = EMAIL.fullmatch(email)
        assert match, "U2"
        assert match["name"] in {slug[:40].rstrip(".") or "user" for slug in slugs}, "U2"
        assert int(match["id"]) == user
        assert (match["variant"] or "-0") == f"-{rows.placement.variant}"
    check_certainty(rows.numbers("users", "is_active"), plan.probabilities.user_active, "U3")
    created = rows.numbers("users", "created_at")
    assert ((created >= rows.year) & (created <= rows.as_of)).all(), "U4"
    assert all(PICTURE.fullmatch(text) for text in rows.texts("users", "picture")), "U5"
    assert all(1 <= len(text) <= 200 for text in rows.texts("users", "bio")), "U5"


def check_certainty(flags: npt.NDArray[Any], probability: float, rule: str) -> None:
    if probability in (0.0, 1.0):
        assert (flags == probability).all(), rule


def check_channels(rows: Rows) -> None:
    plan, company = rows.plan, make_corpus(rows.plan.locale).company
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
    check_joining(rows)


def check_joining(rows: Rows) -> None:
    users, channels = rows.numbers("user_channels", "user_id"), rows.numbers("user_channels", "channel_id")
    joined = rows.numbers("user_channels", "joined")
    assert (joined >= np.maximum(rows.user_created(users), rows.channel_created(channels))).all(), "T4"
    owners = np.searchsorted(channels, rows.numbers("channels", "id"))
    np.testing.assert_array_equal(joined[owners], rows.numbers("channels", "created_at"), "T4")
    order = np.argsort(pair(users, channels))
    known, since = pair(users, channels)[order], joined[order]
    messages = rows.numbers("message_reactions", "message_id") - rows.placement.first_message
    sent_in = rows.numbers("messages", "channel_id")
    for who, where, when in (
        (rows.numbers("messages", "user_id"), sent_in, rows.numbers("messages", "created_at")),
        (
            rows.numbers("message_reactions", "user_id"),
            sent_in[messages],
            rows.numbers("message_reactions", "created_at"),
        ),
    ):
        assert (when >= since[np.searchsorted(known, pair(who, where))]).all(), "T4"
    is_dm = rows.numbers("channels", "is_dm").astype(bool)
    of_two = np.flatnonzero(is_dm & (rows.members_of(rows.numbers("channels", "id")) == 2))
    one, other = users[owners[of_two]], users[owners[of_two] + 1]
    pairs = np.unique(pair(np.minimum(one, other), np.maximum(one, other)))
    if len(of_two) <= rows.plan.users * (rows.plan.users - 1) // 2:
        assert len(pairs) == len(of_two), "M4"
    for table in ("users", "channels", "messages"):
        assert (np.diff(rows.numbers(table, "created_at")) >= 0).all(), "T1"


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
    full_stop = make_corpus(rows.plan.locale).lorem.full_stop
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
