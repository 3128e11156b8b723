"""Parameters: the fields of a dataclass that are numbers within a range, each with what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, TypeVar

from bulkseed.errors import InputError

__all__ = ["check_parameters", "describe_range", "parameter"]

T = TypeVar("T", int, float)


def parameter(default: T, least: float, most: float, description: str) -> T:
    """The field of a dataclass that holds a number from ``least`` to ``most``, both included."""
    found: T = field(default=default, metadata={"least": least, "most": most, "description": description})
    return found


def describe_range(kind: str, metadata: Mapping[str, Any]) -> str:
    """The values that a parameter may have, in words: ``a whole number from 1 to 50``."""
    return f"a {'whole ' if kind == 'int' else ''}number from {metadata['least']} to {metadata['most']}"


def check_parameters(whole: Any, named: str) -> None:
    """Raises InputError, with ``named`` before the parameter's name, for a value outside its range."""
    for each in fields(whole):
        value, kind = getattr(whole, each.name), str(each.type)
        number = isinstance(value, int if kind == "int" else int | float) and not isinstance(value, bool)
        if not number or not each.metadata["least"] <= value <= each.metadata["most"]:
            raise InputError(f"{named} {each.name} is {value!r}: give {describe_range(kind, each.metadata)}")
