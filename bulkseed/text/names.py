"""A locale's names, companies and word list as plain data, and columns of names made of them. No Faker."""

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
    "named",
    "scalar",
    "slug_of",
    "weight_of",
]

SLUG_CHARACTERS: Final = 40
"""An e-mail address keeps no more than that of a name."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Elements that a place in a pattern is filled from: texts, their ASCII forms, and their weights."""

    texts: tuple[str, ...]
    slugs: tuple[str, ...]
    weights: tuple[Fraction, ...]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str | None, Fraction | int]]) -> Pool:
        """A pool of (text, romanised form where Faker has one, weight)."""
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
    """One way to put a name together, such as ``Dr. {first name} {last name}``: literals and pools in turn."""

    parts: tuple[str | Pool, ...]
    weight: Fraction


@dataclass(frozen=True, eq=False)
class Patterns:
    """All the ways of one Faker method to put a value together."""

    patterns: tuple[Pattern, ...]

    def slugs(self, text: str) -> set[str]:
        """The ASCII forms of ``text``, one for each way to read it by a pattern; empty if it is not one of ours."""
        return {slug for pattern in self.patterns for slug in readings(text, pattern.parts)}


@dataclass(frozen=True, slots=True)
class WordList:
    """The lorem word list of a locale, and how it makes sentences of words (``Faker.sentence``)."""

    words: tuple[str, ...]
    connector: str
    full_stop: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """All that is taken from Faker for one locale."""

    locale: str
    person: Patterns
    company: Patterns
    lorem: WordList


weight_of = lru_cache(maxsize=2**16)(Fraction)
"""A weight as Faker has it, exactly; most are the same few."""


@lru_cache(maxsize=2**16)  # a method's elements are in as many patterns as name it
def slug_of(text: str) -> str:
    """``text`` in lower-case ASCII letters with dots between words: ``Dr. Zoë Müller`` is ``dr.zoe.muller``."""
    return ".".join(re.findall("[a-z]+", anyascii(text).lower()))


def readings(text: str, parts: Sequence[str | Pool]) -> Iterator[str]:
    if not parts:
        if not text:
            yield ""
        return
    part, rest = parts[0], parts[1:]
    known = {part: slug_of(part)} if isinstance(part, str) else part.slug_by_text
    for length in range(len(text) + 1):
        slug = known.get(text[:length])
        if slug is not None:
            for tail in readings(text[length:], rest):
                yield ".".join(filter(None, (slug, tail)))


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
