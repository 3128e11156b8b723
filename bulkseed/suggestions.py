"""What was meant by a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

__all__ = ["suggestion"]

NEAR: Final = 0.7
"""Of 1: the least likeness of a name that is offered."""


def suggestion(name: str, known: Iterable[str], otherwise: str) -> str:
    """``did you mean … or …`` for the known names that are near, else ``otherwise``: the end of an error's sentence."""
    near = get_close_matches(name, list(known), cutoff=NEAR)
    return f"did you mean {' or '.join(near)}" if near else otherwise
