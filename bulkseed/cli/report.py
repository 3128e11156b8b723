"""The results of commands on stdout: tables for people, one JSON object for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from bulkseed.errors import escape_controls
from bulkseed.plan.activity import expected_bytes, expected_rows
from bulkseed.plan.plan import Plan
from bulkseed.plan.shards import shard_counts
from bulkseed.sql import plain_names

if TYPE_CHECKING:
    from bulkseed.cleaner.cleanup import CleanupReport
    from bulkseed.ledger.runs import History
    from bulkseed.loader.check import CheckReport
    from bulkseed.loader.complete import LoadReport
    from bulkseed.verifier.verify import VerifyReport

__all__ = [
    "check_json",
    "cleanup_json",
    "load_json",
    "plan_json",
    "print_check",
    "print_cleanup",
    "print_load",
    "print_plan",
    "print_runs",
    "print_verify",
]

PIPE_COLUMNS: Final = 200
PHASES: Final = ("check", "reserve", "drop", "copy", "rebuild", "analyze")
"""The phases of a load that follow each other. (The seconds of tables are summed over workers that run at once.)"""
STATES: Final = {"whole": "complete"}
"""The words that the screen has for states of the ledger; others are shown as they are."""
UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal, or, in a file or pipe, without wrapped lines and blanks at their ends."""
    if sys.stdout.isatty():
        Console().print(table)
        return
    screen = Console(width=PIPE_COLUMNS)
    with screen.capture() as captured:
        screen.print(table)
    print("\n".join(line.rstrip() for line in captured.get().split("\n")), end="")


def rows_table(title: str | None, columns: Iterable[str], lines: Iterable[tuple[str, ...]]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table


def load_json(report: LoadReport, database_url: str) -> dict[str, Any]:
    """Return the result of a load as JSON."""
    return report.to_dict() | {"database_url": database_url}


def print_load(report: LoadReport, database: str, next_commands: Mapping[str, str]) -> None:
    """Print rows, seconds of COPY and rows/s by table, the wall-clock seconds by phase, and useful next commands."""

    def line(name: str, rows: int, loaded: int, seconds: float) -> tuple[str, ...]:
        return name, f"{rows:,}", f"{seconds:,.2f}", f"{loaded / seconds:,.0f}" if seconds and loaded else ""

    total, loaded = sum(report.rows.values()), sum(report.loaded.values())
    lines = [line(name, rows, report.loaded[name], report.seconds.get(name, 0.0)) for name, rows in report.rows.items()]
    lines.append(line("total", total, loaded, report.seconds["total"]))
    print_table(rows_table(None, ("table", "rows", "seconds", "rows/s"), lines))
    phases = ", ".join(f"{name} {spent:,.2f}" for name, spent in report.seconds.items() if name in PHASES)
    workers = f"{report.workers} worker{'s' * (report.workers > 1)}"
    indexes = "dropped and rebuilt" if report.deferred else "kept during the load"
    print(f"{workers}; indexes and keys {indexes}")
    print(f"seconds by phase: {phases}")
    if loaded < total:
        print(f"{loaded:,} of these rows were loaded now, the others before the interruption")
    print(f"run {report.run}: seed {report.plan.seed}, as of {report.plan.as_of.isoformat()}")
    print(f"database: {database}")
    print_next(next_commands)


def print_runs(runs: Iterable[History]) -> None:
    """Print a line for each run, or that there is none."""
    lines: list[tuple[str, ...]] = []
    problems: list[str] = []
    for recorded in runs:
        if recorded.problem is not None:
            record = recorded.record
            lines.append((str(record.number), recorded.state, "?", f"{record.began:%Y-%m-%d %H:%M}", "", "?", ""))
            problems.append(recorded.problem)
            continue
        run, rows, expected = recorded.run, sum(recorded.run.rows.values()), sum(recorded.run.expected.values())
        lines.append(
            (
                str(run.number),
                STATES.get(recorded.state, recorded.state),
                f"{rows:,}" if run.is_complete else f"{rows:,} of about {expected:,}",
                f"{run.began:%Y-%m-%d %H:%M}",
                f"{recorded.seconds:,.1f}",
                f"{run.login or '?'}{f'@{run.client}' if run.client else ''}",
                str(run.resumed or ""),
            )
        )
    if lines:
        shown = rows_table(None, ("run", "state", "rows", "started (UTC)", "seconds", "user", "resumes"), lines)
        for column in shown.columns:  # in a narrow terminal, the others stay whole
            if column.header in {"rows", "started (UTC)", "user"}:
                column.no_wrap, column.overflow = False, "fold"
        print_table(shown)
        for problem in problems:
            print(escape_controls(problem))
    else:
        print("no run is recorded in this database")


def print_next(commands: Mapping[str, str]) -> None:
    width = max(map(len, commands))
    for command, purpose in commands.items():
        print(f"  {command:<{width}}  {purpose}")


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
    """Return the plan as JSON, with the expected rows, bytes and shards by table and in total."""
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
    """Print the same as a table."""
    values = plan_json(plan, rows_per_shard)
    lines = [
        (name, f"{table['rows']:,}", size(table["bytes"]), f"{table['shards']:,}")
        for name, table in (*values["tables"].items(), ("total", values["total"]))
    ]
    print_table(rows_table(None, ("table", "expected rows", "expected size", "shards"), lines))
    limit = "" if plan.max_members is None else f", at most {plan.max_members:,} members per channel"
    print(
        f"{plan.users:,} users, {plan.channels:,} channels, {plan.messages_per_channel:,} messages per channel{limit}; "
        f"seed {plan.seed}, as of {plan.as_of.isoformat()}, locale {plan.locale}, "
        f"scenario {plan.scenario.name}"
    )


def check_json(report: CheckReport, database_url: str, command: str) -> dict[str, Any]:
    """Return the result of a check as JSON; ``command`` is the one that would load."""
    return {
        "database_url": database_url,
        "server": report.server,
        "server_version": report.version,
        "database": report.database,
        "user": report.user,
        "schema": report.schema,
        "seed": report.plan.seed,
        "as_of": report.plan.as_of.isoformat(),
        "tables": {name: asdict(table) for name, table in report.tables.items()},
        "created": list(report.created),
        "dropped": list(report.dropped),
        "kept": report.kept or None,
        "ids": {table: {"first": first, "last": last} for table, (first, last) in report.ids.items()},
        "shards": report.shards,
        "workers": report.workers,
        "connections": {"needed": report.connections, "free": report.free_connections},
        "disks": [
            {"folder": str(disk.folder), "needed": round(disk.needed), "free": disk.free} for disk in report.disks
        ],
        "allow": report.title if report.production else None,
        "asks": report.asks,
        "notes": list(report.notes),
        "command": command,
    }


def print_check(report: CheckReport, database: str, command: str) -> None:
    """Print what a load would do, and the command for it."""
    lines = [
        (plain_names(table.name), f"about {table.existing:,}", f"{table.rows:,}", table.format, table.reason)
        for table in report.tables.values()
    ]
    headers = ("table", "existing rows", "rows to load", "COPY format", "why not binary")
    count = len(headers) if any(table.reason for table in report.tables.values()) else len(headers) - 1
    shown = rows_table(None, headers[:count], (line[:count] for line in lines))
    for column in shown.columns:
        if column.header in {"table", "why not binary"}:
            column.justify, column.no_wrap, column.overflow = "left", False, "fold"
    print_table(shown)
    facts = {
        "database": f"{report.database} as {report.user}, PostgreSQL {report.version} at {report.server}",
        "schema": report.schema,
        "created": ", ".join(report.created),
        "indexes and keys": f"{len(report.dropped)} are dropped, and rebuilt after the load"
        if report.dropped
        else f"stay in place ({report.kept})",
        "ids": "; ".join(f"{table} {first:,} to {last:,}" for table, (first, last) in report.ids.items()),
        "work": f"{report.shards:,} shards, {report.workers} worker{'s' * (report.workers > 1)}, "
        f"{report.connections} connections ({report.free_connections:,} free)",
        "disk": "; ".join(f"{size(disk.needed)} of {size(disk.free)} free in {disk.folder}" for disk in report.disks)
        or "not visible from here",
        "production": f"--allow is needed, since {' and '.join(report.production)} looks like production"
        if report.production
        else "",
        "": "the load asks for confirmation, unless --yes is given" if report.asks else "",
    }
    width = max(map(len, facts))
    for name, text in facts.items():
        if text:
            print(f"{name:<{width}}  {escape_controls(text)}")
    for note in report.notes:
        print(escape_controls(note))
    print(f"nothing was written to {database}; the load would start:\n  {escape_controls(command)}")


def size(count: float) -> str:
    power = 0
    while count >= 1000 and power < len(UNITS) - 1:
        count /= 1000
        power += 1
    return f"{count:,.0f} {UNITS[power]}" if power == 0 or count >= 100 else f"{count:,.1f} {UNITS[power]}"


def print_verify(reports: Iterable[VerifyReport]) -> None:
    """Print the violations of each rule, the expected and the found value of each probability, and the verdict."""
    for report in reports:
        table = rows_table(f"run {report.run}", ("rule", "violations", "requirement"), ())
        table.columns[2].justify = "left"
        table.columns[2].no_wrap = False
        for rule in report.rules:
            text = rule.text if not rule.violations else f"{rule.text} (found: {rule.example})"
            table.add_row(rule.rule, f"{rule.violations:,}", text, style="bold red" if rule.violations else None)
        print_table(table)
        chances = rows_table(None, ("rule", "expected", "found", "sample size", "within chance", "measure"), ())
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
        print_table(chances)
        violated = [rule.rule for rule in report.rules if rule.violations]
        violated += [chance.rule for chance in report.chances if not chance.within]
        print(
            f"run {report.run}: "
            + (f"violated: {', '.join(dict.fromkeys(violated))}" if violated else "every rule holds")
        )


def cleanup_json(report: CleanupReport, database_url: str) -> dict[str, Any]:
    """Return the result of a cleanup as JSON."""
    return report.to_dict() | {"database_url": database_url}


def print_cleanup(report: CleanupReport) -> None:
    """Print how many rows were removed, by table."""
    lines = [(table, f"{rows:,}") for table, rows in report.removed.items()]
    lines += [(f"{plain_names(table)} (not loaded by bulkseed)", f"{rows:,}") for table, rows in report.others.items()]
    print_table(rows_table(None, ("table", "rows removed"), lines))
    numbers = ", ".join(map(str, report.runs))
    rebuilt = f"; {report.rebuilt} indexes and keys rebuilt" if report.rebuilt else ""
    print(f"{'run' if len(report.runs) == 1 else 'runs'} {numbers} removed{rebuilt}")
    if report.other_rows:
        print(escape_controls(report.other_rows))
    else:
        returned = "; ".join(f"{table} {first:,} to {last:,}" for table, (first, last) in report.returned_ids.items())
        ids = f"ids given back to the sequences: {returned}; " if returned else ""
        print(f"{ids}the same load gets the same ids again")
