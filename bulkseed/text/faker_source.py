"""Data from Faker: the corpus of a locale, and values of Faker's methods."""

from __future__ import annotations

import datetime
import difflib
import json
import random
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from functools import lru_cache
from threading import Lock
from types import ModuleType, SimpleNamespace
from typing import Any, Final, TypeVar, cast

from faker import VERSION as FAKER_VERSION
from faker import Factory, Generator
from faker.config import AVAILABLE_LOCALES
from faker.providers import BaseProvider
from faker.providers.company import Provider as CompanyProvider
from faker.providers.lorem import Provider as LoremProvider
from faker.providers.person import Provider as PersonProvider

from bulkseed.errors import InputError, suggestion
from bulkseed.imports import import_object
from bulkseed.plan.plan import EPOCH
from bulkseed.randomness.draws import Streams
from bulkseed.text.names import Corpus, Pattern, Patterns, Pool, WordList, weight_of

__all__ = ["FAKER_VERSION", "MOST_VALUES", "Fakes", "freeze_clock", "make_corpus"]

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


FREEZE_LOCK: Final = Lock()
"""Held while the clock is frozen: all threads share the names of a module."""


@contextmanager
def freeze_clock(moment: datetime.datetime, seed: int, others: Iterable[str]) -> Iterator[None]:
    """Freeze the clock of Faker's modules, and of those named by ``others``, at ``moment`` (naive, UTC) in zone UTC.

    Some of Faker's providers draw from Python's global generator, so it has ``seed`` inside the context, and its
    earlier state again afterwards.
    """
    replaced = replacements(moment)
    names = {name for name in sys.modules if name.split(".")[0] == "faker"} | set(others)
    with FREEZE_LOCK:
        state = random.getstate()
        undo = [
            (module, name, value)
            for module in [sys.modules[name] for name in names]
            for name, value in list(vars(module).items())
            if isinstance(value, type | ModuleType) and value in replaced
        ]
        try:
            random.seed(seed)
            for module, name, value in undo:
                setattr(module, name, replaced[value])
            yield
        finally:
            for module, name, value in undo:
                setattr(module, name, value)
            random.setstate(state)


def replacements(moment: datetime.datetime) -> dict[Any, Any]:
    """Return replacements of ``datetime.datetime``, ``datetime.date`` and the module, with ``moment`` as now."""

    class InstancesOfBase(type):
        """Counts instances of the original class as instances of its frozen subclass."""

        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, cls.__mro__[1])

    class FrozenDatetime(datetime.datetime, metaclass=InstancesOfBase):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            frozen = cls.combine(moment.date(), moment.time())
            return frozen if tz is None else frozen.astimezone(tz)

        utcnow = now
        today = now

        def astimezone(self, tz: datetime.tzinfo | None = None) -> Any:
            aware = self.replace(tzinfo=datetime.UTC) if self.tzinfo is None else self
            return datetime.datetime.astimezone(aware, tz or datetime.UTC)

    class FrozenDate(datetime.date, metaclass=InstancesOfBase):
        @classmethod
        def today(cls) -> Any:
            return cls(moment.year, moment.month, moment.day)

    names = vars(datetime) | {"datetime": FrozenDatetime, "date": FrozenDate}
    return {
        datetime.datetime: FrozenDatetime,
        datetime.date: FrozenDate,
        datetime: SimpleNamespace(**names),
    }


MOST_VALUES: Final = 100_000
"""The most values of a pool: they take Faker some seconds in each worker."""

UNREPRODUCIBLE: Final = frozenset({"passport_dates", "zip"})
"""Methods whose values depend on the time or the process in spite of :func:`freeze_clock`."""


@dataclass(frozen=True, slots=True)
class Fakes:
    """The Faker of a run: locale, seed, now (microseconds since 1970) and the user's providers (``module:class``).

    Values depend on these, a method and its arguments alone.
    """

    locale: str
    seed: int
    as_of: int
    providers: tuple[str, ...] = ()

    def check(self, method: str, arguments: Mapping[str, Any]) -> object:
        """Return a value of ``method``, as a trial. Raises InputError if the method is unknown or cannot be called."""
        known = methods_of(self)
        if method not in known:
            near = suggestion(method, known, "see https://faker.readthedocs.io for its providers")
            raise InputError(f"Faker has no method {method!r} for {self.locale}: {near}", code="unknown-faker-method")
        if method in UNREPRODUCIBLE:
            raise InputError(
                f"Faker's {method} gives other values each time: take another method",
                code="unreproducible-faker-method",
            )
        return self.pool(method, arguments, 1)[0]

    def pool(self, method: str, arguments: Mapping[str, Any], size: int) -> list[Any]:
        """Return ``size`` values of ``method``; they repeat as often as Faker repeats them.

        Raises InputError if Faker raises an error.
        """
        name = f"{method} {json.dumps(arguments, sort_keys=True, default=str)}"
        seed = Streams(self.seed, 0).key("faker", name)
        generator = self.generator()
        generator.seed_instance(seed)
        call = getattr(generator, method)
        now = EPOCH.replace(tzinfo=None) + timedelta(microseconds=self.as_of)
        try:
            with warnings.catch_warnings(), freeze_clock(now, seed, self.modules):
                warnings.simplefilter("ignore")  # Faker warns of deprecated methods
                return [call(**arguments) for _ in range(size)]
        except (Exception, SystemExit) as error:
            raise InputError(
                f"Faker's {method} cannot be called with these args ({type(error).__name__}: {error}): correct them",
                code="faker-call-failed",
            ) from error

    @property
    def modules(self) -> set[str]:
        """The names of the modules of the user's providers."""
        return {provider.split(":")[0] for provider in self.providers}

    def generator(self) -> Generator:
        """Return a new generator, as some providers remember their earlier values.

        Raises InputError for a provider that cannot be imported, or is not a provider.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Faker warns of deprecated locales
            generator = Factory.create(self.locale.replace("-", "_"))
        for name in self.providers:
            provider = import_object(name, "providers")
            if not (isinstance(provider, type) and issubclass(provider, BaseProvider)):
                raise InputError(
                    f"providers: {name} is not a Faker provider: name a subclass of faker.providers.BaseProvider",
                    code="not-a-faker-provider",
                )
            generator.add_provider(provider)
        return generator


@lru_cache(maxsize=4)
def methods_of(fakes: Fakes) -> frozenset[str]:
    """Return the names of the methods that can be called."""
    return frozenset(
        name
        for provider in fakes.generator().providers
        for name in dir(type(provider))
        if not name.startswith("_") and callable(getattr(provider, name))
    )
