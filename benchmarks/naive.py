"""A typical seeding script and bulkseed, in alternating runs into fresh databases of one server."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from typing import Any, Final

from benchmarks import checklist
from benchmarks.benchmark import Benchmark, scales_option, workers_option
from benchmarks.charts import OURS, PEER, panel
from benchmarks.databases import Databases, count, value
from benchmarks.loads import command_load
from benchmarks.measure import Clock, Spread, clocked, in_fresh_process, peak_rss
from benchmarks.plans import plan_of
from benchmarks.results import Figures, Findings, Run, matching, mebibytes
from benchmarks.turns import turns
from bulkseed.plan.plan import Plan
from bulkseed.postgres.address import Address

__all__ = ["BENCHMARK", "seed_by_checklist"]

CONTESTANTS: Final = ("checklist", "bulkseed")

METHOD: Final = """
A typical seeding script (`benchmarks/checklist.py`: ORM objects with a Faker call for each value, a query for each
channel's members, a commit for each channel) and `python -m bulkseed`, with the same plan. The time of the script is
that of the seeding, from a started interpreter with all imports to the last commit; the time of bulkseed is that of the
complete command, from the start of its interpreter to its exit. *seeding alone* is the time that bulkseed reports for
the load, which corresponds to that of the script. After each run the rows are counted, and the main clauses of the
rules are checked.
""".strip()

VIOLATIONS: Final = {
    "G1": "messages m WHERE (user_id, channel_id) NOT IN (SELECT user_id, channel_id FROM user_channels)",
    "G2": "messages m JOIN users u ON u.id = m.user_id JOIN channels c ON c.id = m.channel_id "
    "WHERE m.created_at < greatest(u.created_at, c.created_at) OR m.created_at > '2026-06-01' "
    "OR m.updated_at <> m.created_at",
    "G4, G5": "messages r JOIN messages p ON p.id = r.parent_id JOIN users u ON u.id = r.user_id "
    "WHERE r.id < p.id OR r.channel_id <> p.channel_id OR r.user_id = p.user_id OR p.parent_id IS NOT NULL "
    "OR u.created_at > p.created_at OR r.created_at > p.created_at + interval '1 hour' "
    "OR r.created_at < least(p.created_at + interval '1 minute', '2026-06-01')",
    "M1, M2": "channels c JOIN LATERAL (SELECT count(*) FROM user_channels WHERE channel_id = c.id) m ON true "
    "WHERE CASE WHEN is_dm THEN count <> 2 ELSE count < 2 END",
    "M3": "channels WHERE (owner_id, id) NOT IN (SELECT user_id, channel_id FROM user_channels)",
    "C1, C3, C5": "channels WHERE is_dm AND NOT is_private OR is_dm <> (description IS NULL) "
    "OR (is_private AND NOT is_dm) <> (join_code IS NOT NULL)",
    "C2, C4": "channels c JOIN users u ON u.id = c.owner_id "
    "WHERE c.created_at < u.created_at OR is_dm AND c.name <> u.name || ' DM'",
    "R1": "(SELECT count(*) FROM message_reactions GROUP BY message_id) n WHERE count > 3",
    "R2, R4": "message_reactions r JOIN messages m ON m.id = r.message_id JOIN users u ON u.id = r.user_id "
    "WHERE (r.user_id, m.channel_id) NOT IN (SELECT user_id, channel_id FROM user_channels) "
    "OR r.created_at < greatest(m.created_at, u.created_at) OR r.created_at > '2026-06-01'",
}
"""The rows that violate the main clauses of the rules: only a script that makes correct rows can be compared."""


def seed_by_checklist(scale: str, address: str) -> dict[str, Any]:
    """Seed with the script; return rows, seconds and memory."""
    clock = Clock()
    with clocked(clock):
        rows = asyncio.run(checklist.seed(plan_of(scale), Address.parse(address)))
    return {
        "rows": sum(rows.values()),
        "tables": rows,
        "seconds": clock.seconds,
        "cpu_seconds": clock.cpu_seconds,
        "peak_rss": peak_rss(),
    }


def check(address: Address, plan: Plan, made: dict[str, int]) -> None:
    """Raises AssertionError where the rows are not those that the plan and the rules ask for."""
    there = count(address, list(made))
    assert there == made, f"{made} were made, {there} are there"
    top_level = value(address, "SELECT count(*) FROM messages WHERE parent_id IS NULL")
    assert (made["users"], made["channels"], top_level) == (plan.users, plan.channels, plan.top_level_messages)
    for rule, broken in VIOLATIONS.items():
        found = value(address, f"SELECT count(*) FROM {broken}")
        assert found == 0, f"{found} rows break {rule}"


def measure(databases: Databases, chosen: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs of both at each scale."""
    contests = [(contestant, scale) for scale in chosen.scales for contestant in CONTESTANTS]
    for contestant, scale in turns(contests, chosen.repeats):
        with databases.fresh() as address:
            if contestant == "bulkseed":
                run = command_load(address, scale, workers=chosen.workers)
            else:
                run = in_fresh_process("benchmarks.naive:seed_by_checklist", scale=scale, address=address.dsn)
            check(address, plan_of(scale), run["tables"])
        yield {"contestant": contestant, "scale": scale, **run}


def findings(figures: Figures) -> Findings:
    """Return the lines of each scale; ratios are to the script."""
    lines: list[tuple[str, ...]] = []
    for scale in figures["settings"]["scales"]:
        script = matching(figures, contestant="checklist", scale=scale)
        ours = matching(figures, contestant="bulkseed", scale=scale)
        alone = [run | {"seconds": run["phases"]["total"]} for run in ours]
        for name, runs in (("checklist", script), ("bulkseed", ours), ("seeding alone", alone)):
            lines.append(line(scale, name, runs, rate(runs) / rate(script)))
    return Findings(
        f"Medians of {figures['settings']['repeats']}",
        ("scale", "by", "rows", "seconds (min–max)", "rows/s", "client RSS", "ratio of rows/s"),  # noqa: RUF001
        lines,
    )


def rate(runs: list[Run]) -> float:
    return Spread.of([run["rows"] / run["seconds"] for run in runs]).median


def line(scale: str, name: str, runs: list[Run], compared: float) -> tuple[str, ...]:
    return (
        scale,
        name,
        f"{runs[0]['rows']:,}",
        str(Spread.of([run["seconds"] for run in runs])),
        f"{rate(runs):,.0f}",
        mebibytes(Spread.of([run["peak_rss"] for run in runs]).median),
        f"{compared:.1f}x",
    )


def draw(figures: Figures, figure: Any) -> None:
    """Draw the rows per second of both."""
    scales = figures["settings"]["scales"]
    figure.set_size_inches(8, 3)
    axes = figure.add_subplot()
    panel(axes, "Rows per second (more is better)")
    for shift, contestant, color in ((-0.2, "checklist", PEER), (0.2, "bulkseed", OURS)):
        rates = [rate(matching(figures, contestant=contestant, scale=scale)) for scale in scales]
        drawn = axes.bar([index + shift for index in range(len(scales))], rates, 0.38, color=color, label=contestant)
        axes.bar_label(drawn, [f"{each:,.0f}" for each in rates], padding=2)
    axes.set_xticks(range(len(scales)), scales)
    axes.margins(y=0.15)
    axes.legend(loc="upper left")


def options(parser: argparse.ArgumentParser) -> None:
    scales_option(parser, "1x", "3x", "10x")
    workers_option(parser)


BENCHMARK: Final = Benchmark(
    "naive",
    "the bulkseed command, compared with a seeding script with ORM objects and Faker calls",
    METHOD,
    options,
    measure,
    findings,
    draw,
)
