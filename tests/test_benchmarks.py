"""The benchmarks run, end to end, and print their findings."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import adapted, floor, growth, inplace, settings
from benchmarks.__main__ import main, parser
from benchmarks.commands import ran
from benchmarks.databases import Databases, served
from benchmarks.libraries import INSTALL, library
from benchmarks.plans import plan_of
from benchmarks.report import BENCHMARKS, write
from benchmarks.results import Figures, Run, keep
from benchmarks.turns import turns
from bulkseed.errors import InputError
from bulkseed.load_options import Defer
from bulkseed.loader.load import load
from bulkseed.postgres.address import Address
from support.errors import raises

ROOT = Path(__file__).parent.parent
NAMES = [benchmark.name for benchmark in BENCHMARKS]
MEBIBYTE = 2**20
MACHINE: dict[str, Any] = {
    **dict.fromkeys(("cpu", "system", "python", "postgresql", "date"), "some"),
    "cores": 2,
    "memory_gib": 1,
}


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


def kept(folder: Path, name: str) -> Figures:
    found: Figures = json.loads((folder / f"{name}.json").read_text())
    assert found["benchmark"] == name
    assert {"date", "cpu", "cores", "memory_gib", "python", "postgresql", "packages"} <= found["machine"].keys()
    return found


def test_without_a_name_they_are_listed() -> None:
    done = benchmark()
    assert done.returncode == 0
    assert not done.stderr
    for name in (*NAMES, "report"):
        assert len(re.findall(rf"^  {name} +\S.*$", done.stdout, re.MULTILINE)) == 1


@pytest.mark.parametrize("name", ["nonsense", "Naive"])
def test_unknown_names_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    for text in (repr(name), *NAMES, "report"):
        assert text in printed.err


@pytest.mark.parametrize("arguments", [("generate", "--scale", "0x"), ("growth", "--scales", "1x", "abc")])
def test_wrong_scales_are_refused(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("psutil")
    assert main([*arguments, "--output", str(tmp_path)]) == 2
    assert "--scale" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("repeats", ["0", "-1", "many"])
def test_wrong_number_of_repeats_is_refused(repeats: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["generate", "--repeats", repeats])
    assert ended.value.code == 2
    assert "--repeats" in capsys.readouterr().err


def test_missing_libraries_are_reported() -> None:
    with raises("missing-library", "no_such_library", INSTALL, kind=InputError):
        library("no_such_library.part")


def test_turns_begin_with_another_each_round(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(turns("abc", 4)) == list("abcbcacababc")
    assert capsys.readouterr().err.splitlines()[-1] == "12/12: c"


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0, 0.5), (1, 0.5), (3, 1.5)], 2.0),
        ([(0, 0.5), (2, 1.0)], 2.0),
        ([(0, 0.5), (1, 0.9)], None),
        ([(0, 1.5), (1, 2.0)], None),
        ([], None),
    ],
)
def test_crossing(points: list[tuple[float, float]], expected: float | None) -> None:
    assert inplace.crossing(points) == expected


def test_bases_of_inplace_have_that_many_rows() -> None:
    assert inplace.base_scale("30x", 4) == "60.00x"
    assert inplace.base_scale("3x", 0.01) == "1.00x"


def test_a_command_is_measured_with_its_children() -> None:
    pytest.importorskip("psutil")
    child = "import time; held = bytearray(60 * 2**20); time.sleep(0.8)"
    program = f"import subprocess, sys; held = bytearray(60 * 2**20); subprocess.run([sys.executable, '-c', {child!r}])"
    taken = ran([sys.executable, "-c", f"{program}; print('said')"])
    assert taken.output == "said\n"
    assert taken.seconds > 0.8
    assert 0 < taken.cpu_seconds < taken.seconds * 2
    assert 120 * MEBIBYTE < taken.peak_pss <= taken.peak_rss < 400 * MEBIBYTE


def test_the_stderr_of_a_failed_command_is_in_the_error() -> None:
    pytest.importorskip("psutil")
    with pytest.raises(RuntimeError, match=r"3.*what it said"):
        ran([sys.executable, "-c", "import sys; print('what it said', file=sys.stderr); sys.exit(3)"])


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    with served() as found:
        yield found


@pytest.mark.parametrize("encoder", ["none", "records", "binary"])
def test_generate_runs(
    encoder: str,
    databases: Databases,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("benchmarks.__main__.served", lambda: nullcontext(databases))
    assert main(["generate", "--scale", "1x", "--repeats", "1", "--encoder", encoder, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for part in ("users", "channels", "user_channels", "messages", "message_reactions", "whole"):
        assert re.search(rf"^ *{part} +\d", printed, re.MULTILINE), part
    assert "peak RSS" in printed
    name = "generate" if encoder == "none" else f"generate-{encoder}"
    [run] = kept(tmp_path, name)["runs"]
    assert run["parts"]["users"]["rows"] == 20
    assert run["parts"]["whole"]["rows"] == sum(part["rows"] for name, part in run["parts"].items() if name != "whole")
    assert run["peak_rss"] > 10 * MEBIBYTE


@pytest.mark.parametrize("scenario", ["slack", "tiny"])
def test_shapes_runs(scenario: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    given = ("--scenario", scenario, "--scale", "2x", "--repeats", "1", "--output", tmp_path)
    done = benchmark("shapes", *given)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ *channel_dm +0\.\d+ +0\.\d+ +[+-]", done.stdout, re.MULTILINE)
    assert kept(tmp_path, f"shapes-{scenario}")["settings"]["scenario"] == scenario
    assert (tmp_path / f"shapes-{scenario}.svg").exists()


def test_naive_runs(tmp_path: Path) -> None:
    pytest.importorskip("psutil")
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


def quick_load(
    address: Address, scale: str, *, workers: int, defer: Defer = "auto", seed: int = 1, scenario: str = "default"
) -> Run:
    """What a command would load and report, without a process of its own."""
    plan = replace(plan_of(scale, scenario), seed=seed)
    done = asyncio.run(load(plan, address, workers=workers, defer=defer))
    figures = {"seconds": 1.0, "cpu_seconds": 1.0, "peak_pss": 1, "peak_rss": 1, "phases": dict(done.seconds)}
    return {"rows": sum(done.rows.values()), "tables": dict(done.rows), **figures}


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        (["restore", "--scale", "1x", "--workers", "1"], 3),
        (["floor", "--scale", "1x"], 5),
        (["lanes", "--scale", "1x", "--only", "bulkseed, binary", "ADBC ingest", "INSERT … SELECT"], 3),
        (["growth", "--scales", "1x", "--workers", "1"], 1),
        (["inplace", "--scale", "1x", "--bases", "1", "--small", "--workers", "1"], 2),
        (["settings", "--scale", "1x"], len(settings.WAYS)),
        (["adapted", "--scale", "1x", "--workers", "1"], len(adapted.CONTESTANTS)),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)
def test_it_runs(
    arguments: list[str], runs: int, databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [one] = [each for each in BENCHMARKS if each.name == arguments[0]]
    for name in ("psutil", *one.needs):
        pytest.importorskip(name)
    tuned = next(iter(settings.SERVERS))
    monkeypatch.setattr(settings, "SERVERS", {tuned: {}})  # the others are servers of their own
    for module in (adapted, floor, growth, inplace, settings):
        monkeypatch.setattr(module, "command_load", quick_load)
    chosen = parser().parse_args([*arguments, "--repeats", "1", "--output", str(tmp_path)])
    found = list(one.measure(databases, chosen))
    assert len(found) == runs
    assert all(run["seconds"] > 0 and run["rows"] > 100 for run in found)
    figures = keep(tmp_path, one.name, MACHINE, vars(chosen) | {"output": ""}, found)
    assert one.findings(figures).rows
    pytest.importorskip("matplotlib")
    report = write(tmp_path).read_text()
    assert f"## {one.name}\n" in report
    if one.draw is not None:
        drawn = (tmp_path / f"{one.name}.svg").read_bytes()
        write(tmp_path)
        assert (tmp_path / f"{one.name}.svg").read_bytes() == drawn, "the same figures make another file"


def test_figures_of_another_version_are_refused(tmp_path: Path) -> None:
    keep(tmp_path, "growth", MACHINE, {}, [{"seconds": 1.0}])
    with raises("old-figures", "growth", kind=InputError):
        write(tmp_path)
