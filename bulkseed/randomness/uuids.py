"""UUID keys for integer ids: pure functions of the id, versions 4 and 7 in form, that plain SQL reads back.

The 128 bits, as RFC 9562 numbers them (sections 5.4 and 5.7):

- version 4: 48 random bits; version 7: Unix milliseconds, which grow evenly with the id;
- the version, 12 random bits;
- the variant; 62 bits that are the id, exclusive-or a key of the run and table, exclusive-or the last octet before
  them times a constant, so that neighbours look unlike.

Ids need far fewer than 62 bits, so that the rest of them, zeros under the key, tell our keys from those of an app:
a random UUID reads as one of n ids with probability n / 2**62.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.errors import InputError, RunError
from bulkseed.randomness.draws import Ints, Streams, Words

__all__ = ["HIGHEST_ID", "Moments", "Uuids"]

HIGHEST_ID: Final = 2**62 - 1
"""What the bits after the variant can hold."""

VARIANT: Final = 2**63
SPREAD: Final = 0x2545F4914F6CDD
"""Odd, of 54 bits: 255 times it is within 62 (the first digits of xorshift64*'s multiplier)."""

PARTS: Final = (np.uint64(0xFFFFFFFFFFFF0000), np.uint64(0x0FFF))
"""Of the first eight octets: what is before the version's digit, and what is after it."""

OCTETS: Final = pa.binary(16)


@dataclass(frozen=True, slots=True)
class Moments:
    """The times of version-7 keys: ids ``first`` to ``first + count`` go evenly from ``start`` to ``end``.

    ``start`` and ``end`` are microseconds since 1970.
    """

    first: int
    count: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Uuids:
    """The keys of one table's rows: of version 7 where ``moments`` says when the rows are made, else of version 4.

    Raises InputError for moments before 1970, which version 7 cannot say.
    """

    streams: Streams
    table: str
    moments: Moments | None = None

    def __post_init__(self) -> None:
        if self.moments is not None and self.moments.start < 0:
            raise InputError(
                f"keys of UUID version 7 begin in 1970, and rows of {self.table} are older: "
                "take version 4, or a later --as-of"
            )

    @property
    def version(self) -> Literal[4, 7]:
        """The version that the keys have in form."""
        return 4 if self.moments is None else 7

    def octets(self, ids: pa.Array) -> pa.Array:
        """The keys of ``ids`` (int64, in any order): fixed-size binary of 16 octets, null where the id is.

        Raises RunError for an id that is negative or above HIGHEST_ID.
        """
        numbers = np.asarray(ids.fill_null(0) if ids.null_count else ids)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() <= HIGHEST_ID:
            wrong = int(next(end for end in (numbers.min(), numbers.max()) if not 0 <= end <= HIGHEST_ID))
            raise RunError(f"the id {wrong} of {self.table} makes no UUID: give ids from 0 to {HIGHEST_ID}")
        before, after = PARTS
        high = self.random(numbers)
        if self.moments is None:
            high &= before | after
        else:
            high = milliseconds(numbers, self.moments) << np.uint64(16) | high & after
        high |= np.uint64(self.version << 12)
        low = (high & np.uint64(0xFF)) * np.uint64(SPREAD)
        low ^= numbers.view(np.uint64)
        low ^= np.uint64(self.mask)
        pairs = np.empty((len(numbers), 2), dtype=">u8")
        pairs[:, 0] = high
        pairs[:, 1] = low
        made = pa.Array.from_buffers(OCTETS, len(numbers), [None, pa.py_buffer(pairs)])
        return pc.if_else(ids.is_valid(), made, pa.scalar(None, OCTETS)) if ids.null_count else made

    def decoded(self, expression: str) -> str:
        """SQL for the id of a key, a bigint: ``expression`` is of type uuid. Null stays null.

        A UUID that is none of ours gives some other number; nothing raises an error.
        """
        # uuid_send gives the octets; what casts bytea to bigint comes with PostgreSQL 18 only, bits do in all
        low = f"('x' || encode(substr(uuid_send({expression}), 9), 'hex'))::bit(64)::bigint"
        mask = self.mask - 2**64  # its highest bit is the variant's
        return f"({low} # (get_byte(uuid_send({expression}), 7) * {SPREAD}::bigint) # '{mask}'::bigint)"

    @property
    def mask(self) -> int:
        """What the last eight octets are masked with: the run's key for the table, and the variant's bits."""
        return self.streams.key(self.table, "id.uuid.mask") % 2**62 | VARIANT

    def random(self, numbers: Ints) -> Words:
        # the output function of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
        # generators"): rows point at ids in any order, for which a counter-based stream would be set anew each time
        words = numbers.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        words += np.uint64(self.streams.key(self.table, "id.uuid.random") % 2**64)
        words ^= words >> np.uint64(30)
        words *= np.uint64(0xBF58476D1CE4E5B9)
        words ^= words >> np.uint64(27)
        words *= np.uint64(0x94D049BB133111EB)
        words ^= words >> np.uint64(31)
        return words


def milliseconds(numbers: Ints, moments: Moments) -> Words:
    start, end = moments.start // 1000, moments.end // 1000
    # doubles, each step of which is rounded correctly everywhere, and never turns the order of two around
    share = np.clip((numbers - moments.first) / max(moments.count, 1), 0.0, 1.0)
    return (start + (share * (end - start)).astype(np.int64)).view(np.uint64)
