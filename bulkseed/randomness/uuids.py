"""UUID keys for integer ids: pure functions of the id, in the form of version 4 or 7, which plain SQL decodes.

The 128 bits, in the order of RFC 9562 (sections 5.4 and 5.7):

- version 4: 48 random bits; version 7: Unix milliseconds, which grow evenly with the id;
- the version, and 12 random bits;
- the variant, and 62 bits: the id, exclusive-or a key of the run and table, exclusive-or a constant times the octet
  before these 64 bits, so that the keys of consecutive ids look unlike.

Ids need far fewer than 62 bits. The remaining bits, which are zeros under the key, distinguish bulkseed's keys from
those of an app: a random UUID decodes to one of n ids with probability n / 2**62.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.errors import InputError, RunError
from bulkseed.randomness.draws import Ints, Streams, Words
from bulkseed.randomness.keyed import keyed_words
from bulkseed.sql import SQL, compose

__all__ = ["HIGHEST_ID", "Moments", "Uuids"]

HIGHEST_ID: Final = 2**62 - 1
"""The largest number that the bits after the variant can hold."""

VARIANT: Final = 2**63
SPREAD: Final = 0x2545F4914F6CDD
"""An odd number of 54 bits (the first digits of the multiplier of xorshift64*): 255 times it has at most 62 bits."""

PARTS: Final = (np.uint64(0xFFFFFFFFFFFF0000), np.uint64(0x0FFF))
"""Masks of the first eight octets: the bits before the digit of the version, and those after it."""

OCTETS: Final = pa.binary(16)


@dataclass(frozen=True, slots=True)
class Moments:
    """The times of version-7 keys: ids ``first`` to ``first + count`` are spread evenly from ``start`` to ``end``.

    ``start`` and ``end`` are microseconds since 1970.
    """

    first: int
    count: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Uuids:
    """The keys of one table's rows: of version 7 if ``moments`` gives the times of the rows, else of version 4.

    Raises InputError for times before 1970, which version 7 cannot express.
    """

    streams: Streams
    table: str
    moments: Moments | None = None

    def __post_init__(self) -> None:
        if self.moments is not None and self.moments.start < 0:
            raise InputError(
                f"UUIDs of version 7 begin in 1970, and rows of {self.table} are older: "
                "use version 4, or give a later --as-of",
                code="uuid-before-1970",
            )

    @property
    def version(self) -> Literal[4, 7]:
        """The version in the form of the keys."""
        return 4 if self.moments is None else 7

    def octets(self, ids: pa.Array) -> pa.Array:
        """Return the keys of ``ids`` (int64, in any order): fixed-size binary of 16 octets, null where the id is null.

        Raises RunError for an id that is negative or above HIGHEST_ID.
        """
        numbers = np.asarray(ids.fill_null(0) if ids.null_count else ids)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() <= HIGHEST_ID:
            wrong = int(next(end for end in (numbers.min(), numbers.max()) if not 0 <= end <= HIGHEST_ID))
            raise RunError(
                f"the id {wrong} of {self.table} makes no UUID: give ids from 0 to {HIGHEST_ID}",
                code="id-out-of-range",
            )
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
        keys = pa.Array.from_buffers(OCTETS, len(numbers), [None, pa.py_buffer(pairs)])
        return pc.if_else(ids.is_valid(), keys, pa.scalar(None, OCTETS)) if ids.null_count else keys

    def decoded(self, expression: SQL) -> SQL:
        """Return SQL for the id of a key: a bigint, null where ``expression``, of type uuid, is null.

        Any other UUID gives some other number, and no error.
        """
        # uuid_send returns the octets; PostgreSQL casts bytea to bigint from version 18 on only, and bit in all
        return compose(
            "(('x' || encode(substr(uuid_send({key}), 9), 'hex'))::bit(64)::bigint"
            " # (get_byte(uuid_send({key}), 7) * {spread}::bigint) # {mask}::bigint)",
            key=expression,
            spread=SPREAD,
            mask=self.mask - 2**64,  # the highest bit, that of the variant, makes a bigint negative
        )

    @property
    def mask(self) -> int:
        """The mask of the last eight octets: the key of the run and table, and the bits of the variant."""
        return self.streams.key(self.table, "id.uuid.mask") % 2**62 | VARIANT

    def random(self, numbers: Ints) -> Words:
        # ids come in any order, for which a counter-based stream would have to be set each time
        return keyed_words(self.streams.key(self.table, "id.uuid.random"), numbers)


def milliseconds(numbers: Ints, moments: Moments) -> Words:
    start, end = moments.start // 1000, moments.end // 1000
    # every machine rounds each step alike, and the order of two ids is kept
    share = np.clip((numbers - moments.first) / max(moments.count, 1), 0.0, 1.0)
    return (start + (share * (end - start)).astype(np.int64)).view(np.uint64)
