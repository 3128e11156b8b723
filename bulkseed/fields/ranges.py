"""Fields of values in a range: numbers, dates, times and durations, and times after the time in another column."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import partial
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.arrays import TIMESTAMP, times
from bulkseed.fields.source import Entry, FieldRows, Source
from bulkseed.plan.plan import microseconds
from bulkseed.randomness.draws import Ints, Words

__all__ = ["After", "Uniform", "draw_integers"]

MOST_EXACT: Final = 2**53
"""The greatest whole number up to which a float64 holds all of them."""

DAY: Final = 86_400_000_000
DURATION: Final = pa.duration("us")

UNITS: Final = {
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": DAY,
    "week": 7 * DAY,
}
"""Units of a time span, in microseconds."""

SPAN: Final = re.compile(r"(?P<count>\d{1,6}(\.\d{1,3})?)\s*(?P<unit>[a-z]+?)s?")


def draw_integers(words: Words, low: Ints | int, high: Ints | int) -> Ints:
    """Return uniform integers in [low, high], both included, one for each of ``words``: int64, the shape of ``words``.

    ``high - low`` must be below 2**63. A value is the high half of the 128-bit product of its word and the size of the
    range: the probability of no value is too high by more than size / 2**64.
    """
    size = (np.asarray(high) - np.asarray(low)).astype(np.uint64) + np.uint64(1)
    half, rest = np.uint64(32), np.uint64(2**32 - 1)
    upper, lower = words >> half, words & rest
    size_upper, size_lower = size >> half, size & rest
    middle = upper * size_lower + (lower * size_lower >> half)
    other = lower * size_upper + (middle & rest)
    drawn = upper * size_upper + (middle >> half) + (other >> half)
    integers: Ints = low + drawn.view(np.int64)
    return integers


@dataclass(frozen=True, eq=False)
class Uniform(Source):
    """``uniform = [low, high]``, both included; ``decimals`` for numbers with this many decimals.

    Draws whole numbers and converts them to the type ``kind``: for float64 by division by ``divisor``.
    """

    low: int
    high: int
    kind: pa.DataType
    divisor: int = 1

    @classmethod
    def read(cls, entry: Entry) -> Source:
        low, high = entry.options["uniform"]
        kinds = {type(low), type(high)}
        if "decimals" in entry.options:
            if not kinds <= {int, float}:
                raise entry.error(
                    f"decimals are for numbers, not for {low} to {high}: leave decimals out", code="wrong-decimals"
                )
            return read_decimals(entry, low, high)
        if float in kinds:
            return read_floats(entry, low, high)
        read, arrow = READERS.get(type(low), (partial(read_span, entry, "uniform"), DURATION))
        least, most = read(low), read(high)
        check_order(entry, least, most)
        if most - least >= 2**63:
            raise entry.error(
                f"the range of uniform, {low} to {high}, is too wide: give ends less than 2**63 apart",
                code="range-too-wide",
            )
        return cls(least, most, arrow)

    def values(self, rows: FieldRows) -> pa.Array:
        return self.to_arrow(draw_integers(rows.words(), self.low, self.high))

    def to_arrow(self, numbers: Ints) -> pa.Array:
        if self.kind == pa.float64():
            return pa.array(numbers / self.divisor)
        narrow = numbers.astype(np.int32) if self.kind == pa.date32() else numbers
        return pa.array(narrow).view(self.kind)

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return self.kind

    def extremes(self) -> pa.Array | None:
        return self.to_arrow(np.array([self.low, self.high], dtype=np.int64))


@dataclass(frozen=True, eq=False)
class UniformFloat(Source):
    """``uniform = [0.5, 2.5]``: floats of full precision."""

    low: float
    high: float

    def values(self, rows: FieldRows) -> pa.Array:
        # rounding may make the sum greater than the higher end
        return pa.array(np.minimum(self.low + rows.random() * (self.high - self.low), self.high))

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return pa.float64()

    def extremes(self) -> pa.Array | None:
        return pa.array([self.low, self.high])


def read_floats(entry: Entry, low: float, high: float) -> UniformFloat:
    check_order(entry, low, high)
    if not math.isfinite(float(high) - float(low)):
        raise entry.error(
            f"the range of uniform, {low} to {high}, is too wide: give ends at most half as far apart",
            code="range-too-wide",
        )
    return UniformFloat(float(low), float(high))


def read_decimals(entry: Entry, low: float, high: float) -> Uniform:
    decimals: int = entry.options["decimals"]
    check_order(entry, low, high)
    least, most = (Decimal(str(end)).scaleb(decimals) for end in (low, high))
    if math.ceil(least) > math.floor(most):
        raise entry.error(
            f"there is no number with {decimals} decimals from {low} to {high}: give more decimals",
            code="wrong-decimals",
        )
    if max(-least, most) > MOST_EXACT:
        raise entry.error(
            f"numbers up to {max(-low, high)} cannot have {decimals} decimals: give fewer decimals",
            code="wrong-decimals",
        )
    return Uniform(math.ceil(least), math.floor(most), pa.float64(), 10**decimals)


def check_order(entry: Entry, least: float, most: float) -> None:
    if least > most:
        low, high = entry.options["uniform"]
        raise entry.error(f"uniform goes from {low} down to {high}: give the lower end first", code="reversed-range")


def to_days(moment: date) -> int:
    return (moment - date(1970, 1, 1)).days


def to_microseconds(moment: datetime) -> int:
    return microseconds(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)


def to_microseconds_of_day(moment: time) -> int:
    seconds = (moment.hour * 60 + moment.minute) * 60 + moment.second
    return seconds * 1_000_000 + moment.microsecond


READERS: Final[dict[type, tuple[Callable[[Any], int], pa.DataType]]] = {
    int: (int, pa.int64()),
    date: (to_days, pa.date32()),
    time: (to_microseconds_of_day, pa.time64("us")),
    datetime: (to_microseconds, TIMESTAMP),
}
"""For each type of the ends: the function that makes a whole number of an end, and the Arrow type of the values."""


def read_span(entry: Entry, key: str, text: str) -> int:
    """Return the microseconds of a time span, such as ``30 days``. Raises InputError for another text."""
    match = SPAN.fullmatch(text.strip().lower())
    unit = UNITS.get(match["unit"]) if match else None
    if match is None or unit is None:
        units = ", ".join(f"{name}s" for name in UNITS)
        raise entry.error(f"{key} has {text!r}: give a number of {units}", code="wrong-time-span")
    return int(Decimal(match["count"]) * unit)


@dataclass(frozen=True, eq=False)
class After(Source):
    """``after = "created_at", within = "30 days"``: a time after that of another column, and not after ``as_of``."""

    column: str
    within: int | None

    @classmethod
    def read(cls, entry: Entry) -> Self:
        column = entry.check_column(entry.options["after"])
        if entry.schema is not None and (kind := entry.schema.field(column).type) != TIMESTAMP:
            raise entry.error(
                f"after names {column!r}, a column of type {kind}: name a column of times, such as created_at",
                code="not-a-time-column",
            )
        if "within" not in entry.options:
            return cls(column, None)
        return cls(column, read_span(entry, "within", entry.options["within"]))

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def values(self, rows: FieldRows) -> pa.Array:
        column = rows.values(self.column)
        before = pc.fill_null(column.view(pa.int64()), rows.as_of).to_numpy(zero_copy_only=False)
        low = np.minimum(before + 1, rows.as_of)
        high = np.full_like(low, rows.as_of) if self.within is None else np.minimum(before + self.within, rows.as_of)
        drawn = times(draw_integers(rows.words(), low, np.maximum(low, high)))
        return drawn if column.null_count == 0 else pc.if_else(column.is_valid(), drawn, None)

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return TIMESTAMP
