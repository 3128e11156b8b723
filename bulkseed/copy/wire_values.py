"""Values of PostgreSQL's types as the server sends and receives them, made from texts in its input syntax.

Functions named ``parse_…`` return the octets of one value, or a value of Python that Arrow has a type for. They raise
ValueError for a text that the type does not have.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import groupby
from socket import AF_INET, AF_INET6, inet_pton
from struct import pack
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bulkseed.copy.binary_rows import binary_array

__all__ = [
    "EMPTY",
    "LOWER_INCLUDED",
    "LOWER_INFINITE",
    "UPPER_INCLUDED",
    "UPPER_INFINITE",
    "RangeText",
    "intervals_of",
    "parse_bits",
    "parse_bool",
    "parse_bytes",
    "parse_cidr",
    "parse_date",
    "parse_decimal",
    "parse_inet",
    "parse_interval",
    "parse_mac",
    "parse_mac8",
    "parse_multirange",
    "parse_range",
    "parse_time",
    "parse_timestamp",
    "parse_timetz",
    "parse_tsvector",
    "timetz_of",
]

DAY: Final = 86_400_000_000
"""Microseconds of a day."""

Ints = npt.NDArray[np.int64]

INTERVAL: Final = np.dtype([("microseconds", ">i8"), ("days", ">i4"), ("months", ">i4")])
TIMETZ: Final = np.dtype([("microseconds", ">i8"), ("zone", ">i4")])


def records_of(table: npt.NDArray[np.void], valid: pa.Array) -> pa.Array:
    """Return the octets of the rows of ``table``: an array of ``binary``, null where ``valid`` is false."""
    return binary_array(table, np.arange(len(table) + 1, dtype=np.int64) * table.dtype.itemsize, valid)


def intervals_of(microseconds: Ints, days: Ints, months: Ints, valid: pa.Array) -> pa.Array:
    """Return the octets of ``interval``: an array of ``binary``, null where ``valid`` is false."""
    table = np.empty(len(valid), INTERVAL)
    table["microseconds"], table["days"], table["months"] = microseconds, days, months
    return records_of(table, valid)


def timetz_of(microseconds: Ints, valid: pa.Array) -> pa.Array:
    """Return the octets of ``timetz`` for times of day in UTC: an array of ``binary``, null where not ``valid``."""
    table = np.zeros(len(valid), TIMETZ)
    table["microseconds"] = microseconds
    return records_of(table, valid)


def microseconds_of_day(value: time) -> int:
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond


def parse_time(text: str) -> int:
    """Return the microseconds since midnight of a time of day without a zone."""
    value = time.fromisoformat(text.strip())
    if value.tzinfo is not None:
        raise ValueError("a time with a zone")
    return microseconds_of_day(value)


def parse_timetz(text: str) -> bytes:
    """Return the octets of a ``timetz``; a text without a zone is in UTC."""
    value = time.fromisoformat(text.strip())
    offset = value.utcoffset() or timedelta()
    return pack(">qi", microseconds_of_day(value), -int(offset.total_seconds()))


UNITS: Final = {
    "microsecond": (0, 0, 1),
    "us": (0, 0, 1),
    "millisecond": (0, 0, 1_000),
    "ms": (0, 0, 1_000),
    "second": (0, 0, 1_000_000),
    "sec": (0, 0, 1_000_000),
    "s": (0, 0, 1_000_000),
    "minute": (0, 0, 60_000_000),
    "min": (0, 0, 60_000_000),
    "m": (0, 0, 60_000_000),
    "hour": (0, 0, 3_600_000_000),
    "hr": (0, 0, 3_600_000_000),
    "h": (0, 0, 3_600_000_000),
    "day": (0, 1, 0),
    "d": (0, 1, 0),
    "week": (0, 7, 0),
    "w": (0, 7, 0),
    "month": (1, 0, 0),
    "mon": (1, 0, 0),
    "year": (12, 0, 0),
    "y": (12, 0, 0),
}
"""Units of an interval: months, days and microseconds."""

AMOUNT: Final = re.compile(r"\s*(?P<number>[-+]?(?:\d+(?:\.\d*)?|\.\d+))\s*(?P<unit>[a-z]+)")
CLOCK: Final = re.compile(r"\s*(?P<sign>[-+]?)(?P<hours>\d+):(?P<minutes>\d\d?)(?::(?P<seconds>\d\d?(?:\.\d*)?))?")
ISO: Final = re.compile(
    r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)W)?(?:(-?\d+)D)?"
    r"(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?\d+(?:\.\d+)?)S)?)?"
)
ISO_UNITS: Final = ("year", "month", "week", "day", "hour", "minute", "second")


def parse_interval(text: str) -> bytes:
    """Return the octets of an ``interval``, such as ``1 year 2 mons 3 days 04:05:06``, ``-2 hours`` or ``P1DT12H``."""
    text = text.strip()
    if match := ISO.fullmatch(text):
        amounts = [(Decimal(number), unit) for number, unit in zip(match.groups(), ISO_UNITS, strict=True) if number]
        clock = Decimal(0)
        sign = 1
    else:
        amounts, clock, sign = read_amounts(text.lower())
    if not amounts and ":" not in text:
        raise ValueError("no interval")
    months, days, microseconds = Decimal(0), Decimal(0), clock
    for number, unit in amounts:
        in_months, in_days, in_microseconds = UNITS[unit]
        months += number * in_months
        whole = int(number * in_days)
        days += whole
        # a fraction of a day is time, as the server has it
        microseconds += number * in_microseconds + (number * in_days - whole) * DAY
    if months != int(months):
        raise ValueError("a fraction of a month")
    return pack(">qii", *check_bounds(sign * round(microseconds), sign * int(days), sign * int(months)))


def check_bounds(microseconds: int, days: int, months: int) -> tuple[int, int, int]:
    if abs(microseconds) >= 2**63 or abs(days) >= 2**31 or abs(months) >= 2**31:
        raise ValueError("too long an interval")
    return microseconds, days, months


def read_amounts(text: str) -> tuple[list[tuple[Decimal, str]], Decimal, int]:
    """Return the numbers with their units, the microseconds of a time such as 04:05:06, and -1 before ``ago``, else 1.

    ``text`` is in lower case.
    """
    amounts, clock, place, sign = [], Decimal(0), 0, 1
    if text.startswith("@"):
        place = 1
    if text.endswith("ago"):
        sign, text = -1, text[:-3].rstrip()
    while place < len(text):
        if match := CLOCK.match(text, place):
            minutes, seconds = Decimal(match["minutes"]), Decimal(match["seconds"] or 0)
            if minutes >= 60 or seconds >= 60:
                raise ValueError("no time")
            microseconds = ((Decimal(match["hours"]) * 60 + minutes) * 60 + seconds) * 1_000_000
            clock += -microseconds if match["sign"] == "-" else microseconds
        elif match := AMOUNT.match(text, place):
            unit = match["unit"] if match["unit"] in UNITS else match["unit"].removesuffix("s")
            if unit not in UNITS:
                raise ValueError(f"no unit {unit}")
            amounts.append((Decimal(match["number"]), unit))
        else:
            raise ValueError("no interval")
        place = match.end()
    return amounts, clock, sign


IPV4: Final = 2
IPV6: Final = 3
"""The families of inet and cidr: those of PostgreSQL, on any system."""


def parse_address(text: str) -> tuple[int, int, bytes]:
    """Return the family of an address, the number of bits of its network, and its octets."""
    address, slash, length = text.strip().partition("/")
    family = IPV6 if ":" in address else IPV4
    try:
        octets = inet_pton(AF_INET6 if family == IPV6 else AF_INET, address)
    except OSError as error:
        raise ValueError("no address") from error
    bits = int(length) if slash else 8 * len(octets)
    if not 0 <= bits <= 8 * len(octets) or (slash and not length.isdecimal()):
        raise ValueError("no length of a network")
    return family, bits, octets


def parse_inet(text: str) -> bytes:
    """Return the octets of an ``inet``."""
    family, bits, octets = parse_address(text)
    return bytes((family, bits, 0, len(octets))) + octets


def parse_cidr(text: str) -> bytes:
    """Return the octets of a ``cidr``, whose address has no bits outside the network."""
    family, bits, octets = parse_address(text)
    if int.from_bytes(octets) & ((1 << (8 * len(octets) - bits)) - 1):
        raise ValueError("bits outside the network")
    return bytes((family, bits, 1, len(octets))) + octets


MAC: Final = re.compile(r"[0-9a-fA-F]{2}(?:[:.-]?[0-9a-fA-F]{2}){5}")
MAC8: Final = re.compile(r"[0-9a-fA-F]{2}(?:[:.-]?[0-9a-fA-F]{2}){7}")
SEPARATORS: Final = str.maketrans("", "", ":.-")


def parse_mac(text: str) -> bytes:
    """Return the octets of a ``macaddr``."""
    if not MAC.fullmatch(text := text.strip()):
        raise ValueError("no address")
    return bytes.fromhex(text.translate(SEPARATORS))


def parse_mac8(text: str) -> bytes:
    """Return the octets of a ``macaddr8``; an address of six octets is filled up as the server does it."""
    if MAC8.fullmatch(text := text.strip()):
        return bytes.fromhex(text.translate(SEPARATORS))
    octets = parse_mac(text)
    return octets[:3] + b"\xff\xfe" + octets[3:]


def parse_bytes(text: str) -> bytes:
    r"""Return the octets of a ``bytea``: of ``\x`` and hexadecimal digits, else of the text itself in UTF-8."""
    if text.startswith("\\x"):
        return bytes.fromhex(text[2:])
    if "\\" in text:
        raise ValueError("an escape")
    return text.encode()


def parse_bits(text: str, length: int | None, *, exactly: bool) -> bytes:
    """Return the octets of a ``bit`` (of ``exactly`` the length) or ``varbit``: of zeros and ones, or ``x`` and
    hexadecimal digits.
    """
    digits = text.strip()
    if digits[:1] in {"x", "X"}:
        digits = "".join(f"{int(digit, 16):04b}" for digit in digits[1:])
    elif digits[:1] in {"b", "B"}:
        digits = digits[1:]
    if digits.strip("01"):
        raise ValueError("no bits")
    if length is not None and (len(digits) > length or (exactly and len(digits) != length)):
        raise ValueError("another number of bits")
    octets = -(-len(digits) // 8)
    return pack(">i", len(digits)) + int(digits.ljust(8 * octets, "0") or "0", 2).to_bytes(octets)


TRUE: Final = {"true", "t", "yes", "y", "on", "1"}
FALSE: Final = {"false", "f", "no", "n", "off", "0"}


def parse_bool(text: str) -> bool:
    """Return the value of a ``boolean``."""
    word = text.strip().lower()
    if word not in TRUE | FALSE:
        raise ValueError("no boolean")
    return word in TRUE


def parse_decimal(text: str) -> Decimal:
    """Return the value of a ``numeric``: a finite number."""
    try:
        number = Decimal(text.strip())
    except ArithmeticError as error:
        raise ValueError("no number") from error
    if not number.is_finite():
        raise ValueError("not finite")
    return number


def parse_date(text: str) -> date:
    """Return the value of a ``date``."""
    return date.fromisoformat(text.strip())


def parse_timestamp(text: str) -> datetime:
    """Return a time in UTC, without a zone; a text without a zone is in UTC."""
    moment = datetime.fromisoformat(text.strip())
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


EMPTY: Final = 0x01
LOWER_INCLUDED: Final = 0x02
UPPER_INCLUDED: Final = 0x04
LOWER_INFINITE: Final = 0x08
UPPER_INFINITE: Final = 0x10
"""The flags of a range."""

BOUND: Final = r'((?:"(?:[^"\\]|\\.|"")*"|[^,()\[\]"\\]|\\.)*)'
RANGE: Final = re.compile(rf"\s*([\[(]){BOUND},{BOUND}([\])])\s*", re.DOTALL)
QUOTED: Final = re.compile(r'\\(.)|"(")|"', re.DOTALL)


class RangeText(NamedTuple):
    """A range: its flags, and the texts of its bounds; None for a bound that it does not have."""

    flags: int
    lower: str | None
    upper: str | None


def parse_range(text: str) -> RangeText:
    """Return a range, such as ``[1,10)``, ``(,2026-01-01]`` or ``empty``."""
    if text.strip().lower() == "empty":
        return RangeText(EMPTY, None, None)
    match = RANGE.fullmatch(text)
    if not match:
        raise ValueError("no range")
    return range_of(match)


def range_of(match: re.Match[str]) -> RangeText:
    opening, lower, upper, closing = match.groups()
    flags = LOWER_INCLUDED * (opening == "[") if lower else LOWER_INFINITE
    flags |= UPPER_INCLUDED * (closing == "]") if upper else UPPER_INFINITE
    return RangeText(flags, unquote(lower), unquote(upper))


def unquote(bound: str) -> str | None:
    if not bound:
        return None
    return QUOTED.sub(lambda match: match[1] or match[2] or "", bound) if {*'"\\'} & {*bound} else bound


def parse_multirange(text: str) -> list[RangeText]:
    """Return the ranges of a multirange, such as ``{[1,3),[5,8)}``, without empty ones."""
    text = text.strip()
    if text[:1] != "{" or text[-1:] != "}":
        raise ValueError("no multirange")
    ranges: list[RangeText] = []
    place, end = 1, len(text) - 1
    while place < end:
        if ranges:
            if text[place] != ",":
                raise ValueError("no multirange")
            place += 1
        match = RANGE.match(text, place, end)
        if not match:
            raise ValueError("no multirange")
        ranges.append(range_of(match))
        place = match.end()
    return ranges


LEXEME: Final = re.compile(
    r"\s*(?:'(?P<quoted>(?:[^'\\]|\\.|'')*)'|(?P<plain>(?:[^\s:'\\]|\\.)+))(?::(?P<places>[\d*A-Da-d,]+))?(?=\s|$|')",
    re.DOTALL,
)
PLACE: Final = re.compile(r"(?P<place>\d{1,5})(?P<weight>[*A-Da-d]?)")
ESCAPED: Final = re.compile(r"\\(.)|'(')", re.DOTALL)
WEIGHTS: Final = {"": 0, "d": 0, "c": 1, "b": 2, "a": 3, "*": 3}
LAST_PLACE: Final = 2**14 - 1
MOST_PLACES: Final = 255
LONGEST_LEXEME: Final = 2046


def parse_tsvector(text: str) -> bytes:
    """Return the octets of a ``tsvector`` in its input syntax, such as ``'fat':2 'rat':3A``: nothing is normalised."""
    text = text.rstrip()
    found: list[tuple[bytes, int, int]] = []
    words: set[bytes] = set()
    start = 0
    while start < len(text):
        match = LEXEME.match(text, start)
        if not match:
            raise ValueError("no tsvector")
        start = match.end()
        word = ESCAPED.sub(lambda part: part[1] or part[2], match["quoted"] or match["plain"] or "").encode()
        if not word or len(word) > LONGEST_LEXEME or b"\0" in word:
            raise ValueError("no lexeme")
        words.add(word)
        for place in (match["places"] or "").split(",") if match["places"] else ():
            parts = PLACE.fullmatch(place)
            if not parts or int(parts["place"]) == 0:
                raise ValueError("no position")
            found.append((word, min(int(parts["place"]), LAST_PLACE), WEIGHTS[parts["weight"].lower()]))
    first_last: dict[bytes, int] = {}
    for word, place, weight in found:
        if place == LAST_PLACE:
            first_last.setdefault(word, weight)
    places = {word: [*group] for word, group in groupby(sorted(found), key=lambda item: item[0])}
    octets = [pack(">i", len(words))]
    for word in sorted(words):
        # the highest weight of each place comes last
        weights = {place: weight for _, place, weight in places.get(word, [])}
        if len(weights) > 1 and LAST_PLACE in weights:
            # the server stops at this place, so that the first weight counts: uniquePos() in tsvector.c
            weights[LAST_PLACE] = first_last[word]
        numbers = [weight << 14 | place for place, weight in [*weights.items()][:MOST_PLACES]]
        octets.append(word + b"\0" + pack(f">H{len(numbers)}H", len(numbers), *numbers))
    return b"".join(octets)
