"""Names and companies for whole columns, put together from the patterns of a corpus."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.randomness.draws import Ints, thresholds_of, weighted
from bulkseed.randomness.streams import Streams, Words
from bulkseed.text.corpus import Pattern, Patterns, Pool, slug_of

__all__ = ["named", "scalar"]


def named(
    patterns: Patterns, streams: Streams, table: str, column: str, rows: Ints
) -> tuple[pa.StringArray, pa.StringArray]:
    """Values of a Faker pattern for ``rows`` (ascending), and their slugs for addresses.

    Two string arrays of the length of ``rows``: as ``Faker.name()`` would write it, and in ASCII letters and dots.
    """
    chosen = weighted(streams.words_at(table, column, rows), pattern_thresholds(patterns))
    slots = max(pools_in(pattern) for pattern in patterns.patterns)
    words = [streams.words_at(table, f"{column}.{slot}", rows) for slot in range(slots)]
    texts, slugs, order = [], [], []
    for number, pattern in enumerate(patterns.patterns):
        places = np.flatnonzero(chosen == number)
        if places.size:
            text, slug = filled(pattern, [each[places] for each in words])
            texts.append(text)
            slugs.append(slug)
            order.append(places)
    back = pa.array(np.argsort(np.concatenate(order)))
    return pa.concat_arrays(texts).take(back), pa.concat_arrays(slugs).take(back)


def pools_in(pattern: Pattern) -> int:
    return sum(isinstance(part, Pool) for part in pattern.parts)


def filled(pattern: Pattern, words: list[Words]) -> tuple[pa.StringArray, pa.StringArray]:
    count = len(words[0])
    texts: list[pa.StringArray | str] = []
    slugs: list[pa.StringArray | str] = []
    slot = 0
    for part in pattern.parts:
        if isinstance(part, str):
            texts.append(part)
            slugs.append(slug_of(part))
        else:
            pool_texts, pool_slugs, thresholds = pool_arrays(part)
            picked = pa.array(weighted(words[slot], thresholds))
            texts.append(pool_texts.take(picked))
            slugs.append(pool_slugs.take(picked))
            slot += 1
    dotted = [part for part in slugs if not isinstance(part, str) or part]
    return joined(texts, "", count), trimmed(joined(dotted, ".", count))


def joined(parts: list[pa.StringArray | str], separator: str, count: int) -> pa.StringArray:
    arrays = [pa.repeat(scalar(part), count) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*arrays, scalar(separator))


def trimmed(slugs: pa.StringArray) -> pa.StringArray:
    # an element without a Latin letter leaves an empty place between two dots
    return pc.utf8_trim(pc.replace_substring_regex(slugs, r"\.\.+", "."), ".")


@cache
def scalar(text: str) -> pa.StringScalar:
    """``text`` for Arrow's functions; making one takes pyarrow 50 µs where dateutil is not installed."""
    return pa.scalar(text, pa.string())


@cache
def pool_arrays(pool: Pool) -> tuple[pa.StringArray, pa.StringArray, Words]:
    return pa.array(pool.texts, pa.string()), pa.array(pool.slugs, pa.string()), thresholds_of(list(pool.weights))


@cache
def pattern_thresholds(patterns: Patterns) -> Words:
    return thresholds_of([pattern.weight for pattern in patterns.patterns])
