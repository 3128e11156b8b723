"""Scenarios: the shipped ones, the user's files, and the plans made from them."""

from __future__ import annotations

from importlib import resources

__all__ = [
    "planning",
    "shipped",
]


def shipped() -> list[str]:
    """Return the names of the shipped scenarios, sorted."""
    folder = resources.files("bulkseed") / "scenarios"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))
