"""What is known of a locale: name and company patterns, and the word list of its texts. Plain data, no Faker."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Final

from anyascii import anyascii

__all__ = ["SLUG_CHARACTERS", "Corpus", "Pattern", "Patterns", "Pool", "WordList", "slug_of", "weight_of"]

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
