"""All that comes from Faker: a locale's corpus, and the values of its methods."""

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
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

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

if TYPE_CHECKING:
    from faker import Generator

__all__ = ["FAKER_VERSION", "MOST_VALUES", "Fakes", "corpus_of", "stilled"]

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


TURN: Final = Lock()
"""The names of a module are one for all threads."""


@contextmanager
def stilled(moment: datetime.datetime, seed: int, others: Iterable[str]) -> Iterator[None]:
    """The modules of Faker, and those named by ``others``, take ``moment`` (naive, UTC) for now, and UTC for here.

    Some of Faker's providers draw from Python's global generator: it has ``seed`` meanwhile, and its state back after.
    """
    replaced = replacements(moment)
    names = {name for name in sys.modules if name.split(".")[0] == "faker"} | set(others)
    with TURN:
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
    """What stands in for ``datetime.datetime``, ``datetime.date`` and the module."""

    class Kind(type):
        """What Python calls a datetime is one, and what it calls a date."""

        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, cls.__mro__[1])

    class StillDatetime(datetime.datetime, metaclass=Kind):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            still = cls.combine(moment.date(), moment.time())
            return still if tz is None else still.astimezone(tz)

        utcnow = now
        today = now

        def astimezone(self, tz: datetime.tzinfo | None = None) -> Any:
            aware = self.replace(tzinfo=datetime.UTC) if self.tzinfo is None else self
            return datetime.datetime.astimezone(aware, tz or datetime.UTC)

    class StillDate(datetime.date, metaclass=Kind):
        @classmethod
        def today(cls) -> Any:
            return cls(moment.year, moment.month, moment.day)

    names = vars(datetime) | {"datetime": StillDatetime, "date": StillDate}
    return {
        datetime.datetime: StillDatetime,
        datetime.date: StillDate,
        datetime: SimpleNamespace(**names),
    }


MOST_VALUES: Final = 100_000
"""Values of a pool: some seconds of Faker's time in each worker."""

UNSTEADY: Final = frozenset({"passport_dates", "zip"})
"""Methods whose values tell the time, or the process, by other ways than those that are held still."""


@dataclass(frozen=True, slots=True)
class Fakes:
    """A run's Faker: its locale, the user's own providers (``module:class``), its seed, and its now (µs since 1970).

    Its values follow from these, a method and its arguments alone.
    """

    locale: str
    seed: int
    as_of: int
    providers: tuple[str, ...] = ()

    def check(self, method: str, arguments: Mapping[str, Any]) -> object:
        """A value of ``method``, made as a trial. Raises InputError for what would not work."""
        known = methods_of(self)
        if method not in known:
            near = suggestion(method, known, "see https://faker.readthedocs.io for its providers")
            raise InputError(f"Faker has no method {method!r} for {self.locale}: {near}")
        if method in UNSTEADY:
            raise InputError(f"Faker's {method} gives other values each time: take another method")
        return self.pool(method, arguments, 1)[0]

    def pool(self, method: str, arguments: Mapping[str, Any], size: int) -> list[Any]:
        """``size`` values of ``method``, some of which may be equal: as often as Faker itself repeats them.

        Raises InputError when Faker raises an error.
        """
        name = f"{method} {json.dumps(arguments, sort_keys=True, default=str)}"
        seed = Streams(self.seed, 0).key("faker", name)
        generator = self.generator()
        generator.seed_instance(seed)
        made = getattr(generator, method)
        now = EPOCH.replace(tzinfo=None) + timedelta(microseconds=self.as_of)
        try:
            with warnings.catch_warnings(), stilled(now, seed, {name.split(":")[0] for name in self.providers}):
                warnings.simplefilter("ignore")  # Faker warns of deprecated methods
                return [made(**arguments) for _ in range(size)]
        except Exception as error:
            raise InputError(
                f"Faker's {method} cannot be called so ({type(error).__name__}: {error}): mend its args"
            ) from error

    def generator(self) -> Generator:
        """A new generator, as some providers remember what they gave."""
        # only here: a worker must start quickly, and Faker takes a tenth of a second; few fields want it
        from faker import Factory  # noqa: PLC0415
        from faker.providers import BaseProvider  # noqa: PLC0415

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Faker warns of deprecated locales
            generator = Factory.create(self.locale.replace("-", "_"))
        for name in self.providers:
            provider = import_object(name, "providers")
            if not (isinstance(provider, type) and issubclass(provider, BaseProvider)):
                raise InputError(f"providers: {name} is not a Faker provider: name a class of BaseProvider's")
            generator.add_provider(provider)
        return generator


@lru_cache(maxsize=4)
def methods_of(fakes: Fakes) -> frozenset[str]:
    """The names of the methods that can be called."""
    return frozenset(
        name
        for provider in fakes.generator().providers
        for name in dir(type(provider))
        if not name.startswith("_") and callable(getattr(provider, name))
    )
