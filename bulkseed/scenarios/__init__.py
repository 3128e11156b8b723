"""Scenarios: what the user wrote becomes a plan; and those that ship."""

from __future__ import annotations

from importlib import resources

__all__ = [
    "planning",
    "shipped",
]


def shipped() -> list[str]:
    """Their names."""
    folder = resources.files("bulkseed") / "scenarios"
    return sorted(each.name.removesuffix(".toml") for each in folder.iterdir() if each.name.endswith(".toml"))
