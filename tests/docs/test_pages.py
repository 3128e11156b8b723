"""All pages: their links lead somewhere, their commands are understood, and the front page is short."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import click
import pytest

from bulkseed.cli.main import COMMANDS, cli
from support.commands import ROOT
from support.pages import BLOCKS, NAMED, PAGES, anchors, links, prose, resolve, tables

LONGEST_FRONT_PAGE: Final = 200

OTHER_OPTIONS: Final = {
    *("--schema-only", "--bulkseed-url", "--strict", "--postgres", "--chaos-rounds", "--chaos-seed"),
    *("--schemas", "--schemas-seed", "--schemas-pending", "--again-scale"),
}
"""Options of other programs that the prose names."""


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in links(page):
        file, anchor = resolve(page, target)
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


def test_every_page_can_be_reached() -> None:
    """From the front page, through links."""
    reached, new = {"README.md"}, ["README.md"]
    while new:
        page = new.pop()
        for target in links(page):
            name = resolve(page, target)[0].relative_to(ROOT).as_posix()
            if name in PAGES and name not in reached:
                reached.add(name)
                new.append(name)
    assert reached == set(PAGES)


def test_pictures_are_pictures() -> None:
    pictures = {
        resolve(page, target)[0] for page in PAGES for target in re.findall(r"!\[[^]]+\]\(([^)]+)\)", prose(page))
    }
    assert ROOT / "docs/images/terminal.svg" in pictures
    for picture in pictures:
        assert ElementTree.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_front_page_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= LONGEST_FRONT_PAGE


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_complete(page: str) -> None:
    for table in tables(PAGES[page]):
        assert {len(row) for row in table} == {len(table[0])}, table[0]


# --- commands --------------------------------------------------------------------------------------------------------


def commands() -> Iterator[list[str]]:
    """Each command line of bulkseed's, in the examples for a terminal, Compose and CI, and in the prose."""
    text = "\n".join(text for _, language, text in BLOCKS if language in {"console", "yaml"})
    for line in re.findall(r"(?:^\$ |^ +- run: |&& |^ +)(?:python -m )?bulkseed(?: (.*))?$", text, re.MULTILINE):
        yield shlex.split(line.partition(" > ~")[0], comments=True)
    for line in re.findall(r"docker compose run --rm seed(?: (.*))?$", text, re.MULTILINE):
        yield shlex.split(line or "", comments=True)
    yield from (json.loads(each) for each in re.findall(r"^ +command: (\[.*\])$", text, re.MULTILINE))
    for page in PAGES:
        for line in re.findall(r"`bulkseed ([^`]+)`", prose(page)):
            if not re.search(r"…|[\[{]|COMMAND|^--", line):
                yield shlex.split(line)


def test_commands_are_understood() -> None:
    found = list(commands())
    assert len(found) > 60
    for arguments in found:
        name, *rest = arguments if arguments[:1] and arguments[0] in COMMANDS else ["load", *arguments]
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.make_context(name, rest), arguments


def test_options_in_the_prose_exist() -> None:
    known = {"--help", "--version"} | OTHER_OPTIONS
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        known.update(option for parameter in command.params for option in parameter.opts)
    for page in PAGES.keys() - {"CHANGELOG.md"}:
        for code in re.findall(r"`([^`]+)`", prose(page)):
            assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", code)) <= known, (page, code)


def test_yaml_is_yaml() -> None:
    yaml = importlib.import_module("yaml") if importlib.util.find_spec("yaml") else None
    for name in (name for name in NAMED if name.endswith(".yaml")):
        lines = NAMED[name].splitlines()
        assert not any("\t" in line for line in lines)
        assert all((len(line) - len(line.lstrip())) % 2 == 0 for line in lines)
        assert all(re.match(r" *(#|- |[\w-]+:( |$))", line) for line in outside_literals(lines)), name
        if yaml is not None:
            assert isinstance(yaml.safe_load(NAMED[name]), dict)


def outside_literals(lines: list[str]) -> Iterator[str]:
    """The lines that are no part of a text that a ``|`` begins."""
    inside: int | None = None
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if inside is not None and (depth > inside or not line):
            continue
        inside = depth if line.endswith("|") else None
        if line:
            yield line


def test_programs_have_complete_types(tmp_path: Path) -> None:
    """One mypy for all; it shares the project's cache and configuration."""
    files = [name for name in NAMED if name.endswith(".py")]
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(NAMED[name])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml"),
            *("--cache-dir", ROOT / ".mypy_cache", *files),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
