"""Rounds of chaos: their number (``--chaos-rounds``), their server, and a summary of the moments that they hit."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from chaos.own_server import OwnServer, own_server
from chaos.world import World
from support.hits import HIT, Hit
from support.server_homes import home_for

SHORT: Final = {"kill": 3, "restart": 1, "cut": 1, "commit": 1, "cleanup": 1, "hole": 1}
"""The number of rounds of each kind in a normal run."""
LONG: Final = {"kill": 1.0, "restart": 0.25, "cut": 0.25, "commit": 0.25, "cleanup": 0.1, "hole": 0.1}
"""The number of rounds of each kind per round of ``--chaos-rounds``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos", "chaos (python -m pytest tests/chaos --chaos-rounds 200 -n 2)")
    group.addoption(
        "--chaos-rounds", type=int, default=None, help="number of kills; restarts and cuts are a quarter of it"
    )
    group.addoption("--chaos-seed", type=int, default=1, help="seed of the rounds (1)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each round a number, which determines its random choices."""
    marker = metafunc.definition.get_closest_marker("rounds")
    if marker is None:
        return
    kind: str = marker.args[0]
    asked: int | None = metafunc.config.getoption("--chaos-rounds", None)
    count = SHORT[kind] if asked is None else max(1, round(asked * LONG[kind]))
    metafunc.parametrize("number", range(count))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rounds(kind): run as many times as --chaos-rounds says")
    config.addinivalue_line("markers", "long: run where --chaos-rounds is given")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--chaos-rounds", None) is None:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    for item in items:
        if item.path.parent == Path(__file__).parent and not sys.platform.startswith("linux"):
            item.add_marker(
                pytest.mark.skip(reason="the processes of a command are found in /proc, which only Linux has")
            )


@pytest.fixture
def rng(number: int, request: pytest.FixtureRequest) -> random.Random:
    """The random choices of a round. (Its timing also depends on the machine.)"""
    seed = request.config.getoption("--chaos-seed", 1)
    return random.Random(f"{request.node.originalname} {number} {seed}")


@pytest.fixture
def hit(record_property: Callable[[str, object], None]) -> Hit:
    """Records the moment that a round hit, for the summary."""
    return lambda what: record_property(HIT, what)


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """A server that tests may stop and start."""
    with home_for("own", tmp_path_factory) as home, own_server(home) as started:
        yield started


@pytest.fixture(scope="session")
def world(own: OwnServer) -> World:
    """The databases from which all rounds of a session start."""
    return asyncio.run(World.make(own.server))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    hits: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, what in getattr(report, "user_properties", []):
                if name == HIT and report.when == "call":
                    kind = report.nodeid.rsplit("::", 1)[1].split("[")[0]
                    hits.setdefault(f"{kind}, {outcome}", Counter())[what] += 1
    if hits:
        terminalreporter.section("chaos: moments that the rounds hit")
    for kind, counted in sorted(hits.items()):
        terminalreporter.write_line(f"{kind}:")
        for what, times in counted.most_common():
            terminalreporter.write_line(f"  {times:4d} {what}")
