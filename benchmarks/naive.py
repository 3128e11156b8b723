"""A checklist's own script and bulkseed, into fresh databases of one server, in turns.

Both make the same plan. Seconds are those of seeding alone, from a started interpreter with all imported to the
last commit; bulkseed's include its checks, its ledger and ANALYZE, which the script does not do. Each run is in
a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from benchmarks import checklist, machine
from benchmarks.databases import Databases, served, value
from benchmarks.measure import Clock, Spread, clocked, in_fresh_process, peak_rss
from benchmarks.plans import plan_of
from benchmarks.results import keep, mebibytes, show
from bulkseed.address import Address
from bulkseed.load import load
from bulkseed.plan import Plan

__all__ = ["run", "seed_by_bulkseed", "seed_by_checklist"]

CONTESTANTS: Final = ("checklist", "bulkseed")

BROKEN: Final = {
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
"""Of the rules' main clauses, the rows that break them: a peer that made wrong rows would be no peer."""


def seed_by_checklist(scale: str, address: str) -> dict[str, Any]:
    """Seed with the checklist's script; returns rows, seconds and memory."""
    clock = Clock()
    with clocked(clock):
        rows = asyncio.run(checklist.seed(plan_of(scale), Address.parse(address)))
    return figures(clock, rows)


def seed_by_bulkseed(scale: str, address: str) -> dict[str, Any]:
    """Seed with bulkseed; returns rows, seconds and memory."""
    clock = Clock()
    with clocked(clock):
        report = asyncio.run(load(plan_of(scale), Address.parse(address)))
    return figures(clock, dict(report.rows))


def figures(clock: Clock, rows: dict[str, int]) -> dict[str, Any]:
    return {
        "rows": sum(rows.values()),
        "tables": rows,
        "seconds": clock.seconds,
        "cpu_seconds": clock.cpu_seconds,
        "peak_rss": peak_rss(),
    }


def check(address: Address, plan: Plan, made: dict[str, int]) -> None:
    """Raises AssertionError where the rows are not those that the plan and the rules ask for."""
    there = {table: value(address, f"SELECT count(*) FROM {table}") for table in made}
    assert there == made, f"{made} were made, {there} are there"
    top_level = value(address, "SELECT count(*) FROM messages WHERE parent_id IS NULL")
    assert (made["users"], made["channels"], top_level) == (plan.users, plan.channels, plan.top_level_messages)
    for rule, broken in BROKEN.items():
        count = value(address, f"SELECT count(*) FROM {broken}")
        assert count == 0, f"{count} rows break {rule}"


def contest(databases: Databases, contestant: str, scale: str) -> dict[str, Any]:
    """One run of one contestant into a fresh database."""
    with databases.fresh() as address:
        found = in_fresh_process(f"benchmarks.naive:seed_by_{contestant}", scale=scale, address=address.dsn)
        check(address, plan_of(scale), found["tables"])
    return {"contestant": contestant, "scale": scale, **found}


def run(scales: list[str], repeats: int, output: Path) -> None:
    """Run both in turns, ``repeats`` times at each scale; print the table and keep the figures in ``output``."""
    for scale in scales:
        plan_of(scale)  # one that is wrong is told before anything is started
    runs = []
    with served() as databases:
        on = machine.described(value(databases.admin, "SHOW server_version"))
        for scale in scales:
            for _ in range(repeats):
                runs += [contest(databases, contestant, scale) for contestant in CONTESTANTS]
    kept = keep(output, "naive", on, {"scales": scales, "repeats": repeats}, runs)
    columns = ("scale", "by", "rows", "seconds (min–max)", "rows/s", "peak RSS", "ratio of rows/s")  # noqa: RUF001
    show(
        f"Seeding by a checklist's script and by bulkseed: medians of {repeats}",
        columns,
        [row for scale in scales for row in compared([run for run in runs if run["scale"] == scale])],
        (machine.line(on), f"raw figures: {kept.name}"),
    )


def compared(runs: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The lines of one scale."""
    rates = {}
    lines: list[tuple[str, ...]] = []
    for contestant in CONTESTANTS:
        ours = [run for run in runs if run["contestant"] == contestant]
        rates[contestant] = Spread.of([run["rows"] / run["seconds"] for run in ours]).median
        lines.append(
            (
                ours[0]["scale"],
                contestant,
                f"{ours[0]['rows']:,}",
                str(Spread.of([run["seconds"] for run in ours])),
                f"{rates[contestant]:,.0f}",
                mebibytes(Spread.of([run["peak_rss"] for run in ours]).median),
                f"{rates[contestant] / rates['checklist']:.1f}x",
            )
        )
    return lines
