"""The benchmarks run, end to end, and say what they found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def benchmark(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """``python -m benchmarks`` with arguments."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
    )


def kept(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    assert found["benchmark"] == name
    assert {"date", "cpu", "cores", "memory_gib", "python", "postgresql", "packages"} <= found["machine"].keys()
    return found


def test_without_a_name_they_are_listed() -> None:
    done = benchmark()
    assert done.returncode == 0
    assert not done.stderr
    for name in ("naive", "generate"):
        assert len(re.findall(rf"^  {name} +\S.*$", done.stdout, re.MULTILINE)) == 1


@pytest.mark.parametrize("name", ["nonsense", "Naive"])
def test_unknown_name_is_one_sentence(name: str) -> None:
    done = benchmark(name)
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr == f"there is no benchmark {name!r}: take naive or generate\n"


@pytest.mark.parametrize("arguments", [("generate", "--scale", "0x"), ("naive", "--scales", "1x", "abc")])
def test_wrong_scale_is_one_sentence(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = benchmark(*arguments, "--output", tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--scale" in done.stderr
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("repeats", ["0", "-1", "many"])
def test_wrong_number_of_repeats_is_refused(repeats: str) -> None:
    done = benchmark("generate", "--repeats", repeats)
    assert done.returncode == 2
    assert "--repeats" in done.stderr


@pytest.mark.parametrize(
    ("encoder", "name"),
    [("none", "generate"), ("records", "generate-records"), ("binary", "generate-binary")],
)
def test_generate_runs(encoder: str, name: str, tmp_path: Path) -> None:
    done = benchmark("generate", "--scale", "1x", "--repeats", "1", "--encoder", encoder, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ("users", "channels", "user_channels", "messages", "message_reactions", "whole"):
        assert re.search(rf"^ *{part} +\d", done.stdout, re.MULTILINE), part
    assert "peak RSS" in done.stdout
    [run] = kept(tmp_path, name)["runs"]
    assert run["parts"]["users"]["rows"] == 20
    assert run["parts"]["whole"]["rows"] == sum(part["rows"] for name, part in run["parts"].items() if name != "whole")
    assert run["peak_rss"] > 10 * 2**20


def test_naive_runs(tmp_path: Path) -> None:
    done = benchmark("naive", "--scales", "1x", "--repeats", "1", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"1x +checklist .* 1\.0x *$", done.stdout, re.MULTILINE)
    assert re.search(r"1x +bulkseed .* \d+\.\dx *$", done.stdout, re.MULTILINE)
    found = kept(tmp_path, "naive")
    assert found["machine"]["postgresql"] in found["line"]
    checklist, bulkseed = found["runs"]
    assert [checklist["contestant"], bulkseed["contestant"]] == ["checklist", "bulkseed"]
    for run in (checklist, bulkseed):
        assert run["tables"]["users"] == 20
        assert run["tables"]["channels"] == 10
        assert run["seconds"] > 0
