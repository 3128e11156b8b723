"""``python -m benchmarks``: lists the benchmarks, or runs one by its name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks import generate, naive
from benchmarks.results import RESULTS
from bulkseed.errors import BulkseedError

BENCHMARKS: Final = {
    "naive": "a seeding script with ORM objects and Faker per row, and bulkseed beside it, into fresh databases",
    "generate": "making rows without a database, table by table",
}


def number(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """What the command line understands."""
    whole = argparse.ArgumentParser(prog="python -m benchmarks", description="Benchmarks of bulkseed.")
    names = whole.add_subparsers(dest="name")

    def benchmark(name: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        made = names.add_parser(name, help=BENCHMARKS[name], description=BENCHMARKS[name])
        made.add_argument("--repeats", type=number, default=3, metavar="N", help="times that each is run (3)")
        made.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER", help="where the JSON goes")
        made.set_defaults(run=run)
        return made

    ours = benchmark("naive", lambda chosen: naive.run(chosen.scales, chosen.repeats, chosen.output))
    ours.add_argument("--scales", nargs="+", default=["1x", "3x", "10x"], metavar="S", help="(1x 3x 10x)")
    ours = benchmark(
        "generate", lambda chosen: generate.run(chosen.scale, chosen.encoder, chosen.repeats, chosen.output)
    )
    ours.add_argument("--scale", default="100x", metavar="S", help="(100x)")
    ours.add_argument("--encoder", choices=list(generate.MADE), default="none", help="also encode for COPY (none)")
    return whole


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark that ``arguments`` name; returns the exit status."""
    if not arguments:
        print("Benchmarks, to be run as python -m benchmarks NAME (--help tells the options of each):")
        for name, summary in BENCHMARKS.items():
            print(f"  {name:<10} {summary}")
        return 0
    if not arguments[0].startswith("-") and arguments[0] not in BENCHMARKS:
        print(f"there is no benchmark {arguments[0]!r}: take {' or '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    chosen = parser().parse_args(arguments)
    try:
        chosen.run(chosen)
    except BulkseedError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
