"""Counter-based random streams: any word of any column, by its row alone.

Every column of every table draws from a Philox4x64 stream of its own, keyed by a hash of the generator's
version, the seed, the run's first user id, the table and the column. Word ``i`` of a stream is reached by
setting the counter, so it does not matter which shard, batch or worker asks for it, nor in what order.
Only raw words are taken from NumPy, whose output for them is stable; its distributions are not promised
to stay the same between releases (https://numpy.org/doc/stable/reference/random/compatibility.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["GENERATOR_VERSION", "Streams", "Words"]

GENERATOR_VERSION: Final = 1
"""Goes up whenever a change makes other rows of the same plan and placement."""

WORDS_PER_COUNT: Final = 4
"""Philox4x64 makes four words from one value of its counter."""

NEAR: Final = 512
"""Drawing so many words that nobody asked for costs less than setting the counter again."""

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Streams:
    """The random streams of one run.

    ``first_user`` is the run's first user id: no two runs into one target share it, so a second run
    with the same seed has other names, texts and UUIDs than the first.
    """

    seed: int
    first_user: int

    def words(self, table: str, column: str, start: int, count: int) -> Words:
        """Words ``start`` to ``start + count`` of the column's stream: uint64, shape ``(count,)``."""
        counter, skipped = divmod(start, WORDS_PER_COUNT)
        philox = np.random.Philox(key=self.key(table, column), counter=counter)
        return philox.random_raw(skipped + count)[skipped:]

    def words_at(self, table: str, column: str, rows: npt.NDArray[np.int64]) -> Words:
        """The words at ``rows``, which ascend, of the column's stream: uint64, of the shape of ``rows``."""
        philox = np.random.Philox(key=self.key(table, column))
        state = philox.state
        found = []
        for near in np.split(rows, np.flatnonzero(np.diff(rows) > NEAR) + 1):
            counter, skipped = divmod(int(near[0]), WORDS_PER_COUNT)
            # as for a new generator with this counter, at a sixth of its price
            state["state"]["counter"][0] = counter
            state["buffer_pos"] = WORDS_PER_COUNT
            philox.state = state
            wanted = near - near[0] + skipped
            found.append(philox.random_raw(int(wanted[-1]) + 1)[wanted])
        return np.concatenate(found)

    def key(self, table: str, column: str) -> int:
        """The 128-bit key of the column's stream."""
        digest = blake2b(digest_size=16)
        for part in ("bulkseed", str(GENERATOR_VERSION), str(self.seed), str(self.first_user), table, column):
            # length-prefixed, so that no two lists of parts make the same bytes
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        return int.from_bytes(digest.digest(), "little")
