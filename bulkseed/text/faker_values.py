"""Values of Faker's methods. They set the clock of Faker's modules, and Python's global random generator.

Only ``bulkseed.faker_process`` may import this, as such a change is seen by all threads of a process.
"""

from __future__ import annotations

import datetime
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType, SimpleNamespace
from typing import Any, Final

from faker import Factory, Generator
from faker.providers import BaseProvider

from bulkseed.errors import InputError, suggestion
from bulkseed.imports import describe_error, import_object

__all__ = ["make_generator", "make_pool"]

UNREPRODUCIBLE: Final = frozenset({"passport_dates", "zip"})
"""Methods whose values depend on the time or the process in spite of :func:`freeze_clock`."""

Answer = tuple[tuple[str, bool, bool], Any]
"""The first value (the name of its type, whether it is a text, whether it is a list or bytes), and the pool."""


def make_pool(
    locale: str,
    providers: tuple[str, ...],
    method: str,
    arguments: Mapping[str, Any],
    seed: int,
    now: datetime.datetime,
    size: int,
) -> Answer:
    """Return ``size`` values of ``method`` as an Arrow array, None for size 0, and a description of the first.

    Raises InputError for a provider that cannot be imported or is not one, a method that is unknown or cannot be
    called, and values that no column can hold.
    """
    known = methods_of(locale, providers)
    if method not in known:
        near = suggestion(method, known, "see https://faker.readthedocs.io for its providers")
        raise InputError(f"Faker has no method {method!r} for {locale}: {near}", code="unknown-faker-method")
    if method in UNREPRODUCIBLE:
        raise InputError(
            f"Faker's {method} gives other values each time: take another method", code="unreproducible-faker-method"
        )
    generator = make_generator(locale, providers)
    generator.seed_instance(seed)
    call = getattr(generator, method)
    try:
        with freeze_clock(now, seed, {provider.split(":")[0] for provider in providers}):
            values = [call(**arguments) for _ in range(max(1, size))]
    except BaseException as error:  # SystemExit too
        is_fakers = type(call.__self__).__module__.split(".")[0] == "faker"
        problem = f"{type(error).__name__}: {error}" if is_fakers else describe_error(error)
        raise InputError(
            f"Faker's {method} cannot be called with these args ({problem}): correct them", code="faker-call-failed"
        ) from error
    first = values[0]
    trial = (type(first).__name__, isinstance(first, str), isinstance(first, list | tuple | bytes))
    return trial, convert(values, method) if size else None


def convert(values: list[Any], method: str) -> Any:
    # only here: a trial needs no pyarrow
    from bulkseed.arrays import ConversionError, array_of  # noqa: PLC0415

    try:
        return array_of(values)
    except ConversionError as error:
        raise InputError(
            f"Faker's {method} returned a value that {error.problem}: use another method", code="unusable-value"
        ) from None


def make_generator(locale: str, providers: tuple[str, ...]) -> Generator:
    """Return a new generator, as some providers remember their earlier values.

    Raises InputError for a provider that cannot be imported, or is not a provider.
    """
    generator = Factory.create(locale)
    for name in providers:
        if name.split(":")[0] == "__main__":
            raise InputError(
                f"providers: {name} is in the program that was started, and providers are imported in another process: "
                "put it into a module, as in myapp.fakes:Provider",
                code="missing-module",
            )
        provider = import_object(name, "providers")
        if not (isinstance(provider, type) and issubclass(provider, BaseProvider)):
            raise InputError(
                f"providers: {name} is not a Faker provider: name a subclass of faker.providers.BaseProvider",
                code="not-a-faker-provider",
            )
        generator.add_provider(provider)
    return generator


@lru_cache(maxsize=4)
def methods_of(locale: str, providers: tuple[str, ...]) -> frozenset[str]:
    """Return the names of the methods that can be called."""
    return frozenset(
        name
        for provider in make_generator(locale, providers).providers
        for name in dir(type(provider))
        if not name.startswith("_") and callable(getattr(provider, name))
    )


@contextmanager
def freeze_clock(moment: datetime.datetime, seed: int, others: Iterable[str]) -> Iterator[None]:
    """Freeze the clock of Faker's modules, and of those named by ``others``, at ``moment`` (naive, UTC) in zone UTC.

    Some of Faker's providers draw from Python's global generator, so it gets ``seed``.
    """
    replaced = replacements(moment)
    names = {name for name in sys.modules if name.split(".")[0] == "faker"} | set(others)
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

    FrozenDatetime.__name__, FrozenDate.__name__ = "datetime", "date"  # as messages show them
    names = vars(datetime) | {"datetime": FrozenDatetime, "date": FrozenDate}
    return {
        datetime.datetime: FrozenDatetime,
        datetime.date: FrozenDate,
        datetime: SimpleNamespace(**names),
    }
