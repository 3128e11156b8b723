"""What Faker knows of a locale, taken out once: name and company patterns, and the word list.

Calling ``Faker.name()`` costs some 95 µs; here each method is asked once
which elements it chooses from, and the choice itself is left to vectorised draws.
"""

from __future__ import annotations

import difflib
import re
import warnings
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

__all__ = ["FAKER_VERSION", "corpus_of"]

TOKEN: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")
SAMPLES: Final = 2000
"""How often a method is called that builds its value otherwise than by choosing an element."""

P = TypeVar("P", bound=BaseProvider)


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
    return [(each, weight_of(weight)) for each, weight in pairs], value


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
