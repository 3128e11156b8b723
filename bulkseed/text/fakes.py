"""Values of Faker's methods, made in a process of bulkseed's own.

The clock of Faker's modules and Python's global random generator must be set for the values to repeat, and the threads
of a program that uses bulkseed would see that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import pyarrow as pa

from bulkseed.errors import InputError
from bulkseed.plan.plan import EPOCH
from bulkseed.processes import AnsweringProcess, ProcessEndedError
from bulkseed.randomness.draws import Streams

__all__ = ["MOST_VALUES", "Fakes", "Pool", "Trial", "share_faker"]

MOST_VALUES: Final = 100_000
"""The most values of a pool: they take Faker some seconds."""

SHARED: Final[ContextVar[AnsweringProcess | None]] = ContextVar("SHARED", default=None)


@contextmanager
def share_faker() -> Iterator[AnsweringProcess]:
    """Let all values that are made within the block come from one process, which ends with the block.

    Values made elsewhere have a process each. The process is started by the first of them.
    """
    if (outer := SHARED.get()) is not None:
        yield outer
        return
    process = AnsweringProcess("bulkseed.faker_process")
    token = SHARED.set(process)
    try:
        yield process
    finally:
        SHARED.reset(token)
        process.close()


@dataclass(frozen=True, slots=True)
class Trial:
    """The first value of a method: the name of its type, and whether it is a text, or a list or bytes."""

    type_name: str
    is_text: bool
    is_list: bool


@dataclass(frozen=True, slots=True)
class Pool:
    """Values of a method, and their first as a trial."""

    trial: Trial
    values: pa.Array


@dataclass(frozen=True, slots=True)
class Fakes:
    """The Faker of a run: locale, seed, now (microseconds since 1970) and the user's providers (``module:class``).

    Values depend on these, a method and its arguments alone.
    """

    locale: str
    seed: int
    as_of: int
    providers: tuple[str, ...] = ()

    def check_providers(self) -> None:
        """Raise InputError for a provider that cannot be imported, or is not one."""
        self.ask({"locale": self.faker_locale, "providers": self.providers}, "imported the providers")

    def check(self, method: str, arguments: Mapping[str, Any]) -> Trial:
        """Return the first value of ``method``, as a trial.

        Raises InputError if the method is unknown or cannot be called, and for wrong providers.
        """
        return self.make(method, arguments, 0).trial

    def pool(self, method: str, arguments: Mapping[str, Any], size: int) -> Pool:
        """Return ``size`` values of ``method``; they repeat as often as Faker repeats them.

        Raises the errors of :meth:`check`, and InputError for values that no column can hold.
        """
        return self.make(method, arguments, size)

    def make(self, method: str, arguments: Mapping[str, Any], size: int) -> Pool:
        name = f"{method} {json.dumps(arguments, sort_keys=True, default=str)}"
        request = {
            "locale": self.faker_locale,
            "providers": self.providers,
            "method": method,
            "arguments": dict(arguments),
            "seed": Streams(self.seed, 0).key("faker", name),
            "now": EPOCH.replace(tzinfo=None) + timedelta(microseconds=self.as_of),
            "size": size,
        }
        trial, values = self.ask(request, f"called Faker's {method}")
        return Pool(Trial(*trial), values)

    @property
    def faker_locale(self) -> str:
        """The locale in the form of Faker."""
        return self.locale.replace("-", "_")

    def ask(self, request: Mapping[str, Any], doing: str) -> Any:
        """Return the answer of the process to ``request``. Raises InputError if it ends while ``doing`` that."""
        try:
            with share_faker() as process:
                answer = process.ask(request)
        except OSError as error:
            raise InputError(
                f"no process can be started for Faker's values ({error.strerror or error}): free some memory, and "
                "check that sys.executable is a Python interpreter",
                code="no-faker-process",
            ) from error
        except ProcessEndedError as error:
            raise InputError(
                f"the process that {doing} {error}: correct the provider, or take another method",
                code="faker-process-ended",
            ) from error
        if isinstance(answer, InputError):
            raise answer
        return answer
