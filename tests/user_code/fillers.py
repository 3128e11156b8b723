"""Code of a user that fills fields: functions, and a provider for Faker."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from faker.providers import BaseProvider

from bulkseed.draws import below, chance
from bulkseed.fields import FieldRow, FieldRows

AWKWARD = ("a", "a-1", "a 1", "a1", "1", "", " ", "@", "a@b", "a@b@1", "a.1@b", "é@-1", "-", "a\nb", "a\n1@b")
"""Texts of which some would equal others if a number were only appended to make them unique."""

NOT_CALLABLE = 5


class AppProvider(BaseProvider):
    def plan_code(self) -> str:
        return self.numerify("P-###")

    def awkward(self) -> str:
        return str(self.random_element(AWKWARD))

    def today(self) -> str:
        return datetime.now(UTC).isoformat()

    def nothing_or_text(self) -> str | None:
        return None if self.generator.random.random() < 0.5 else "text"

    def a_set(self) -> Any:
        return {1, 2}

    def mixed(self) -> Any:
        return 1 if self.generator.random.random() < 0.5 else "text"


def phones(rows: FieldRows) -> pa.Array:
    lines = pa.array(below(rows.words("line"), 1000) + 1000).cast(pa.string())
    return pc.binary_join_element_wise(pa.scalar("+1555"), lines, pa.scalar(""))


def is_new(rows: FieldRows) -> Any:
    """Returns a NumPy array."""
    return chance(rows.words("new"), 0.25) & (rows.random("old") < 0.5)


def greetings(rows: FieldRows) -> list[str | None]:
    return [None if name is None else f"Hello {name}" for name in rows.values("name").to_pylist()]


def chunks(rows: FieldRows) -> pa.ChunkedArray:
    half = len(rows) // 2
    return pa.chunked_array([pa.array(rows.numbers[:half]), pa.array(rows.numbers[half:])])


def status(row: FieldRow) -> str:
    return row.random.choice(["here", "away"]) + f" {row.number} {row.email} {row['created_at']:%Y}"


def seconds(rows: FieldRows) -> Any:
    return np.datetime64("2026-01-01", "ns") + rows.numbers.astype("timedelta64[s]")


def zoned(row: FieldRow) -> datetime:
    return datetime(2026, 1, 1, 12, row.number % 60, tzinfo=UTC)


def many(row: FieldRow) -> Any:
    return [None, [], [1, 2], [row.number]][row.number % 4]


def table(row: FieldRow) -> Any:
    return {"who": row.email, "share": Decimal("0.5"), "key": UUID(int=row.number)}


def too_few(rows: FieldRows) -> list[int]:
    return list(range(len(rows) - 1))


def one_for_all(rows: FieldRows) -> str:
    return "free"


def failing(rows: FieldRows) -> list[int]:
    raise ValueError("no phones today")


def failing_at_seven(row: FieldRow) -> int:
    return 1 // (row.number - 7)


def mixed_at_seven(row: FieldRow) -> Any:
    return "x" if row.number == 7 else row.number


def misspelt(row: FieldRow) -> Any:
    return row.emial


def sets(row: FieldRow) -> Any:
    return {1}


def with_nul(rows: FieldRows) -> list[str]:
    return ["a\0b"] * len(rows)
