"""Load a plan, verify its rows, and remove them again."""

import sys

from bulkseed import BulkseedError, make_plan, sync


def main(url: str) -> None:
    plan = make_plan("2x", scenario="slack", seed=7, as_of="2026-06-01")
    report = sync.load(plan, url)
    print(f"run {report.run}: {sum(report.rows.values()):,} rows in {report.seconds['total']:.1f} s")
    for verified in sync.verify(url, report.run):
        for check in verified.broken:
            print(f"{check.rule}: {check.text}")
    removed = sync.cleanup(url, [report.run])
    print(f"{sum(removed.removed.values()):,} rows removed")


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except BulkseedError as error:
        sys.exit(f"{error.code}: {error}")
