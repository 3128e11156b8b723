"""What a user may write to fill tables of their own: right, and wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from bulkseed import Parents, SeedTable, table
from bulkseed.draws import below

# --- right -----------------------------------------------------------------------------------------------------------


@table(follows="messages", columns=["user_id", "message_id", "created_at", "size", "format"], rows_per_parent=0.5)
def attachments(messages: Parents) -> pa.RecordBatch:
    """A batch that is returned; the column of the authors comes first, and is not in order."""
    chosen = messages.words("chosen") % 2 == 0
    values: list[Any] = [
        messages.columns["user_id"][chosen],
        messages.ids[chosen],
        pa.array(messages.moments("created_at")[chosen]).cast(pa.timestamp("us")),
        below(messages.words("size"), 10_000)[chosen],
        np.where(chosen, "png", "")[chosen],
    ]
    return pa.RecordBatch.from_arrays([pa.array(each) for each in values], attachments.columns)


class Scans:
    """Follows another plugin's table."""

    name = "scans"
    follows = "attachments"
    columns = ("message_id", "found_at", "clean")
    references: ClassVar = {"message_id": "messages"}
    key = ("message_id", "found_at")

    def rows(self, attachments: Parents) -> Iterator[tuple[int, datetime, bool]]:
        for each in attachments:
            assert each.message_id == each.id
            yield each.id, each.moment(), each.random.random() < 0.9


@table(
    follows="user_channels",
    columns=["channel", "member", "muted"],
    references={"member": "users", "channel": "channels"},
)
def settings(members: Parents) -> Iterator[tuple[int, int, bool | None]]:
    """Follows a table without ids of its own; a column of its key may be null."""
    for each in members:
        yield each.channel_id, each.user_id, each.random.choice([True, False, None])


@table(follows="message_reactions", columns=["message_id", "user_id", "created_at"], rows_per_parent=0.25)
def notices(reactions: Parents) -> Iterator[tuple[int, int, datetime]]:
    for each in reactions:
        if each.random.random() < 0.25:
            yield each.message_id, each.user_id, each.created_at


def noted(channels: Parents) -> Iterator[tuple[dict[str, int], None, int, int]]:
    return (({"number": each.number}, None, each.id, each.owner_id) for each in channels)


tips = SeedTable("tips", "channels", ["more", "note", "channel_id", "user_id"], noted)
"""All values of a column are null, and those of another JSON."""


class Late:
    """With the users as they were, after all other tables."""

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


def made(**changes: Any) -> SeedTable:
    given: dict[str, Any] = {"name": "digests", "follows": "users", "columns": ["user_id"], "rows": lambda users: ()}
    return SeedTable(**given | changes)


letters = made(columns="user_id")
twice = made(columns=["user_id", "user_id"])
nameless = made(name=None)
keyless = made(key=["user"])
pointless = made(columns=["who"])
listed = made(references=["user_id"])
negative = made(rows_per_parent=-1)
sometimes = made(late="yes")
rowless = made(rows=[(1,)])
followless = made(follows="usres")
reactions = made(name="reactions")
early = made(columns=["user_id", "channel_id"])
very_late = made(follows="messages", late=True, columns=["message_id"])
ring = made(name="ring", follows="chain")
chain = made(name="chain", follows="ring")
itself = made(name="itself", follows="itself")
unmoved = made(name="unmoved", follows="messages", columns=["message_id"])
after_unmoved = made(follows="unmoved", columns=["message_id"])
unordered = made(name="unordered", follows="messages", columns=["user_id", "created_at"])
after_unordered = made(follows="unordered")
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
    """Fails, but not among the first."""
    for user in users:
        if user.number >= 300:
            raise ValueError("tired")
        yield user.id, user.created_at
