"""What a scenario file says of a field, as JSON can keep it: TOML's dates and times are what JSON lacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from typing import Any, Final

from bulkseed.errors import InputError

__all__ = ["normalised", "revived"]

READERS: Final[dict[str, Callable[[str], object]]] = {
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
}


def normalised(given: object, where: str) -> Any:
    """``given`` with each date or time as an object of one key: ``{"$date": "2026-06-01"}``, ``$datetime``, ``$time``.

    Of what JSON knows it makes the same again. Raises InputError, naming ``where``, for what neither TOML nor JSON has.
    """
    match given:
        case None | bool() | str():
            return given
        case int():
            if not -(2**63) <= given < 2**63:
                raise InputError(f"{where}: {given} does not fit into 64 bits: give a smaller number, or a text")
            return given
        case float():
            if not math.isfinite(given):
                raise InputError(f"{where}: {given} is not a finite number: give another")
            return given
        case datetime():
            return {"$datetime": given.isoformat()}
        case date():
            return {"$date": given.isoformat()}
        case time():
            return {"$time": given.isoformat()}
        case Mapping():
            return {str(key): normalised(value, where) for key, value in given.items()}
        case list() | tuple():
            return [normalised(value, where) for value in given]
    raise InputError(
        f"{where}: a value of the type {type(given).__name__} cannot be kept with the run: give text, numbers, dates, "
        "times, lists or tables"
    )


def revived(given: object, where: str) -> Any:
    """What :func:`normalised` was given; dates and times that were not normalised stay as they are.

    Raises InputError, naming ``where``, for an object such as ``$date`` that holds none.
    """
    if isinstance(given, Mapping):
        [*keys] = given
        if len(keys) == 1 and keys[0] in READERS:
            try:
                return READERS[keys[0]](given[keys[0]])
            except (TypeError, ValueError):
                raise InputError(f"{where}: {given[keys[0]]!r} is not a {keys[0][1:]}: write it in ISO 8601") from None
        return {key: revived(value, where) for key, value in given.items()}
    if isinstance(given, list | tuple):
        return [revived(value, where) for value in given]
    return given
