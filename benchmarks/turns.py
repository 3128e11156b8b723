"""Turns: every contestant once in each round, and each round begins with another of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

__all__ = ["turns"]

Contestant = TypeVar("Contestant")


def turns(contestants: Sequence[Contestant], repeats: int, what: str = "") -> Iterator[Contestant]:
    """``contestants``, ``repeats`` times, each round a place on; stderr says how far it is.

    So what slows the machine for a while slows all, and none always comes right after the same other.
    """
    total = repeats * len(contestants)
    for turn in range(total):
        number, place = divmod(turn, len(contestants))
        contestant = contestants[(place + number) % len(contestants)]
        print(f"{what}{' ' * bool(what)}{turn + 1}/{total}: {named(contestant)}", file=sys.stderr, flush=True)
        yield contestant


def named(contestant: Any) -> str:
    return " ".join(map(str, contestant)) if isinstance(contestant, tuple) else str(contestant)
