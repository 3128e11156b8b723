"""Plugin tables of a user: correct ones, and wrong ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from bulkseed import Parents, SeedTable, table
from bulkseed.draws import below

# --- right -----------------------------------------------------------------------------------------------------------


@table(follows="messages", columns=["user_id", "message_id", "created_at", "size", "format"], rows_per_parent=0.5)
def attachments(messages: Parents) -> pa.RecordBatch:
    """Returns a batch; the column of the authors comes first, and is not in ascending order."""
    chosen = messages.words("chosen") % 2 == 0
    values: list[Any] = [
        messages.columns["user_id"][chosen],
        messages.ids[chosen],
        pa.array(messages.moments("created_at")[chosen]).cast(pa.timestamp("us")),
        below(messages.words("size"), 10_000)[chosen],
        np.where(chosen, "png", "")[chosen],
    ]
    return pa.RecordBatch.from_arrays([pa.array(column) for column in values], attachments.columns)


class Scans:
    """Follows another plugin's table."""

    name = "scans"
    follows = "attachments"
    columns = ("message_id", "found_at", "clean")
    references: ClassVar = {"message_id": "messages"}
    key = ("message_id", "found_at")

    def rows(self, attachments: Parents) -> Iterator[tuple[int, datetime, bool]]:
        for row in attachments:
            assert row.message_id == row.id
            yield row.id, row.moment(), row.random.random() < 0.9


@table(
    follows="user_channels",
    columns=["channel", "member", "muted"],
    references={"member": "users", "channel": "channels"},
)
def settings(members: Parents) -> Iterator[tuple[int, int, bool | None]]:
    """Follows a table without ids of its own; a column of its key may be null."""
    for row in members:
        yield row.channel_id, row.user_id, row.random.choice([True, False, None])


@table(follows="message_reactions", columns=["message_id", "user_id", "created_at"], rows_per_parent=0.25)
def notices(reactions: Parents) -> Iterator[tuple[int, int, datetime]]:
    for row in reactions:
        if row.random.random() < 0.25:
            yield row.message_id, row.user_id, row.created_at


def noted(channels: Parents) -> Iterator[tuple[dict[str, int], None, int, int]]:
    return (({"number": channel.number}, None, channel.id, channel.owner_id) for channel in channels)


tips = SeedTable("tips", "channels", ["more", "note", "channel_id", "user_id"], noted)
"""All values of one column are null, and those of another are JSON."""


class Late:
    """Is generated after all other tables."""

    name = "digests"
    follows = "users"
    columns = ("user_id", "sent_at")
    late = True

    def rows(self, users: Parents) -> Iterator[tuple[int, datetime]]:
        return ((user.id, user.created_at + timedelta(microseconds=user.number)) for user in users)


# --- wrong -----------------------------------------------------------------------------------------------------------

OF_USERS: dict[str, Any] = {"follows": "users", "columns": ["user_id", "created_at"], "name": "digests"}


@table(**OF_USERS)
def raising(users: Parents) -> Iterator[tuple[int, datetime]]:
    for user in users:
        yield user.id, helping(user.number)


def helping(number: int) -> Any:
    return 1 // (number - 7)


@table(**OF_USERS)
def narrow(users: Parents) -> Iterator[tuple[int]]:
    return ((user.id,) for user in users)


@table(**OF_USERS)
def mixed(users: Parents) -> Iterator[tuple[int, Any]]:
    return ((user.id, "today" if user.number == 7 else user.created_at) for user in users)


@table(**OF_USERS)
def misspelt(users: Parents) -> Iterator[tuple[int, Any]]:
    return ((user.id, user.emial) for user in users)


@table(**OF_USERS)
def nothing(users: Parents) -> Any:
    return None


@table(**OF_USERS)
def other_batch(users: Parents) -> Iterator[pa.RecordBatch]:
    yield pa.RecordBatch.from_arrays([pa.array(users.ids)], ["user"])


@table(follows="users", columns=["user_id", "sent_at"], name="digests")
def tiled(users: Parents) -> pa.RecordBatch:
    """Its rows are not in the order of the users."""
    ids, moments = np.tile(users.ids, 2), np.tile(users.created, 2)
    return pa.RecordBatch.from_arrays(
        [pa.array(ids), pa.array(moments).cast(pa.timestamp("us"))], ["user_id", "sent_at"]
    )


def table_with(**changes: Any) -> SeedTable:
    attributes: dict[str, Any] = {
        "name": "digests",
        "follows": "users",
        "columns": ["user_id"],
        "rows": lambda users: (),
    }
    return SeedTable(**attributes | changes)


letters = table_with(columns="user_id")
twice = table_with(columns=["user_id", "user_id"])
nameless = table_with(name=None)
keyless = table_with(key=["user"])
pointless = table_with(columns=["who"])
listed = table_with(references=["user_id"])
negative = table_with(rows_per_parent=-1)
sometimes = table_with(late="yes")
rowless = table_with(rows=[(1,)])
followless = table_with(follows="usres")
reactions = table_with(name="reactions")
ring = table_with(name="ring", follows="chain")
chain = table_with(name="chain", follows="ring")
itself = table_with(name="itself", follows="itself")
unmoved = table_with(name="unmoved", follows="messages", columns=["message_id"])
after_unmoved = table_with(follows="unmoved", columns=["message_id"])
unordered = table_with(name="unordered", follows="messages", columns=["user_id", "created_at"])
after_unordered = table_with(follows="unordered")
not_a_table = 5


class Lacking:
    name = "digests"


class Demanding:
    def __init__(self, needed: int) -> None:
        self.needed = needed


def undecorated(users: Parents) -> Iterable[Any]:
    return ()


@table(name="digests", follows="users", columns=["user_id", "created_at"])
def tiring(users: Parents) -> Iterator[tuple[int, datetime]]:
    """Fails after some hundred rows."""
    for user in users:
        if user.number == 399:
            raise ValueError("tired")
        yield user.id, user.created_at


@table(follows="users", columns=("user_id", "address", "seen"), key=("user_id", "address"))
def visits(users: Parents) -> Iterator[tuple[int, IPv4Address, timedelta]]:
    """The addresses from which users came: a key with values of a further type."""
    for user in users:
        yield user.id, IPv4Address(user.random.getrandbits(32)), timedelta(minutes=user.number)


@table(follows="messages", columns=["message_id", "number", "created_at"], key=("message_id",), rows_per_parent=0.25)
def polls(messages: Parents) -> Iterator[tuple[int, int, datetime]]:
    """A table that another one references, by more than ids."""
    for message in messages:
        if message.number % 4 == 0:
            yield message.id, message.id % 100, message.created_at


@table(follows="polls", columns=["message_id", "number", "choice"])
def votes(polls: Parents) -> Iterator[tuple[int, int, int]]:
    for poll in polls:
        yield poll.message_id, poll.message_id % 100, poll.random.randint(1, 3)


@table(follows="polls", columns=["message_id", "number", "choice"], name="votes")
def stray_votes(polls: Parents) -> Iterator[tuple[int, int, int]]:
    for poll in polls:
        yield poll.message_id, poll.message_id % 100 + 1, poll.random.randint(1, 3)


@table(follows="user_channels", columns=("user_id", "channel_id", "created_at"))
def welcomes(members: Parents) -> Iterator[pa.RecordBatch]:
    """What members are told when they join."""
    yield pa.record_batch(
        [
            pa.array(members.columns["user_id"]),
            pa.array(members.columns["channel_id"]),
            pa.array(members.created).cast(pa.timestamp("us")),
        ],
        names=["user_id", "channel_id", "created_at"],
    )
