"""Code of a user for the plans in tests/generators/golden/: its values depend on no version of Faker.

A change here changes the rows of tests/generators/golden/fields.toml and tables.toml, and their digests.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from faker.providers import BaseProvider

from bulkseed import Parents, table
from bulkseed.draws import below
from bulkseed.fields import FieldRow, FieldRows


class SteadyProvider(BaseProvider):
    """Draws from Python's ``random()`` alone, whose numbers for a seed no version of Python changes."""

    def share(self) -> float:
        return float(self.generator.random.random())

    def steady_phone(self) -> str:
        return f"+1-555-{int(self.share() * 10_000):04}"

    def steady_mail(self) -> str:
        return f"{'abc'[int(self.share() * 3)]}@{'xyz'[int(self.share() * 3)]}.example"

    def steady_name(self) -> str:
        return ["Zoë", "Åsa Öberg", "山田 太郎"][int(self.share() * 3)]

    def steady_code(self, least: int, letters: str = "AB") -> str:
        return f"{letters[int(self.share() * len(letters))]}{least + int(self.share() * 100)}"

    def steady_note(self) -> str | None:
        return None if self.share() < 0.5 else "noted"

    def steady_day(self) -> date:
        return date.today() - timedelta(days=int(self.share() * 1000))

    def steady_moment(self) -> datetime:
        return datetime.now(UTC) - timedelta(seconds=int(self.share() * 10**6))

    def steady_profile(self) -> dict[str, Any]:
        return {"phone": self.steady_phone(), "tags": ["a", "ü"][: int(self.share() * 3)]}


def extensions(rows: FieldRows) -> pa.Array:
    return pc.binary_join_element_wise(
        pa.scalar("ext-"), pa.array(below(rows.words("line"), 1000)).cast(pa.string()), pa.scalar("")
    )


def scores(rows: FieldRows) -> Any:
    """Returns a NumPy array."""
    return rows.random("score") * 100


def greetings(rows: FieldRows) -> list[str]:
    return [f"Hello {name}" for name in rows.values("name").to_pylist()]


def lucky(row: FieldRow) -> float:
    return row.random.random()


def card(row: FieldRow) -> Any:
    return {"who": row.email, "number": row.number, "share": Decimal("0.5"), "since": row.created_at}


@table(follows="messages", columns=["message_id", "user_id", "read_at", "client"], rows_per_parent=0.5)
def receipts(messages: Parents) -> pa.RecordBatch:
    """Returns a batch."""
    chosen = np.flatnonzero(messages.words("chosen") % 2 == 0)
    values = [
        pa.array(messages.ids[chosen]),
        pa.array(messages.columns["user_id"][chosen]),
        pa.array(messages.moments("read_at")[chosen]).cast(pa.timestamp("us")),
        pa.array(["phone", "web"]).take(pa.array(below(messages.words("client"), 2)[chosen])),
    ]
    return pa.RecordBatch.from_arrays(values, receipts.columns)


@table(follows="users", columns=["user_id", "status", "created_at"], rows_per_parent=1.5)
def statuses(users: Parents) -> Iterator[tuple[int, str, datetime]]:
    """Yields row by row."""
    for user in users:
        for number in range(1 + (user.random.random() < 0.5)):
            yield user.id, f"status {number}", user.moment()
