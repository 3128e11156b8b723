"""A locale's names, companies and word list as plain data, and columns of names drawn from them. No Faker."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property, lru_cache
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from anyascii import anyascii

from bulkseed.randomness.draws import Ints, Streams, Words, thresholds_of, weighted

__all__ = [
    "SLUG_CHARACTERS",
    "Corpus",
    "Pattern",
    "Patterns",
    "Pool",
    "WordList",
    "draw_names",
    "scalar",
    "slug_of",
    "weight_of",
]

SLUG_CHARACTERS: Final = 40
"""The most characters of a name in an e-mail address."""


@dataclass(frozen=True, eq=False)
class Pool:
    """The elements that fill a slot of a pattern: texts, their ASCII forms and their weights."""

    texts: tuple[str, ...]
    slugs: tuple[str, ...]
    weights: tuple[Fraction, ...]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str | None, Fraction | int]]) -> Pool:
        """Return a pool of triples: text, romanised form if Faker has one, weight."""
        items = list(pairs)
        return cls(
            tuple(text for text, _, _ in items),
            tuple(slug_of(romanised or text) for text, romanised, _ in items),
            tuple(weight_of(weight) for _, _, weight in items),
        )

    @cached_property
    def slug_by_text(self) -> dict[str, str]:
        """The ASCII form of each text."""
        return dict(zip(self.texts, self.slugs, strict=True))


@dataclass(frozen=True, slots=True)
class Pattern:
    """The parts of a name in order, literals and pools, such as ``Dr. {first name} {last name}``."""

    parts: tuple[str | Pool, ...]
    weight: Fraction


@dataclass(frozen=True, eq=False)
class Patterns:
    """All patterns of one Faker method."""

    patterns: tuple[Pattern, ...]

    def slugs(self, text: str) -> set[str]:
        """Return the ASCII forms of ``text``, one for each way to parse it; empty if no pattern matches it."""
        return {slug for pattern in self.patterns for slug in parse_slugs(text, pattern.parts)}


@dataclass(frozen=True, slots=True)
class WordList:
    """The lorem word list of a locale, and what separates and ends its sentences (``Faker.sentence``)."""

    words: tuple[str, ...]
    connector: str
    full_stop: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """The data from Faker for one locale."""

    locale: str
    person: Patterns
    company: Patterns
    lorem: WordList


weight_of = lru_cache(maxsize=2**16)(Fraction)
"""The exact value of a weight in Faker. Cached, as most weights are the same few numbers."""


@lru_cache(maxsize=2**16)  # the elements of a method are in every pattern that names it
def slug_of(text: str) -> str:
    """Return ``text`` in lower-case ASCII letters with dots between words: ``dr.zoe.muller`` for ``Dr. Zoë Müller``."""
    return ".".join(re.findall("[a-z]+", anyascii(text).lower()))


def parse_slugs(text: str, parts: Sequence[str | Pool]) -> Iterator[str]:
    if not parts:
        if not text:
            yield ""
        return
    part, rest = parts[0], parts[1:]
    known = {part: slug_of(part)} if isinstance(part, str) else part.slug_by_text
    for length in range(len(text) + 1):
        slug = known.get(text[:length])
        if slug is not None:
            for tail in parse_slugs(text[length:], rest):
                yield ".".join(filter(None, (slug, tail)))


def draw_names(
    patterns: Patterns, streams: Streams, table: str, column: str, rows: Ints
) -> tuple[pa.StringArray, pa.StringArray]:
    """Return names for ``rows`` (in ascending order) by the patterns of a Faker method, and their slugs.

    Two string arrays of the length of ``rows``: the names as ``Faker.name()`` writes them, and their ASCII forms.
    """
    chosen = weighted(streams.words_at(table, column, rows), pattern_thresholds(patterns))
    slots = max(pools_in(pattern) for pattern in patterns.patterns)
    bits = [streams.words_at(table, f"{column}.{slot}", rows) for slot in range(slots)]
    texts, slugs, order = [], [], []
    for number, pattern in enumerate(patterns.patterns):
        indexes = np.flatnonzero(chosen == number)
        if indexes.size:
            text, slug = fill_pattern(pattern, [slot_bits[indexes] for slot_bits in bits])
            texts.append(text)
            slugs.append(slug)
            order.append(indexes)
    to_rows = pa.array(np.argsort(np.concatenate(order)))
    return pa.concat_arrays(texts).take(to_rows), pa.concat_arrays(slugs).take(to_rows)


def pools_in(pattern: Pattern) -> int:
    return sum(isinstance(part, Pool) for part in pattern.parts)


def fill_pattern(pattern: Pattern, bits: list[Words]) -> tuple[pa.StringArray, pa.StringArray]:
    count = len(bits[0])
    texts: list[pa.StringArray | str] = []
    slugs: list[pa.StringArray | str] = []
    slot = 0
    for part in pattern.parts:
        if isinstance(part, str):
            texts.append(part)
            slugs.append(slug_of(part))
        else:
            pool_texts, pool_slugs, thresholds = pool_arrays(part)
            picked = pa.array(weighted(bits[slot], thresholds))
            texts.append(pool_texts.take(picked))
            slugs.append(pool_slugs.take(picked))
            slot += 1
    dotted = [part for part in slugs if not isinstance(part, str) or part]
    return join_parts(texts, "", count), collapse_dots(join_parts(dotted, ".", count))


def join_parts(parts: list[pa.StringArray | str], separator: str, count: int) -> pa.StringArray:
    arrays = [pa.repeat(scalar(part), count) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*arrays, scalar(separator))


def collapse_dots(slugs: pa.StringArray) -> pa.StringArray:
    # the slug of an element without Latin letters is empty, which leaves two dots side by side
    return pc.utf8_trim(pc.replace_substring_regex(slugs, r"\.\.+", "."), ".")


@cache
def scalar(text: str) -> pa.StringScalar:
    """Return ``text`` as a scalar of Arrow. Cached, as creating one takes 50 µs where dateutil is not installed."""
    return pa.scalar(text, pa.string())


@cache
def pool_arrays(pool: Pool) -> tuple[pa.StringArray, pa.StringArray, Words]:
    return pa.array(pool.texts, pa.string()), pa.array(pool.slugs, pa.string()), thresholds_of(list(pool.weights))


@cache
def pattern_thresholds(patterns: Patterns) -> Words:
    return thresholds_of([pattern.weight for pattern in patterns.patterns])
