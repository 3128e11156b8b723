"""Options from environment variables, BULKSEED_…, and the help without arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click
import pytest

from bulkseed.cli.command import Command, variable_of
from bulkseed.cli.main import COMMANDS, cli
from bulkseed.errors import InputError
from bulkseed.postgres.address import Address
from support.commands import Problem, bulkseed, inside, reported_errors


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_its_variable(name: str) -> None:
    found = command(name)
    assert isinstance(found, Command)
    for option in found.options:
        assert option.envvar == "BULKSEED_" + option.opts[-1].strip("-").upper().replace("-", "_")
    shown = inside(name, "--help").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert not found.options or variable_of(found.options[0]) in shown


def test_without_arguments_the_help_is_printed(tmp_path: Path) -> None:
    done = inside(BULKSEED_HOME=str(tmp_path / "home"), BULKSEED_SCALE="3x")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == inside("--help").stdout
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert not (tmp_path / "home").exists()


def planned(*arguments: str, **variables: str) -> dict[str, object]:
    done = inside("plan", *arguments, **{"BULKSEED_JSON": "1", **variables})
    assert (done.returncode, done.stderr) == (0, "")
    plan: dict[str, object] = json.loads(done.stdout)["plan"]
    return plan


def test_options_precede_variables_which_precede_defaults() -> None:
    assert planned()["seed"] == 1
    assert planned(BULKSEED_SEED="7")["seed"] == 7
    assert planned(BULKSEED_SEED="")["seed"] == 1
    assert planned("--seed", "5", BULKSEED_SEED="7")["seed"] == 5
    given = planned(BULKSEED_USERS="50", BULKSEED_AS_OF="2026-01-01", BULKSEED_MAX_MEMBERS="9")
    assert (given["users"], given["max_members"]) == (50, 9)
    plugins = ("plugins:attachments", "plugins:settings")
    listed = planned("--as-of", "2026-01-01", BULKSEED_PLUGIN=" ".join(plugins))
    assert listed == planned("--as-of", "2026-01-01", "--plugin", plugins[0], "--plugin", plugins[1])
    for flag, is_set in (("1", True), ("true", True), ("0", False), ("false", False), ("", False)):
        assert inside("plan", BULKSEED_JSON=flag).stdout.startswith("{") is is_set


USAGE: Final = click.UsageError
WRONG: Final = {
    "SCALE": ("0x", InputError, None),
    "USERS": ("1", InputError, None),
    "SEED": ("x", USAGE, None),
    "AS_OF": ("yesterday", InputError, None),
    "LOCALE": ("de_XX", InputError, "unknown-locale"),
    "SCENARIO": (" ", InputError, "empty-option"),
    "PLUGIN": ("nonsense", InputError, None),
    "DEFER": ("sometimes", USAGE, None),
    "WORKERS": ("0", USAGE, None),
    "RETRY_FOR": ("nan", InputError, "invalid-duration"),
    "LEDGER_SCHEMA": ("pg_x", InputError, "invalid-schema-name"),
    "DATABASE_URL": ("mysql://h/d", InputError, "invalid-url"),
    "QUIET": ("maybe", USAGE, None),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_error_names_the_variable(name: str, tmp_path: Path) -> None:
    value, kind, code = WRONG[name]
    variable, option = f"BULKSEED_{name}", f"--{name.lower().replace('_', '-')}"
    with reported_errors() as errors:
        done = inside("load", **{variable: value, "BULKSEED_HOME": str(tmp_path / "home")})
    assert (done.returncode, done.stdout) == (2, "")
    Problem(kind, code, (variable,)).check(errors[0], done.stderr)
    assert f"{option} " not in done.stderr.replace("bulkseed load --help", "")
    assert not (tmp_path / "home").exists()


def test_an_error_names_the_variable_of_an_application() -> None:
    for command in ("load", "psql", "runs"):
        with reported_errors() as errors:
            assert inside(command, DATABASE_URL="mysql://h/d").returncode == 2
        assert "DATABASE_URL" in str(errors[0])
        with reported_errors() as errors:
            assert inside(command, "--database-url", "mysql://h/d", DATABASE_URL="mysql://h/d").returncode == 2
        assert "DATABASE_URL" not in str(errors[0])


def test_a_misspelled_variable_is_noted() -> None:
    done = inside("plan", BULKSEED_SCAEL="3x", BULKSEED_NOTES="here", BULKSEED_CASCADE="1")
    assert done.returncode == 0
    [note] = done.stderr.splitlines()
    assert "BULKSEED_SCAEL" in note
    assert "BULKSEED_SCALE" in note
    assert inside("runs", "--help", BULKSEED_SCAEL="3x").stderr == ""


def test_variables_of_a_load_that_has_workers(database: Address) -> None:
    variables = {"BULKSEED_DATABASE_URL": database.dsn, "BULKSEED_WORKERS": "2", "BULKSEED_ON_ERROR": "keep"}
    variables |= {"BULKSEED_SCALE": "5x", "BULKSEED_ROWS_PER_SHARD": "2000", "BULKSEED_JSON": "1"}
    done = bulkseed("load", **variables)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert (loaded["workers"], loaded["rows"]["users"]) == (2, 100)


@pytest.mark.parametrize(("name", "value"), [("BULKSEED_CASCADE", "1"), ("BULKSEED_CHANGED", "remove")])
def test_two_variables_do_not_agree_to_remove_rows_of_others(seeded: Address, name: str, value: str) -> None:
    variables = {"BULKSEED_DATABASE_URL": seeded.dsn, "BULKSEED_YES": "1", name: value}
    with reported_errors() as errors:
        done = inside("cleanup", **variables)
    assert done.returncode == 2
    Problem(InputError, "confirmation-needed", ("--yes", "run 1")).check(errors[0], done.stderr)
    del variables[name]
    done = inside("cleanup", **variables)
    assert done.returncode == 0, done.stderr
    assert "BULKSEED_YES" in done.stderr
    assert inside("cleanup", "--quiet", **variables).stderr == ""
