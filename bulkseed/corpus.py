"""What Faker knows of a locale, taken out once: name and company patterns, and the word list.

The only module that imports Faker. Calling ``Faker.name()`` costs some 95 µs; here each method is asked once
which elements it chooses from, and the choice itself is left to vectorised draws.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any, Final, TypeVar, cast

from anyascii import anyascii
from faker import VERSION as FAKER_VERSION
from faker import Factory, Generator
from faker.config import AVAILABLE_LOCALES
from faker.providers import BaseProvider
from faker.providers.company import Provider as CompanyProvider
from faker.providers.lorem import Provider as LoremProvider
from faker.providers.person import Provider as PersonProvider

from bulkseed.errors import InputError

__all__ = ["FAKER_VERSION", "Corpus", "Pattern", "Pool", "WordList", "corpus_of"]

TOKEN: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")
SAMPLES: Final = 2000
"""How often a method is called that builds its value otherwise than by choosing an element."""

P = TypeVar("P", bound=BaseProvider)


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
            tuple(Fraction(weight) for _, _, weight in items),
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


@lru_cache(maxsize=4)
def corpus_of(locale: str) -> Corpus:
    """The corpus of ``locale``, written as Faker does (``de_DE``) or with a hyphen.

    Raises InputError for a locale that Faker does not have.
    """
    name = locale.replace("-", "_")
    if name not in AVAILABLE_LOCALES:
        language = [each for each in AVAILABLE_LOCALES if each.split("_")[0] == name.split("_")[0].lower()]
        near = difflib.get_close_matches(name, language, n=3, cutoff=0.0) or difflib.get_close_matches(
            name, AVAILABLE_LOCALES, n=3, cutoff=0.5
        )
        mend = f"did you mean {' or '.join(near)}" if near else "take one such as en_US, de_DE or ja_JP"
        raise InputError(f"Faker has no locale {locale!r}: {mend}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Faker warns of deprecated locales
        generator = Factory.create(name)
    generator.seed_instance(0)
    lorem = provider_of(generator, LoremProvider)
    return Corpus(
        name,
        Patterns(patterns_of(generator, provider_of(generator, PersonProvider), "name")),
        Patterns(patterns_of(generator, provider_of(generator, CompanyProvider), "company")),
        WordList(
            tuple(cast("Any", lorem).word_list),
            lorem.word_connector,
            lorem.sentence_punctuation,
        ),
    )


def provider_of(generator: Generator, kind: type[P]) -> P:
    return next(provider for provider in generator.providers if isinstance(provider, kind))


def patterns_of(generator: Generator, provider: BaseProvider, method: str) -> tuple[Pattern, ...]:
    """The patterns of a Faker method, those that its own tokens expand to included."""
    elements, value = observed(provider, method)
    texts = [text for text, _ in elements]
    if not all(isinstance(text, str) for text in texts):
        return (Pattern((pool_of_tuples(elements, value) or sampled(provider, method),), Fraction(1)),)
    if any(TOKEN.search(text) for text in texts):
        total = sum(weight for _, weight in elements)
        return tuple(
            Pattern(parts, weight / total * chance)
            for text, weight in elements
            for parts, chance in expanded(generator, text)
        )
    if value in texts:
        return (Pattern((Pool.of((text, None, weight) for text, weight in elements),), Fraction(1)),)
    return (Pattern((sampled(provider, method),), Fraction(1)),)


def expanded(generator: Generator, text: str) -> list[tuple[tuple[str | Pool, ...], Fraction]]:
    """The parts of a format such as ``{{first_name}} {{last_name}}``, for each way that its tokens expand."""
    ways: list[tuple[tuple[str | Pool, ...], Fraction]] = [((), Fraction(1))]
    for place, piece in enumerate(TOKEN.split(text)):  # literals at even places, tokens at odd ones
        if place % 2:
            provider = getattr(generator, piece).__self__
            choices = [(each.parts, each.weight) for each in patterns_of(generator, provider, piece)]
        else:
            choices = [((piece,) if piece else (), Fraction(1))]
        ways = [(parts + more, chance * weight) for parts, chance in ways for more, weight in choices]
    return ways


def observed(provider: BaseProvider, method: str) -> tuple[list[tuple[Any, Fraction]], object]:
    """The weighted elements that one call of a method chose from, and what it returned.

    No elements where it chose more than once, or not at all.
    """
    seen: list[Any] = []
    choose = provider.random_element

    def recorded(elements: Any = ()) -> Any:
        seen.append(elements)
        return choose(elements)

    # set on the instances, for this call only; parse() leaves a format's tokens alone
    vars(provider)["random_element"] = recorded
    vars(provider.generator)["parse"] = str
    try:
        value = getattr(provider, method)()
    finally:
        del vars(provider)["random_element"], vars(provider.generator)["parse"]
    if len(seen) != 1:
        return [], value
    elements = seen[0]
    pairs = elements.items() if isinstance(elements, Mapping) else ((each, 1) for each in elements)
    return [(each, Fraction(weight)) for each, weight in pairs], value


def pool_of_tuples(elements: list[tuple[Any, Fraction]], value: object) -> Pool | None:
    """A pool from elements such as ja_JP's (kanji, kana, romanised); None where ``value`` is in none of them."""
    for each, _ in elements:
        if isinstance(each, tuple) and value in each:
            at = each.index(value)
            return Pool.of((item[at], item[-1] if item[-1].isascii() else None, weight) for item, weight in elements)
    return None


def sampled(provider: BaseProvider, method: str) -> Pool:
    """A pool from repeated calls: for methods that build their value by code of their own."""
    found = Counter(str(getattr(provider, method)()) for _ in range(SAMPLES))
    return Pool.of((text, None, count) for text, count in sorted(found.items()))
