"""Values of any Faker method: a pool of them made once, as a call takes some 10 to 100 µs.

With ``faker_corpus.py`` the only modules that import Faker.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from bulkseed.errors import InputError
from bulkseed.imports import imported
from bulkseed.plan.plan import EPOCH
from bulkseed.randomness.streams import Streams
from bulkseed.suggestions import suggestion
from bulkseed.text.faker_clock import stilled

if TYPE_CHECKING:
    from faker import Generator

__all__ = ["MOST_VALUES", "Fakes"]

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
