"""The shape of a workspace: what its distributions are, by the name that a scenario file gives each."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Shape"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The parameters of a workspace's distributions; the defaults are the rules as they stand in rules.md."""
