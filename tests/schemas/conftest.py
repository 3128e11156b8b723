"""The number of generated schemas (``--schemas``), and their seed."""

from __future__ import annotations

import random

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("schemas", "generated schemas (python -m pytest tests/schemas --schemas 200 -n 0 -s)")
    group.addoption("--schemas", type=int, default=None, help="number of generated schemas")
    group.addoption("--schemas-seed", type=int, default=None, help="seed of the schemas (random, and printed)")


def pytest_configure(config: pytest.Config) -> None:
    """Choose a seed, before pytest-xdist gives the options to its processes."""
    if config.option.schemas_seed is None:
        config.option.schemas_seed = 0 if config.option.schemas is None else random.randrange(10**6)
