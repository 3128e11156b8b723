"""Turns: each contestant runs once per round, and each round begins with another one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

__all__ = ["turns"]

Contestant = TypeVar("Contestant")


def turns(contestants: Sequence[Contestant], repeats: int) -> Iterator[Contestant]:
    """Yield ``contestants`` in ``repeats`` rounds, each rotated by one more place; print the progress on stderr.

    A slow period of the machine thus affects all of them, and none always runs after the same other one.
    """
    total = repeats * len(contestants)
    for turn in range(total):
        number, index = divmod(turn, len(contestants))
        contestant = contestants[(index + number) % len(contestants)]
        print(f"{turn + 1}/{total}: {name_of(contestant)}", file=sys.stderr, flush=True)
        yield contestant


def name_of(contestant: Any) -> str:
    return " ".join(map(str, contestant)) if isinstance(contestant, tuple) else str(contestant)
