"""The versions of all packages whose output gets into rows are recorded with each run."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Final

import anyio
import pytest

import bulkseed
from bulkseed.errors import InputError
from bulkseed.loader.complete import current_versions
from bulkseed.loader.load import ROW_VERSIONS, load, resume
from bulkseed.postgres.address import Address
from support.errors import raises
from support.listeners import Interfering
from support.plans import plan_of
from support.queries import digest, run_sql

PACKAGE: Final = Path(bulkseed.__file__).parent
MAKING_ROWS: Final = ("randomness", "plan", "text", "fields", "generators", "arrays.py", "faker_process.py")
"""The folders and modules of which values of rows come."""


def packages_imported_by(path: Path) -> set[str]:
    """The packages, other than bulkseed and Python's own, that the module imports anywhere."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
    return {module.split(".")[0] for module in modules} - sys.stdlib_module_names - {"bulkseed"}


def test_point_13_every_package_that_makes_values_is_recorded() -> None:
    files = [file for name in MAKING_ROWS for file in (PACKAGE / name).rglob("*.py")]
    files += [PACKAGE / name for name in MAKING_ROWS if name.endswith(".py")]
    packages = set[str]().union(*map(packages_imported_by, files))
    assert {"faker", "anyascii", "numpy"} <= packages <= current_versions().keys()
    assert set(ROW_VERSIONS) <= current_versions().keys()


@pytest.mark.parametrize("package", ROW_VERSIONS)
async def test_point_13_rows_of_two_versions_are_not_mixed(database: Address, package: str) -> None:
    with anyio.CancelScope() as scope:
        await load(plan_of(), database, listener=Interfering("messages", scope.cancel))
    assert scope.cancelled_caught
    before = await digest(database)
    await run_sql(database, f"""UPDATE bulkseed.runs SET made_by = made_by || '{{"{package}": "0.1"}}'""")
    with raises("other-version", "run 1", f"{package} 0.1", "`bulkseed cleanup 1`", kind=InputError):
        await resume(database)
    assert await digest(database) == before
