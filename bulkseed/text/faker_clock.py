"""Faker with a still clock: its methods ask for now and today in many places, and must always hear the same.

Only for as long as a pool of values is made; no module but Faker's, and those of custom providers, is touched.
"""

from __future__ import annotations

import datetime
import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from types import ModuleType, SimpleNamespace
from typing import Any, Final

__all__ = ["stilled"]

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
