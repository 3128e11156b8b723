"""Load a plan in an event loop, and show the progress."""

import asyncio
import sys

from bulkseed import LoadReport, NullListener, Phase, load, make_plan


class Progress(NullListener):
    """Prints each phase, and the steps of those that have steps."""

    def phase(self, phase: Phase, step: int = 0, steps: int | None = None) -> None:
        print(phase if steps is None else f"{phase} {step} of {steps}")

    def note(self, message: str) -> None:
        print(message)


async def main(url: str) -> LoadReport:
    plan = make_plan("2x", scenario="slack", seed=7, as_of="2026-06-01")
    return await load(plan, url, workers=2, defer="always", listener=Progress())


if __name__ == "__main__":
    report = asyncio.run(main(sys.argv[1]))
    print(f"run {report.run}: {sum(report.rows.values()):,} rows in {report.seconds['total']:.1f} s")
