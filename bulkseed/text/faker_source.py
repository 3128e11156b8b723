"""The corpus of a locale, from Faker's data."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

from faker import VERSION as FAKER_VERSION
from faker import Factory, Generator
from faker.config import AVAILABLE_LOCALES
from faker.providers import BaseProvider
from faker.providers.company import Provider as CompanyProvider
from faker.providers.lorem import Provider as LoremProvider
from faker.providers.person import Provider as PersonProvider

from bulkseed.errors import InputError
from bulkseed.text.names import Corpus, Pattern, Patterns, Pool, WordList, weight_of

__all__ = ["FAKER_VERSION", "make_corpus"]

TOKEN: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")
SAMPLES: Final = 2000
"""Calls of a method that does not build its value by choosing one element."""

P = TypeVar("P", bound=BaseProvider)


@lru_cache(maxsize=4)
def make_corpus(locale: str) -> Corpus:
    """Return the corpus of ``locale``, which may be written as in Faker (``de_DE``) or with a hyphen.

    Raises InputError for a locale that Faker does not have.
    """
    name = locale.replace("-", "_")
    if name not in AVAILABLE_LOCALES:
        language = [known for known in AVAILABLE_LOCALES if known.split("_")[0] == name.split("_")[0].lower()]
        near = difflib.get_close_matches(name, language, n=3, cutoff=0.0) or difflib.get_close_matches(
            name, AVAILABLE_LOCALES, n=3, cutoff=0.5
        )
        fix = f"did you mean {' or '.join(near)}" if near else "give one such as en_US, de_DE or ja_JP"
        raise InputError(f"Faker has no locale {locale!r}: {fix}", code="unknown-locale")
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
    """Return the patterns of a Faker method, with the tokens in its formats expanded."""
    elements, value = observe_call(provider, method)
    texts = [text for text, _ in elements]
    if not all(isinstance(text, str) for text in texts):
        return (Pattern((pool_of_tuples(elements, value) or sample_pool(provider, method),), Fraction(1)),)
    if any(TOKEN.search(text) for text in texts):
        total = sum(weight for _, weight in elements)
        return tuple(
            Pattern(parts, weight / total * share)
            for text, weight in elements
            for parts, share in expand_tokens(generator, text)
        )
    if value in texts:
        return (Pattern((Pool.of((text, None, weight) for text, weight in elements),), Fraction(1)),)
    return (Pattern((sample_pool(provider, method),), Fraction(1)),)


def expand_tokens(generator: Generator, text: str) -> list[tuple[tuple[str | Pool, ...], Fraction]]:
    """Return the expansions of a format such as ``{{first_name}} {{last_name}}``, each with its share of 1."""
    expansions: list[tuple[tuple[str | Pool, ...], Fraction]] = [((), Fraction(1))]
    for index, piece in enumerate(TOKEN.split(text)):  # literals have even indexes, tokens odd ones
        if index % 2:
            provider = getattr(generator, piece).__self__
            choices = [(pattern.parts, pattern.weight) for pattern in patterns_of(generator, provider, piece)]
        else:
            choices = [((piece,) if piece else (), Fraction(1))]
        expansions = [(parts + more, share * weight) for parts, share in expansions for more, weight in choices]
    return expansions


def observe_call(provider: BaseProvider, method: str) -> tuple[list[tuple[Any, Fraction]], object]:
    """Call a method; return the weighted elements that it chose from, and its value.

    There are no elements if the method chose more than once, or not at all.
    """
    choices: list[Any] = []
    choose = provider.random_element

    def record(elements: Any = ()) -> Any:
        choices.append(elements)
        return choose(elements)

    # set on the instances, for this call only; with str as parse(), the tokens of a format stay as they are
    vars(provider)["random_element"] = record
    vars(provider.generator)["parse"] = str
    try:
        value = getattr(provider, method)()
    finally:
        del vars(provider)["random_element"], vars(provider.generator)["parse"]
    if len(choices) != 1:
        return [], value
    elements = choices[0]
    pairs = elements.items() if isinstance(elements, Mapping) else ((element, 1) for element in elements)
    return [(element, weight_of(weight)) for element, weight in pairs], value


def pool_of_tuples(elements: list[tuple[Any, Fraction]], value: object) -> Pool | None:
    """Return a pool from elements such as ja_JP's (kanji, kana, romanised); None if none of them contains ``value``."""
    for element, _ in elements:
        if isinstance(element, tuple) and value in element:
            index = element.index(value)
            return Pool.of((item[index], item[-1] if item[-1].isascii() else None, weight) for item, weight in elements)
    return None


def sample_pool(provider: BaseProvider, method: str) -> Pool:
    """Return a pool from repeated calls of a method that builds its value by code of its own."""
    counts = Counter(str(getattr(provider, method)()) for _ in range(SAMPLES))
    return Pool.of((text, None, count) for text, count in sorted(counts.items()))
