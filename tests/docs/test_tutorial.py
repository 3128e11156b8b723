"""The tutorial, as a reader types it; what it shows is what they see."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from bulkseed.__main__ import main
from bulkseed.postgres.address import Address
from support.pages import BLOCKS, NAMED
from support.queries import rows

CONSOLES: Final = [text for page, language, text in BLOCKS if (page, language) == ("docs/tutorial.md", "console")]


def commands() -> Iterator[tuple[list[str], list[str]]]:
    """Yield the arguments of each command of bulkseed's, and the lines that are shown as its output."""
    for text in CONSOLES:
        for command, output in re.findall(r"^\$ bulkseed (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
            yield shlex.split(command), [line.rstrip() for line in output.splitlines() if line.strip()]


def cells(line: str) -> list[str]:
    """Return the numbers in a line of ``bulkseed runs``, without times, and whether the run is complete."""
    return re.findall(r"\d[\d,]*|complete", re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d +[\d.]+", "", line))


def test_the_session(
    database: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BULKSEED_DATABASE_URL", database.dsn)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "team.toml").write_text(NAMED["team.toml"])
    done = []
    for arguments, shown in commands():
        done.append(arguments[0])
        if arguments[0] == "psql":
            assert arguments[1] == "-c"
            found = asyncio.run(rows(database, arguments[2]))
            # the numbers: names are those of one version of Faker
            numbers = [[cell for cell in row if isinstance(cell, int)] for row in found]
            lines = shown[2:-1]  # without the header's lines, and the number of rows
            assert [[int(cell) for cell in line.split("|") if cell.strip().isdigit()] for line in lines] == numbers
            continue
        if arguments[0] == "verify":
            continue  # it takes seconds; test_reference.py compares the lines that are shown
        if arguments == ["cleanup", "--yes"]:
            break  # the removal of half a million rows takes seconds too
        assert main(arguments) == 0
        printed = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
        if arguments[0] == "plan":
            assert printed == shown
        elif arguments[0] == "load" and shown:
            # rows, without seconds and rows/s
            assert rows_column(printed) == rows_column(shown)
        elif arguments[0] == "runs":
            assert [cells(line) for line in printed] == [cells(line) for line in shown]
    assert done[-2:] == ["psql", "cleanup"]


def rows_column(lines: list[str]) -> dict[str, str]:
    return {line.split()[0]: line.split()[1] for line in lines if re.fullmatch(r" +\w+ +[\d,]+ +[\d.]+ +[\d,]+", line)}
