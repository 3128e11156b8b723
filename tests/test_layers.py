"""The layers of the package: imports point down only, and what makes rows touches nothing but its arguments."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

import bulkseed

ROOT: Final = Path(bulkseed.__file__).parent

LAYERS: Final = {
    0: "errors choices suggestions imports identifiers parameters shape scenario relationships further_tables tables "
    "model plan watch stopwatch",
    1: "arrays streams draws permutation zipf ranking estimate shards crowd week layout uuids keys corpus faker_corpus "
    "faker_clock faker_values names prose",
    2: "generators fields",
    3: "machine loops pooler connection orm target reservation references wire encoders fitting columns copy lanes "
    "ledger transaction schema embedded deferral patience control libpq passfile url address rowcount",
    4: "shipped scenario_structure scenario_file app_metadata planning own_rules unjudged trial placing pipeline "
    "job shard_load workers deferring stopping filling removal room completion undoing loading resuming history "
    "cleaning creation initialise verifying chance checks readings rule_sql workspace_rules conversation_rules "
    "shape_rules guard disk",
    5: "api cli commands consent options progress report runner serving __main__ __init__",
}
"""Where each module (or package, with all in it) belongs; those that are yet to come may be named already."""

MAY_IMPORT: Final = {0: {0}, 1: {0, 1}, 2: {0, 1, 2}, 3: {0, 3}, 4: {0, 1, 2, 3, 4}, 5: {0, 1, 2, 3, 4, 5}}
"""What a layer may import. The database knows of no generator, so that 3 has only the values below it."""

LAYER_OF: Final = {name: layer for layer, names in LAYERS.items() for name in names.split()}

PURE_LAYERS: Final = {0, 1, 2}
ALLOWED: Final = {
    "errors": "typing",
    "choices": "typing",
    "relationships": "collections typing",
    "further_tables": "collections dataclasses typing",
    "model": "collections dataclasses functools typing",
    "plan": "collections dataclasses datetime decimal json re typing",
    "parameters": "collections dataclasses typing",
    "shape": "dataclasses typing",
    "scenario": "collections dataclasses typing",
    "estimate": "numpy typing",
    "shards": "collections dataclasses itertools numpy typing",
    "zipf": "math numpy typing",
    "ranking": "dataclasses functools numpy typing",
    "crowd": "dataclasses numpy",
    "week": "numpy typing",
    "tables": "dataclasses typing",
    "identifiers": "",
    "watch": "collections typing",
    "stopwatch": "collections contextlib time typing",
    "suggestions": "collections difflib typing",
    "imports": "functools importlib re typing",
    "streams": "dataclasses hashlib numpy typing",
    "draws": "fractions functools itertools math numpy typing",
    "permutation": "numpy typing",
    "uuids": "dataclasses numpy pyarrow typing",
    "layout": "numpy typing",
    "corpus": "anyascii collections dataclasses fractions functools re typing",
    "faker_corpus": "collections difflib faker fractions functools re typing warnings",
    "faker_clock": "collections contextlib datetime random sys threading types typing",
    "faker_values": "collections dataclasses datetime faker functools json typing warnings",
    "names": "collections fractions functools numpy pyarrow typing",
    "prose": "collections functools numpy pyarrow typing",
    "keys": "collections",
    "generators": "collections dataclasses functools numpy pyarrow typing",
    # a user's own code gets Python's values, and chance of its own from a row's word
    "generators.parents": "collections dataclasses datetime functools numpy random",
    "generators.plugins": "collections dataclasses functools importlib inspect math typing",
    "generators.rows": "collections pyarrow typing",
    "arrays": "collections datetime decimal json numpy pyarrow typing uuid",
    "fields": "abc collections dataclasses datetime decimal fractions functools json math numpy pyarrow random re "
    "string typing uuid",
}
"""All that a module of the pure layers may import from elsewhere: no clock, no chance, no file, no network."""

IMPURE_CALLS: Final = {"now", "utcnow", "today", "hash", "id", "open", "input", "print", "eval", "exec", "__import__"}
"""What depends on the moment, the process or the machine, and needs no import or one that is allowed."""

WITHOUT_ALL: Final = {"__main__", "keeper", "child"}
"""Modules that are run."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the package: its dotted name below ``bulkseed``, and its source as a tree."""

    name: str
    tree: ast.Module

    @property
    def top(self) -> str:
        """The name that LAYERS knows it by."""
        return self.name.split(".")[0]

    @property
    def layer(self) -> int:
        """Its layer."""
        return LAYER_OF[self.top]

    def imported(self) -> Iterator[str]:
        """The dotted names of all that it imports, anywhere in it; of ours those of the modules meant."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} imports by a relative path"
                assert node.module is not None
                if node.module == "bulkseed":
                    yield from (f"bulkseed.{alias.name}" for alias in node.names)
                else:
                    yield node.module


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES: Final = [Module(module_name(path), ast.parse(path.read_text())) for path in sorted(ROOT.rglob("*.py"))]

every_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
pure_modules = pytest.mark.parametrize(
    "module", [each for each in MODULES if LAYER_OF.get(each.top) in PURE_LAYERS], ids=lambda module: module.name
)


def test_package_is_found() -> None:
    assert {"plan", "streams", "loading", "generators", "generators.users"} <= {module.name for module in MODULES}


@every_module
def test_module_has_a_layer(module: Module) -> None:
    assert module.top in LAYER_OF, f"add {module.top} to LAYERS in {Path(__file__).name}, at the lowest layer that fits"


@every_module
def test_imports_point_down(module: Module) -> None:
    for name in module.imported():
        top, _, rest = name.partition(".")
        if top != "bulkseed":
            continue
        assert rest, f"{module.name} imports the package itself: import from the module that has it"
        target = rest.split(".")[0]
        assert target in LAYER_OF, f"{module.name} imports {target}, which has no layer"
        assert LAYER_OF[target] in MAY_IMPORT[module.layer], (
            f"{module.name} (layer {module.layer}) imports {target} (layer {LAYER_OF[target]})"
        )


@pure_modules
def test_pure_module_imports_nothing_that_could_vary(module: Module) -> None:
    allowed = {*ALLOWED.get(module.name, ALLOWED[module.top]).split(), "bulkseed", "__future__"}
    found = {name.split(".")[0] for name in module.imported()}
    assert found <= allowed, f"{module.name} imports {', '.join(sorted(found - allowed))}"


@pure_modules
def test_pure_module_calls_nothing_that_could_vary(module: Module) -> None:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called not in IMPURE_CALLS, f"{module.name}:{node.lineno} calls {called}()"


@pure_modules
def test_only_streams_draws_from_numpy(module: Module) -> None:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr == "random":
            owner = node.value
            if isinstance(owner, ast.Name) and owner.id in {"np", "numpy"}:
                assert module.name == "streams", f"{module.name}:{node.lineno} draws from numpy.random"


@every_module
def test_only_two_modules_import_faker(module: Module) -> None:
    if any(name.split(".")[0] == "faker" for name in module.imported()):
        assert module.name in {"faker_corpus", "faker_values"}


@every_module
def test_module_says_what_it_offers(module: Module) -> None:
    """A list of names, sorted as ruff does, each of which is there."""
    assigned = [
        node.value
        for node in module.tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    ]
    if not assigned:
        assert module.name.split(".")[-1] in WITHOUT_ALL, f"{module.name} has no __all__"
        return
    [value] = assigned
    names = ast.literal_eval(value)
    assert isinstance(names, list)
    assert len(set(names)) == len(names)
    there = importlib.import_module("bulkseed" if module.name == "__init__" else f"bulkseed.{module.name}")
    missing = [name for name in names if not hasattr(there, name)]
    assert not missing, f"{module.name} has no {', '.join(missing)}"


@every_module
def test_module_begins_with_a_docstring(module: Module) -> None:
    assert ast.get_docstring(module.tree), f"{module.name} does not say what it is"


HEAVY: Final = {
    "commands.psql": "numpy pyarrow asyncpg faker pydantic sqlalchemy",
    "commands.runs": "pyarrow faker pydantic sqlalchemy",
    "commands.serve": "pydantic",
    "commands.init": "pydantic",
    "commands.load": "pydantic sqlalchemy",
    "commands.resume": "pydantic sqlalchemy",
    "commands.plan": "pydantic sqlalchemy",
    "commands.verify": "pydantic sqlalchemy",
    "commands.cleanup": "pydantic sqlalchemy",
    "workers.child": "faker pydantic sqlalchemy",
}
"""What takes long to import, and each does without until it needs it."""


@pytest.mark.parametrize("name", HEAVY)
def test_what_is_heavy_is_imported_where_it_is_needed(name: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", f"import sys, bulkseed.{name}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(HEAVY[name].split()).intersection(printed.stdout.split())


def test_scenarios_that_ship_need_no_pydantic() -> None:
    printed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from bulkseed.planning import make_plan; from bulkseed.shipped import shipped; "
            "[make_plan(scenario=name) for name in shipped()]; print(*sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "bulkseed.scenario_file" in printed.stdout.split()
    assert "pydantic" not in printed.stdout.split()


def test_the_test_sees_an_upward_import() -> None:
    bad = Module("streams", ast.parse("def f():\n    from bulkseed import loading\n    import bulkseed.cli\n"))
    assert list(bad.imported()) == ["bulkseed.loading", "bulkseed.cli"]
    with pytest.raises(AssertionError, match=r"streams \(layer 1\) imports loading \(layer 4\)"):
        test_imports_point_down(bad)
    with pytest.raises(AssertionError, match="add upstart to LAYERS"):
        test_module_has_a_layer(Module("upstart", ast.parse("")))
    with pytest.raises(AssertionError, match="imports time"):
        test_pure_module_imports_nothing_that_could_vary(Module("draws", ast.parse("from time import time")))
    with pytest.raises(AssertionError, match=r"draws:1 calls now\(\)"):
        test_pure_module_calls_nothing_that_could_vary(Module("draws", ast.parse("datetime.now()")))
