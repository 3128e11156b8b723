"""``python -m benchmarks``: lists the benchmarks, or runs one by its name; ``report`` writes what they found."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import machine, report
from benchmarks.benchmark import Benchmark, number
from benchmarks.databases import served
from benchmarks.libraries import library
from benchmarks.plans import plan_of
from benchmarks.report import BENCHMARKS
from benchmarks.results import RESULTS, keep, show
from bulkseed.errors import BulkseedError

REPORT: Final = "report"
SUMMARIES: Final = {
    **{benchmark.name: benchmark.summary for benchmark in BENCHMARKS},
    REPORT: "writes REPORT.md and the charts anew, from the figures that are kept",
}


def parser() -> argparse.ArgumentParser:
    """What the command line understands."""
    whole = argparse.ArgumentParser(prog="python -m benchmarks", description="Benchmarks of bulkseed.")
    names = whole.add_subparsers(dest="name")
    for name, summary in SUMMARIES.items():
        made = names.add_parser(name, help=summary, description=summary)
        made.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER", help="where results are kept")
    for benchmark in BENCHMARKS:
        made = names.choices[benchmark.name]
        made.add_argument("--repeats", type=number, default=3, metavar="N", help="times that each is run (3)")
        benchmark.options(made)
    return whole


def run(benchmark: Benchmark, chosen: argparse.Namespace) -> None:
    """Run a benchmark; print what it found, and keep its figures, its chart and the report."""
    for name in benchmark.needs:
        library(name)
    settings: dict[str, Any] = {name: value for name, value in vars(chosen).items() if name not in ("name", "output")}
    for scale in [*settings.get("scales", []), *filter(None, [settings.get("scale")])]:
        plan_of(scale)  # one that is wrong is told before anything is started
    with served() as databases:
        runs = list(benchmark.measure(databases, chosen))
        on = machine.described(databases.version)
    variant = settings.get("scenario", settings.get("encoder", "none"))
    stem = benchmark.name if variant == "none" else f"{benchmark.name}-{variant}"
    figures = keep(chosen.output, stem, on, settings, runs)
    notes = [figures["line"], f"raw figures: {stem}.json"]
    try:
        report.write(chosen.output)
    except BulkseedError as error:  # the figures are kept: a chart can still be drawn from them
        notes.append(f"no report: {error}")
    show(benchmark.findings(figures), notes)


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark that ``arguments`` name; returns the exit status."""
    if not arguments:
        print("Benchmarks, to be run as python -m benchmarks NAME (--help tells the options of each):")
        for name, summary in SUMMARIES.items():
            print(f"  {name:<10} {summary}")
        return 0
    if not arguments[0].startswith("-") and arguments[0] not in SUMMARIES:
        names = list(SUMMARIES)
        print(f"there is no benchmark {arguments[0]!r}: take {', '.join(names[:-1])} or {names[-1]}", file=sys.stderr)
        return 2
    chosen = parser().parse_args(arguments)
    try:
        if chosen.name == REPORT:
            print(report.write(chosen.output))
        else:
            run(next(each for each in BENCHMARKS if each.name == chosen.name), chosen)
    except BulkseedError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
