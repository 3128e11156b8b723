"""Who may import what: the map of the package. Imports point down it, and none goes round in a circle."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import bulkseed

MAY_IMPORT: Final = {
    "randomness": "",
    "plan": "randomness",
    "text": "plan randomness",
    "fields": "text plan randomness",
    "generators": "fields text plan randomness",
    "postgres": "",
    "deferral": "postgres",
    "ledger": "deferral postgres plan",
    "copy": "generators postgres plan",
    "target": "copy ledger generators fields text postgres plan",
    "scenarios": "target generators fields text plan",
    "verifier": "target ledger text postgres plan randomness",
    "cleaner": "verifier target copy ledger deferral generators text postgres plan randomness",
    "loader": "cleaner target copy ledger deferral generators text postgres plan randomness",
    "embedded": "",
    "cli": "loader cleaner verifier scenarios target ledger embedded text postgres plan",
    "arrays": "",
    "errors": "",
    "sql": "",
    "load_options": "",
    "listeners": "",
    "imports": "",
    "processes": "",
    "faker_process": "text",
    "draws": "randomness",
    "api": "loader cleaner verifier ledger postgres plan",
    "sync": "api postgres",
    "pytest_databases": "api embedded loader plan postgres target",
    "pytest_plugin": "pytest_databases loader plan scenarios",
    "": "sync api loader cleaner verifier scenarios target generators fields postgres plan",
    "__main__": "cli",
}
"""The folders, and the modules beside them, that each may import; ``""`` is the package itself."""

BY_ALL: Final = {"arrays", "errors", "sql", "load_options", "listeners", "imports", "processes"}
"""Modules beside the folders that every folder may import: none of them imports a folder."""

VALUES: Final = (
    "__future__ abc bisect collections dataclasses datetime decimal fractions functools itertools json math re typing"
)
PURE: Final = {
    "arrays": "ipaddress numpy pyarrow uuid",
    "randomness": "numpy pyarrow hashlib",
    "plan": "numpy",
    "text": "numpy pyarrow faker anyascii contextlib contextvars difflib random sys types",
    "fields": "numpy pyarrow random string",
    "generators": "numpy pyarrow random importlib inspect",
}
"""What the pure folders may import from elsewhere, beside the modules of values: no clock, no file, no network."""

ONE_IMPORTER: Final = {
    "anyascii": "bulkseed.text.names",
    "faker": "bulkseed.text.faker_source bulkseed.text.faker_values",
    "pytest": "bulkseed.pytest_plugin",
    "pydantic": "bulkseed.scenarios.file_schema",
    "sqlalchemy": "bulkseed.scenarios.metadata",
}
"""Outside packages that only these modules may import."""

IMPURE_CALLS: Final = {"now", "utcnow", "today", "hash", "id", "open", "input", "print", "eval", "exec", "__import__"}
"""Calls whose result depends on the moment, the process or the machine, and that need no import."""

HEAVY: Final = {
    **dict.fromkeys(
        [
            f"cli.{name}"
            for name in (
                *("check", "cleanup", "completion", "init", "load", "main", "plan", "psql", "runs", "serve", "verify"),
            )
        ],
        "numpy pyarrow asyncpg sqlalchemy faker pydantic rich anyio",
    ),
    "cli.report": "faker sqlalchemy pydantic",
    "faker_process": "numpy pyarrow asyncpg sqlalchemy pydantic",
    "pytest_plugin": "numpy pyarrow asyncpg anyio faker sqlalchemy pydantic click platformdirs",
    "loader.worker": "faker sqlalchemy pydantic",
}
"""What takes long to import, and each of these modules does without until it needs it."""

UNIX_MODULES: Final = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty", "uvloop"}
NOT_ON_WINDOWS: Final = {"bulkseed.embedded.keeper"}
"""Modules that only other systems run."""

RUN: Final = {"bulkseed.__main__", "bulkseed.faker_process", "bulkseed.embedded.keeper", "bulkseed.loader.worker"}
"""Modules that are run, and offer nothing."""

ROOT: Final = Path(bulkseed.__file__).parent
TESTS: Final = Path(__file__).parent


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


TREES: Final = {name_of(file): ast.parse(file.read_text()) for file in sorted(ROOT.rglob("*.py"))}


def folder_of(module: str) -> str:
    """The folder of a module, or the name of one that is beside the folders."""
    return module.split(".")[1] if "." in module else ""


def imports_of(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Each module that is imported anywhere in ``tree``, with the name that is taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports by a relative path"
            assert node.module is not None
            yield from ((node.module, alias.name) for alias in node.names)


def own_imports(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """The modules of the package that each of its modules imports."""
    return {
        name: {
            f"{module}.{taken}" if f"{module}.{taken}" in trees else module
            for module, taken in imports_of(tree)
            if module.split(".")[0] == "bulkseed"
        }
        for name, tree in trees.items()
    }


def wrong_imports(trees: dict[str, ast.Module]) -> list[str]:
    """Imports that the map does not allow."""
    return [
        f"{name} imports {module}"
        for name, modules in own_imports(trees).items()
        for module in sorted(modules)
        if (to := folder_of(module)) != (of := folder_of(name))
        and to not in BY_ALL
        and to not in MAY_IMPORT[of].split()
    ]


def hidden_imports(trees: dict[str, ast.Module]) -> list[str]:
    """Imports of what another folder, or a module, does not offer by its ``__all__``, and of a folder as one object."""
    folders = [folder for folder in MAY_IMPORT if folder and (ROOT / folder).is_dir()]
    offered = {folder: exported(trees[f"bulkseed.{folder}"]) for folder in folders}

    def is_hidden(name: str, module: str, taken: str) -> bool:
        if module == "bulkseed":
            return taken in offered
        if module in trees and f"{module}.{taken}" not in trees and taken not in exported(trees[module]):
            return True
        folder = folder_of(module)
        part = module.split(".")[2] if module.count(".") > 1 else taken
        return folder in offered and folder != folder_of(name) and part not in offered[folder]

    return [
        f"{name} imports {module}.{taken}"
        for name, tree in trees.items()
        for module, taken in imports_of(tree)
        if module.split(".")[0] == "bulkseed" and is_hidden(name, module, taken)
    ]


def exported(tree: ast.Module) -> set[str]:
    """The names in a module's ``__all__``."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["__all__"]:
            return set(ast.literal_eval(node.value))
    return set()


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The circles of a graph: what remains when all that imports none of the rest is taken away, again and again."""
    rest = {name: set(graph[name]) - {name} for name in graph}
    while leaves := {name for name, to in rest.items() if not to & rest.keys()}:
        rest = {name: to for name, to in rest.items() if name not in leaves}
    return [sorted(rest)] if rest else []


def impure(trees: dict[str, ast.Module]) -> list[str]:
    """What the pure folders import or call that could vary."""
    found = []
    for name, tree in trees.items():
        if folder_of(name) not in PURE:
            continue
        allowed = {"bulkseed", *VALUES.split(), *PURE[folder_of(name)].split()}
        outside = {module.split(".")[0] for module, _ in imports_of(tree)}
        found += [f"{name} imports {module}" for module in sorted(outside - allowed)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                found += [f"{name} calls {called}()"] if called in IMPURE_CALLS else []
            if isinstance(node, ast.Attribute) and node.attr == "random" and name != "bulkseed.randomness.draws":
                found += [f"{name} draws from numpy.random"] if getattr(node.value, "id", "") in {"np", "numpy"} else []
    return found


OWN_PROCESSES: Final = {
    "bulkseed.__main__",
    "bulkseed.cli.runner",
    "bulkseed.embedded.keeper",
    "bulkseed.faker_process",
    "bulkseed.loader.worker",
    "bulkseed.text.faker_values",
}
"""Modules that run only in processes of bulkseed's own, and may change what all threads of a process share."""

SHARED_STATE: Final = {
    "gc": "disable enable freeze set_threshold",
    "locale": "setlocale",
    "logging": "basicConfig disable",
    "np": "seterr",
    "os": "chdir putenv umask unsetenv",
    "random": "choice randint random seed setstate shuffle",
    "signal": "pthread_sigmask signal",
    "sys": "setrecursionlimit setswitchinterval",
    "warnings": "catch_warnings filterwarnings simplefilter",
}
"""Functions of modules that change what all threads of a process share."""

CHANGES: Final = {"append", "clear", "extend", "insert", "pop", "remove", "setdefault", "update"}


def changes_of_shared_state(trees: dict[str, ast.Module]) -> list[str]:
    """Changes of what all threads of a process share, in modules that run in the process of a program."""
    found = []
    for name, tree in trees.items():
        if name in OWN_PROCESSES:
            continue
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setattr":
                found.append(f"{name} calls setattr")
            if not isinstance(node, ast.Attribute | ast.Subscript):
                continue
            of, part = ast.unparse(node.value), node.attr if isinstance(node, ast.Attribute) else ""
            is_changed = not isinstance(node.ctx, ast.Load)
            if (
                (of in imported and is_changed)
                or (of in imported | {"np"} and part in SHARED_STATE.get(of, "").split())
                or (of in {"os.environ", "sys.path"} and (is_changed or part in CHANGES))
            ):
                found.append(f"{name} has {ast.unparse(node)}")
    return found


def test_every_folder_is_on_the_map() -> None:
    assert {folder_of(name) for name in TREES} == MAY_IMPORT.keys()


def test_imports_follow_the_map() -> None:
    assert wrong_imports(TREES) == []


def test_folders_use_what_others_offer() -> None:
    assert hidden_imports(TREES) == []


def test_no_import_goes_round_in_a_circle() -> None:
    modules = own_imports(TREES)
    assert cycles(modules) == []
    folders: dict[str, set[str]] = {folder: set() for folder in MAY_IMPORT}
    for name, imported in modules.items():
        folders[folder_of(name)] |= {folder_of(module) for module in imported}
    assert cycles(folders) == []


def test_pure_folders_import_and_call_nothing_that_could_vary() -> None:
    assert impure(TREES) == []


def test_nothing_that_all_threads_share_is_changed() -> None:
    assert changes_of_shared_state(TREES) == []
    importers = {name for name, modules in own_imports(TREES).items() if "bulkseed.text.faker_values" in modules}
    assert importers == {"bulkseed.faker_process"}


def test_some_packages_have_few_importers() -> None:
    wrong = [
        f"{name} imports {module}"
        for name, tree in TREES.items()
        for module, _ in imports_of(tree)
        if name not in ONE_IMPORTER.get(module.split(".")[0], name).split()
    ]
    assert wrong == []


def test_modules_say_what_they_are_and_what_they_offer() -> None:
    for name, tree in TREES.items():
        assert ast.get_docstring(tree), f"{name} has no docstring"
        names = exported(tree)
        assert names or name in RUN, f"{name} has no __all__"
        module = importlib.import_module(name) if names else None
        for each in names:
            assert hasattr(module, each) or f"{name}.{each}" in TREES, f"{name} has no {each}"


@pytest.mark.parametrize("name", HEAVY)
def test_heavy_packages_are_imported_where_they_are_needed(name: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", f"import sys, bulkseed.{name}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(HEAVY[name].split()).intersection(printed.stdout.split())


def test_scenarios_that_ship_need_no_pydantic() -> None:
    program = (
        "import sys; from bulkseed.scenarios import shipped; from bulkseed.scenarios.planning import make_plan; "
        "[make_plan(scenario=name) for name in shipped()]; print(*sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "bulkseed.scenarios.scenario_file" in printed.stdout.split()
    assert "pydantic" not in printed.stdout.split()


def unguarded_imports(trees: dict[str, ast.Module]) -> list[str]:
    """Imports at module level of modules that Windows does not have, outside ``if sys.platform != "win32"``."""
    return [
        f"{name} imports {module}"
        for name, tree in trees.items()
        if name not in NOT_ON_WINDOWS
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module, _ in imports_of(ast.Module([node], []))
        if module.split(".")[0] in UNIX_MODULES
    ]


def test_the_package_can_be_imported_on_windows() -> None:
    assert unguarded_imports(TREES) == []


def test_the_tests_see_what_is_wrong() -> None:
    def with_import(module: str, source: str) -> dict[str, ast.Module]:
        return {**TREES, module: ast.Module([*TREES[module].body, *ast.parse(source).body], [])}

    upward = with_import("bulkseed.randomness.draws", "def f():\n    from bulkseed.loader import load\n")
    assert wrong_imports(upward) == ["bulkseed.randomness.draws imports bulkseed.loader.load"]
    assert cycles(own_imports(upward))
    within = with_import("bulkseed.plan.plan", "from bulkseed.plan.shards import BLOCK")
    assert cycles(own_imports(within))
    hidden = with_import("bulkseed.loader.load", "from bulkseed.postgres.libpq import hosts")
    assert hidden_imports(hidden) == ["bulkseed.loader.load imports bulkseed.postgres.libpq.hosts"]
    private = with_import("bulkseed.fields.values", "from bulkseed.randomness.draws import WORDS_PER_COUNT")
    assert hidden_imports(private) == ["bulkseed.fields.values imports bulkseed.randomness.draws.WORDS_PER_COUNT"]
    private_within = with_import("bulkseed.fields.values", "from bulkseed.fields.source import READERS")
    assert hidden_imports(private_within) == ["bulkseed.fields.values imports bulkseed.fields.source.READERS"]
    object_of_names = with_import("bulkseed.loader.load", "from bulkseed import ledger")
    assert hidden_imports(object_of_names) == ["bulkseed.loader.load imports bulkseed.ledger"]
    assert unguarded_imports(with_import("bulkseed.cli.runner", "import pwd")) == ["bulkseed.cli.runner imports pwd"]
    clock = with_import("bulkseed.randomness.draws", "from time import time\nnp.random.default_rng(datetime.now())")
    assert impure(clock) == ["bulkseed.randomness.draws imports time", "bulkseed.randomness.draws calls now()"]


def test_the_tests_see_what_changes_for_all_threads() -> None:
    source = (
        "import os, random, sys, warnings\nos.environ['A'] = 'b'\nsys.path += ['a']\nsys.path.append('b')\n"
        "random.seed(1)\nsys.stdout = None\nsetattr(os, 'a', 1)\nwith warnings.catch_warnings():\n    pass\n"
    )
    assert len(changes_of_shared_state({"bulkseed.plan.plan": ast.parse(source)})) == 7


def test_tests_import_no_test_module_and_no_conftest() -> None:
    tests = {file.stem for file in TESTS.rglob("test_*.py")} | {"conftest"}
    for file in TESTS.rglob("*.py"):
        parts = {part for pair in imports_of(ast.parse(file.read_text())) for part in ".".join(pair).split(".")}
        assert not tests & parts, f"{file.relative_to(TESTS)}: move what it shares to support/"
