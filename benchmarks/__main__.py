"""``python -m benchmarks``: list the benchmarks, run one by its name, or write the report of all results."""

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
    REPORT: "rewrite REPORT.md and the charts from the stored figures",
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    main_parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Benchmarks of bulkseed.")
    names = main_parser.add_subparsers(dest="name")
    for name, summary in SUMMARIES.items():
        command = names.add_parser(name, help=summary, description=summary)
        command.add_argument(
            "--output", type=Path, default=RESULTS, metavar="FOLDER", help="folder of the results (benchmarks/results)"
        )
    for benchmark in BENCHMARKS:
        command = names.choices[benchmark.name]
        command.add_argument(
            "--repeats", type=number, default=3, metavar="N", help="number of runs of each contestant (3)"
        )
        benchmark.options(command)
    return main_parser


def run(benchmark: Benchmark, chosen: argparse.Namespace) -> None:
    """Run a benchmark, print its findings, and store its figures, its chart and the report."""
    for name in benchmark.needs:
        library(name)
    settings: dict[str, Any] = {name: value for name, value in vars(chosen).items() if name not in ("name", "output")}
    for scale in [*settings.get("scales", []), *filter(None, [settings.get("scale")])]:
        plan_of(scale)  # report a wrong scale before anything is started
    with served() as databases:
        runs = list(benchmark.measure(databases, chosen))
        on = machine.describe(databases.version)
    variant = settings.get("scenario", settings.get("encoder", "none"))
    stem = benchmark.name if variant == "none" else f"{benchmark.name}-{variant}"
    figures = keep(chosen.output, stem, on, settings, runs)
    notes = [figures["line"], f"raw figures: {stem}.json"]
    try:
        report.write(chosen.output)
    except BulkseedError as error:  # the figures are stored: the chart can be drawn later
        notes.append(f"no report: {error}")
    show(benchmark.findings(figures), notes)


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark that ``arguments`` name, and return the exit status."""
    if not arguments:
        print("Benchmarks: python -m benchmarks NAME runs one, with --help it lists its options.")
        for name, summary in SUMMARIES.items():
            print(f"  {name:<10} {summary}")
        return 0
    if not arguments[0].startswith("-") and arguments[0] not in SUMMARIES:
        names = list(SUMMARIES)
        print(f"unknown benchmark {arguments[0]!r}: use {', '.join(names[:-1])} or {names[-1]}", file=sys.stderr)
        return 2
    chosen = parser().parse_args(arguments)
    try:
        if chosen.name == REPORT:
            print(report.write(chosen.output))
        else:
            run(next(benchmark for benchmark in BENCHMARKS if benchmark.name == chosen.name), chosen)
    except BulkseedError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
