"""Fields between two ends: numbers, dates and times, and moments after another column's."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.arrays import TIMESTAMP, times
from bulkseed.fields.source import Entry, FieldRows, Source
from bulkseed.plan.plan import microseconds
from bulkseed.randomness.draws import Ints, Words

__all__ = ["After", "Uniform", "within_range"]

MOST_EXACT: Final = 2**53
"""Up to here every whole number is a float."""

DAY: Final = 86_400_000_000
UNITS: Final = {
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": DAY,
    "week": 7 * DAY,
}
"""Microseconds of each."""

SPAN: Final = re.compile(r"(?P<count>\d{1,6}(\.\d{1,3})?)\s*(?P<unit>[a-z]+?)s?")


def within_range(words: Words, low: Ints | int, high: Ints | int) -> Ints:
    """Uniform integers in [low, high], both included; ``high - low`` is below 2**63.

    The high half of the 128-bit product of word and size: no value is favoured by more than the size / 2**64.
    """
    size = (np.asarray(high) - np.asarray(low)).astype(np.uint64) + np.uint64(1)
    half, rest = np.uint64(32), np.uint64(2**32 - 1)
    upper, lower = words >> half, words & rest
    size_upper, size_lower = size >> half, size & rest
    middle = upper * size_lower + (lower * size_lower >> half)
    other = lower * size_upper + (middle & rest)
    drawn = upper * size_upper + (middle >> half) + (other >> half)
    found: Ints = low + drawn.view(np.int64)
    return found


@dataclass(frozen=True, eq=False)
class Uniform(Source):
    """``uniform = [low, high]``, both included; ``decimals`` for numbers with so many of them.

    Whole numbers are drawn, and seen as ``kind``: for float64 as so many of ``divisor`` parts of 1.
    """

    low: int
    high: int
    kind: pa.DataType
    divisor: int = 1

    @classmethod
    def read(cls, entry: Entry) -> Source:
        low, high = entry.given["uniform"]
        kinds = {type(low), type(high)}
        if "decimals" in entry.given:
            if not kinds <= {int, float}:
                raise entry.error(f"decimals are for numbers, not from {low} to {high}: leave them out")
            return with_decimals(entry, low, high)
        if float in kinds:
            return of_floats(entry, low, high)
        read, arrow = READERS[type(low)]
        least, most = read(low), read(high)
        check_order(entry, least, most)
        if most - least >= 2**63:
            raise entry.error(f"uniform goes from {low} to {high}, which is too far: stay within 2**63")
        return cls(least, most, arrow)

    def values(self, rows: FieldRows) -> pa.Array:
        return self.seen(within_range(rows.words(), self.low, self.high))

    def seen(self, numbers: Ints) -> pa.Array:
        if self.kind == pa.float64():
            return pa.array(numbers / self.divisor)
        narrow = numbers.astype(np.int32) if self.kind == pa.date32() else numbers
        return pa.array(narrow).view(self.kind)

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return self.kind

    def extremes(self) -> pa.Array | None:
        return self.seen(np.array([self.low, self.high], dtype=np.int64))


@dataclass(frozen=True, eq=False)
class UniformFloat(Source):
    """``uniform = [0.5, 2.5]``: numbers with all their digits."""

    low: float
    high: float

    def values(self, rows: FieldRows) -> pa.Array:
        # rounding may take a sum to the higher end, and not beyond
        return pa.array(np.minimum(self.low + rows.random() * (self.high - self.low), self.high))

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return pa.float64()

    def extremes(self) -> pa.Array | None:
        return pa.array([self.low, self.high])


def of_floats(entry: Entry, low: float, high: float) -> UniformFloat:
    check_order(entry, low, high)
    if not math.isfinite(float(high) - float(low)):
        raise entry.error(f"uniform goes from {low} to {high}, which is too far: stay within half of that")
    return UniformFloat(float(low), float(high))


def with_decimals(entry: Entry, low: float, high: float) -> Uniform:
    decimals: int = entry.given["decimals"]
    check_order(entry, low, high)
    least, most = (Decimal(str(end)).scaleb(decimals) for end in (low, high))
    if math.ceil(least) > math.floor(most):
        raise entry.error(f"there is no number of {decimals} decimals from {low} to {high}: give more decimals")
    if max(-least, most) > MOST_EXACT:
        raise entry.error(f"numbers up to {max(-low, high)} cannot have {decimals} decimals: give fewer")
    return Uniform(math.ceil(least), math.floor(most), pa.float64(), 10**decimals)


def check_order(entry: Entry, least: float, most: float) -> None:
    if least > most:
        low, high = entry.given["uniform"]
        raise entry.error(f"uniform goes from {low} down to {high}: give the lower end first")


def days(moment: date) -> int:
    return (moment - date(1970, 1, 1)).days


def moments(moment: datetime) -> int:
    return microseconds(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)


def of_the_day(moment: time) -> int:
    seconds = (moment.hour * 60 + moment.minute) * 60 + moment.second
    return seconds * 1_000_000 + moment.microsecond


READERS: Final[dict[type, tuple[Callable[[Any], int], pa.DataType]]] = {
    int: (int, pa.int64()),
    date: (days, pa.date32()),
    time: (of_the_day, pa.time64("us")),
    datetime: (moments, TIMESTAMP),
}
"""How an end of each type is read as a whole number, and the type of what lies between two of them."""


@dataclass(frozen=True, eq=False)
class After(Source):
    """``after = "created_at", within = "30 days"``: a moment after another column's, and not after the run's now."""

    column: str
    within: int | None

    @classmethod
    def read(cls, entry: Entry) -> Self:
        column = entry.column(entry.given["after"])
        if entry.schema is not None and (kind := entry.schema.field(column).type) != TIMESTAMP:
            raise entry.error(f"after is {column!r}, a column of {kind}: name one of times, such as created_at")
        if "within" not in entry.given:
            return cls(column, None)
        text: str = entry.given["within"]
        match = SPAN.fullmatch(text.strip().lower())
        unit = UNITS.get(match["unit"]) if match else None
        if match is None or unit is None:
            raise entry.error(f"within is {text!r}: give a number of {', '.join(f'{each}s' for each in UNITS)}")
        return cls(column, int(Decimal(match["count"]) * unit))

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def values(self, rows: FieldRows) -> pa.Array:
        column = rows.values(self.column)
        before = pc.fill_null(column.view(pa.int64()), rows.as_of).to_numpy(zero_copy_only=False)
        low = np.minimum(before + 1, rows.as_of)
        high = np.full_like(low, rows.as_of) if self.within is None else np.minimum(before + self.within, rows.as_of)
        drawn = times(within_range(rows.words(), low, np.maximum(low, high)))
        return drawn if column.null_count == 0 else pc.if_else(column.is_valid(), drawn, None)

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return TIMESTAMP
