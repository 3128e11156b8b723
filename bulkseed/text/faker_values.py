"""Faker with a still clock: its methods ask for now and today in many places, and must always hear the same.

Only for as long as a pool of values is made; no module but Faker's, and those of custom providers, is touched.
"""

from __future__ import annotations

import datetime
import json
import random
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from threading import Lock
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from bulkseed.errors import InputError, suggestion
from bulkseed.imports import imported
from bulkseed.plan.plan import EPOCH
from bulkseed.randomness.draws import Streams

if TYPE_CHECKING:
    from faker import Generator

__all__ = ["MOST_VALUES", "Fakes", "stilled"]

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
            provider = imported(name, "providers")
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
