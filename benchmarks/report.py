"""The report: all stored figures as one page of Markdown with charts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import StatisticsError
from typing import Any, Final

from benchmarks import adapted, floor, generate, growth, inplace, lanes, naive, restore, settings, shapes
from benchmarks.benchmark import Benchmark
from benchmarks.charts import save
from benchmarks.results import Findings, kept
from bulkseed.errors import InputError

__all__ = ["BENCHMARKS", "write"]

BENCHMARKS: Final = tuple(
    module.BENCHMARK for module in (restore, floor, lanes, naive, growth, inplace, generate, settings, shapes, adapted)
)

PROFILE: Final = Path(__file__).parent / "profile.md"
"""The findings of a profile of generation, written by hand; they follow the figures of ``generate``."""

HEAD: Final = """# Results of the benchmarks

Written by `python -m benchmarks report` from the JSON files in this folder, which have the figures of every run. The
runs of the contestants alternate on one embedded PostgreSQL. Figures are medians, with minimum and maximum. *client
PSS* is the peak memory of all processes of a command together, with shared pages counted once; *client RSS* counts
shared pages once for each process. Neither includes the memory of the server.
"""


def write(folder: Path) -> Path:
    """Write ``REPORT.md`` and the charts of all figures in ``folder``, and return the file of the report.

    Raises InputError where matplotlib is missing, and for figures of another version of a benchmark.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "REPORT.md"
    file.write_text("\n".join([HEAD, *(part for benchmark in BENCHMARKS for part in section(benchmark, folder))]))
    return file


def section(benchmark: Benchmark, folder: Path) -> Iterator[str]:
    stems = [benchmark.name, *sorted(found.stem for found in folder.glob(f"{benchmark.name}-*.json"))]
    found = [(stem, figures) for stem in stems if (figures := kept(folder, stem)) is not None]
    if not found:
        return
    yield f"## {benchmark.name}\n\n{benchmark.method}\n"
    for stem, figures in found:
        try:
            findings = benchmark.findings(figures)
        except (KeyError, StatisticsError) as error:
            raise InputError(
                f"{folder / stem}.json is of another version of the benchmark {benchmark.name}: run it again",
                code="old-figures",
            ) from error
        yield f"### {findings.title}\n"
        if benchmark.draw is not None:
            save(partial(benchmark.draw, figures), folder / f"{stem}.svg")
            yield f"![{findings.title}]({stem}.svg)\n"
        yield table(findings)
        yield "".join(f"- {note}\n" for note in (*findings.notes, f"Measured on: {figures['line']}."))
    if benchmark.name == "generate" and PROFILE.exists():
        yield PROFILE.read_text()


def table(findings: Findings) -> str:
    def line(cells: Any) -> str:
        return f"| {' | '.join(cells)} |\n"

    rule = ["---", *(["---:"] * (len(findings.columns) - 1))]
    return line(findings.columns) + line(rule) + "".join(line(row) for row in findings.rows)
