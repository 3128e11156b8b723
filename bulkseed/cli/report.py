"""What commands print on stdout: tables for people, one JSON object for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from bulkseed.plan.activity import expected_bytes, expected_rows
from bulkseed.plan.plan import Plan
from bulkseed.plan.shards import shard_counts

if TYPE_CHECKING:
    from bulkseed.cleaner.cleanup import CleanupReport
    from bulkseed.ledger.runs import History
    from bulkseed.loader.completion import LoadReport
    from bulkseed.verifier.verify import VerifyReport

__all__ = [
    "cleanup_json",
    "load_json",
    "plan_json",
    "print_cleanup",
    "print_json",
    "print_load",
    "print_plan",
    "print_runs",
    "print_verify",
]

PIPE_COLUMNS: Final = 200
PHASES: Final = ("check", "reserve", "drop", "copy", "rebuild", "analyze")
"""Those of a load that follow each other; a table's seconds are over all workers, so theirs may be more."""
UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def print_json(value: Any) -> None:
    """Print one JSON object."""
    print(json.dumps(value, ensure_ascii=False))


def console() -> Console:
    """At a terminal as wide as that is; in a file or pipe, wide enough that nothing is folded."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS)


def rows_table(title: str | None, columns: Iterable[str], lines: Iterable[tuple[str, ...]]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table


def load_json(report: LoadReport, database_url: str) -> dict[str, Any]:
    """The result of a load."""
    return {
        "run": report.run,
        "seed": report.plan.seed,
        "as_of": report.plan.as_of.isoformat(),
        "database_url": database_url,
        "rows": dict(report.rows),
        "loaded": dict(report.loaded),
        "seconds": dict(report.seconds),
        "workers": report.workers,
        "deferred": report.deferred,
    }


def print_load(report: LoadReport, database_url: str, next_commands: Mapping[str, str]) -> None:
    """Rows, seconds of COPY and rows/s by table, the wall time by phase, and what one may want to do next."""

    def line(name: str, rows: int, loaded: int, seconds: float) -> tuple[str, ...]:
        return name, f"{rows:,}", f"{seconds:,.2f}", f"{loaded / seconds:,.0f}" if seconds and loaded else ""

    whole, now = sum(report.rows.values()), sum(report.loaded.values())
    lines = [line(name, rows, report.loaded[name], report.seconds.get(name, 0.0)) for name, rows in report.rows.items()]
    lines.append(line("total", whole, now, report.seconds["total"]))
    screen = console()
    screen.print(rows_table(None, ("table", "rows", "seconds", "rows/s"), lines))
    phases = ", ".join(f"{name} {spent:,.2f}" for name, spent in report.seconds.items() if name in PHASES)
    workers = f"{report.workers} worker{'s' * (report.workers > 1)}"
    print(f"{workers}, indexes and keys {'rebuilt' if report.deferred else 'kept up'}; seconds: {phases}")
    if now < whole:
        print(f"{now:,} of these rows were loaded now, the others before the run was interrupted")
    print(f"run {report.run}: seed {report.plan.seed}, as of {report.plan.as_of.isoformat()}, in {database_url}")
    print_next(next_commands)


def print_runs(found: Iterable[History]) -> None:
    """A line for each run; a sentence where there is none."""
    lines = []
    for each in found:
        run, rows, expected = each.run, sum(each.run.rows.values()), sum(each.run.expected.values())
        lines.append(
            (
                str(run.number),
                each.state,
                f"{rows:,}" if run.is_complete else f"{rows:,} of {expected:,}",
                f"{run.began:%Y-%m-%d %H:%M}",
                f"{each.seconds:,.1f}",
                f"{run.login or '?'}{f'@{run.client}' if run.client else ''}",
                str(run.resumed or ""),
            )
        )
    if lines:
        console().print(rows_table(None, ("run", "state", "rows", "began (UTC)", "seconds", "by", "resumed"), lines))
    else:
        print("no runs: nothing was loaded here, or it was cleaned up again")


def print_next(commands: Mapping[str, str]) -> None:
    width = max(map(len, commands))
    for command, what in commands.items():
        print(f"  {command:<{width}}  {what}")


def plan_tables(plan: Plan, rows_per_shard: int) -> dict[str, dict[str, int]]:
    rows, size = expected_rows(plan), expected_bytes(plan)
    shards = shard_counts(plan, rows_per_shard)
    return {
        table: {
            "rows": round(rows[table]),
            "bytes": round(size[table]),
            "shards": shards[plan.model.stage(table)],
        }
        for table in rows
    }


def plan_json(plan: Plan, rows_per_shard: int) -> dict[str, Any]:
    """The plan, and what is expected of it by table and in all."""
    tables = plan_tables(plan, rows_per_shard)
    return {
        "plan": json.loads(plan.to_json()),
        "tables": tables,
        "total": {
            "rows": sum(table["rows"] for table in tables.values()),
            "bytes": sum(table["bytes"] for table in tables.values()),
            "shards": sum(shard_counts(plan, rows_per_shard).values()),
        },
    }


def print_plan(plan: Plan, rows_per_shard: int) -> None:
    """The same as a table."""
    values = plan_json(plan, rows_per_shard)
    lines = [
        (name, f"{each['rows']:,}", size(each["bytes"]), f"{each['shards']:,}")
        for name, each in (*values["tables"].items(), ("total", values["total"]))
    ]
    console().print(rows_table(None, ("table", "expected rows", "expected size", "shards"), lines))
    most = "" if plan.max_members is None else f", at most {plan.max_members:,} members a channel"
    print(
        f"{plan.users:,} users, {plan.channels:,} channels, {plan.messages_per_channel:,} messages a channel{most}; "
        f"seed {plan.seed}, as of {plan.as_of.isoformat()}, locale {plan.locale}, "
        f"scenario {plan.scenario.name}"
    )


def size(count: float) -> str:
    power = 0
    while count >= 1000 and power < len(UNITS) - 1:
        count /= 1000
        power += 1
    return f"{count:,.0f} {UNITS[power]}" if power == 0 or count >= 100 else f"{count:,.1f} {UNITS[power]}"


def print_verify(reports: Iterable[VerifyReport]) -> None:
    """Each rule with its violations, each probability with what was expected and found, and whether all holds."""
    screen = console()
    for report in reports:
        table = rows_table(f"run {report.run}", ("rule", "violations", "what holds"), ())
        table.columns[2].justify = "left"
        table.columns[2].no_wrap = False
        for rule in report.rules:
            said = rule.text if not rule.violations else f"{rule.text} (not so: {rule.example})"
            table.add_row(rule.rule, f"{rule.violations:,}", said, style="bold red" if rule.violations else None)
        screen.print(table)
        chances = rows_table(None, ("rule", "expected", "found", "of", "within chance", "what is drawn"), ())
        chances.columns[5].justify = "left"
        chances.columns[5].no_wrap = False
        for chance in report.chances:
            chances.add_row(
                chance.rule,
                f"{chance.expected:.4f}",
                f"{chance.found:.4f}",
                f"{chance.trials:,}",
                "yes" if chance.within else "NO",
                chance.text,
                style=None if chance.within else "bold red",
            )
        screen.print(chances)
        broken = [rule.rule for rule in report.rules if rule.violations]
        broken += [chance.rule for chance in report.chances if not chance.within]
        print(f"run {report.run}: " + (f"broken: {', '.join(dict.fromkeys(broken))}" if broken else "every rule holds"))


def cleanup_json(report: CleanupReport, database_url: str) -> dict[str, Any]:
    """The result of a cleanup."""
    return {
        "runs": list(report.runs),
        "database_url": database_url,
        "removed": dict(report.removed),
        "others": dict(report.others),
        "rebuilt": report.rebuilt,
    }


def print_cleanup(report: CleanupReport) -> None:
    """How many rows went, by table."""
    lines = [(table, f"{rows:,}") for table, rows in report.removed.items()]
    lines += [(f"{table} (not seeded)", f"{rows:,}") for table, rows in report.others.items()]
    console().print(rows_table(None, ("table", "rows removed"), lines))
    numbers = ", ".join(map(str, report.runs))
    rebuilt = f"; {report.rebuilt} indexes and keys rebuilt" if report.rebuilt else ""
    print(f"{'run' if len(report.runs) == 1 else 'runs'} {numbers} removed{rebuilt}")
