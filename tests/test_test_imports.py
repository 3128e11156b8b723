"""What test modules share is in ``support``: none imports another one, or a conftest."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent
REPEATS: Final = "test_versions.py"
"""It imports tests to run them again on another server."""


def imported(source: str) -> Iterator[str]:
    """The parts of every name that a module imports, or imports from."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            yield from (node.module or "").split(".")
        if isinstance(node, ast.Import | ast.ImportFrom):
            for each in node.names:
                yield from each.name.split(".")


def test_no_module_imports_a_test_module_or_a_conftest() -> None:
    files = [file for file in TESTS.rglob("*.py") if file.name != REPEATS]
    tests = {file.stem for file in TESTS.rglob("test_*.py")} | {"conftest"}
    wrong = {
        str(file.relative_to(TESTS)): found
        for file in files
        if (found := tests.intersection(imported(file.read_text())))
    }
    assert wrong == {}
