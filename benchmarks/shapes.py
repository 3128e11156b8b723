"""The parameters of the scenarios that ship: as requested, as fitted to the rows, and the time to make the rows."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.benchmark import Benchmark, scale_option
from benchmarks.charts import OURS, decades, panel
from benchmarks.databases import Databases
from benchmarks.generate import WHOLE
from benchmarks.measure import Spread, in_fresh_process
from benchmarks.plans import SCENARIOS, plan_of
from benchmarks.results import Figures, Findings, Run, matching
from benchmarks.turns import turns
from bulkseed.generators import Context, shard_tables
from bulkseed.plan.plan import Placement, Plan, microseconds
from bulkseed.plan.shards import split_into_shards
from bulkseed.randomness.distributions import HOUR, MONDAY, fit_exponent
from bulkseed.text.faker_source import make_corpus

__all__ = ["BENCHMARK", "fit_once", "fitted"]

Numbers = npt.NDArray[np.int64]

DAY: Final = 24 * HOUR
HOURS: Final = 168
POINTS: Final = 150
"""The number of points of a line, evenly spaced on a logarithmic axis of ranks."""

COLUMNS: Final = {
    "users": ("id", "created_at"),
    "channels": ("is_dm", "is_private"),
    "user_channels": ("channel_id",),
    "messages": ("created_at", "user_id", "channel_id", "parent_id"),
    "message_reactions": (),
}
"""The columns from which the parameters are fitted."""

METHOD: Final = """
All rows of a scenario are made, and its parameters are fitted to them: exponents by maximum likelihood under Zipf's
law (from the top-level messages of channels, and from all messages of users), other parameters by counting. The time to
make the rows is measured in runs that alternate with the default scenario, without a database; imports are excluded.
""".strip()


def columns_of(plan: Plan) -> dict[str, dict[str, Numbers]]:
    """Return the values of COLUMNS as integers, 0 for null; times are microseconds since 1970."""
    placement = Placement(first_user=1, first_channel=1, first_message=1, reactions=tuple(range(1, 13)))
    context = Context(plan, placement, make_corpus(plan.locale))
    parts: defaultdict[tuple[str, str], list[Numbers]] = defaultdict(list)
    for shard in split_into_shards(plan):
        for table, batches in shard_tables(context, shard):
            for batch in batches:
                for name in COLUMNS[table]:
                    parts[table, name].append(batch.column(name).cast(pa.int64()).fill_null(0).to_numpy())
    return {
        table: {name: np.concatenate(parts[table, name]) for name in names if parts[table, name]}
        for table, names in COLUMNS.items()
    }


def fitted(plan: Plan, rows: dict[str, dict[str, Numbers]]) -> dict[str, list[float]]:
    """Return the requested and the found value of each parameter that the scenario sets or the rules have."""
    shape, chances, messages = plan.scenario.shape, plan.probabilities, rows["messages"]
    top_level = messages["parent_id"] == 0
    hour = hours_of(messages["created_at"][top_level])
    is_dm = rows["channels"]["is_dm"] == 1
    sizes = np.bincount(rows["user_channels"]["channel_id"], minlength=plan.channels + 1)[1:]
    channels, users = by_channel(plan, rows), np.bincount(messages["user_id"], minlength=plan.users + 1)[1:]
    threads = np.bincount(messages["parent_id"])[1:]
    last = np.zeros(plan.users + 1, dtype=np.int64)
    np.maximum.at(last, messages["user_id"], messages["created_at"])
    as_of = microseconds(plan.as_of)
    values: dict[str, tuple[float, float]] = {
        "channel_dm": (chances.channel_dm, is_dm.mean()),
        "channel_private": (chances.channel_private, rows["channels"]["is_private"][~is_dm].mean()),
        "message_reply": (chances.message_reply, (threads > 0).sum() / top_level.sum()),
        "most_replies": (shape.most_replies, threads.max(initial=0)),
    }
    if not shape.even_week:
        office = (hour < 120) & (hour % 24 >= 9) & (hour % 24 < 17)
        values["office_hours"] = (shape.office_hours, office.mean())
        values["weekends"] = (shape.weekends, (hour >= 120).mean())
    if shape.history:
        values["history"] = (shape.history, (as_of - rows["users"]["created_at"].min()) / DAY / 365.25)
    if shape.channel_activity:
        values["channel_activity"] = (shape.channel_activity, fit_exponent(channels))
    if shape.user_activity:
        values["user_activity"] = (shape.user_activity, fit_exponent(users))
    if shape.idle:
        values["idle"] = (shape.idle, (last[1:] <= as_of - shape.idle_days * DAY).mean())
    if shape.group_dms:
        values["group_dms"] = (shape.group_dms, (sizes[is_dm] > 2).mean())
    if shape.viral:
        values["viral"] = (shape.viral, channels.max() / channels.sum())
    return {name: [float(asked), float(found)] for name, (asked, found) in values.items()}


def by_channel(plan: Plan, rows: dict[str, dict[str, Numbers]]) -> Numbers:
    messages = rows["messages"]
    return np.bincount(messages["channel_id"][messages["parent_id"] == 0], minlength=plan.channels + 1)[1:]


def hours_of(moments: Numbers) -> Numbers:
    hours: Numbers = (moments - MONDAY) // HOUR % HOURS
    return hours


def line(counts: Numbers) -> list[list[int]]:
    """Return some ranks and their counts, the largest first."""
    ordered = np.sort(counts[counts > 0])[::-1]
    ranks = np.unique(np.geomspace(1, len(ordered), POINTS).round().astype(np.int64))
    return [ranks.tolist(), ordered[ranks - 1].tolist()]


def fit_once(scale: str, scenario: str) -> dict[str, Any]:
    """Make every row of a scenario and fit its parameters; return them, and the data of the chart."""
    plan = plan_of(scale, scenario)
    rows = columns_of(plan)
    return {
        "fitted": fitted(plan, rows),
        "channels": line(by_channel(plan, rows)),
        "users": line(np.bincount(rows["messages"]["user_id"])),
        "hours": np.bincount(hours_of(rows["messages"]["created_at"]), minlength=HOURS).tolist(),
    }


def measure(databases: Databases, chosen: argparse.Namespace) -> Iterator[Run]:
    """Fit once, then make all rows in runs that alternate with the default scenario; yield the runs."""
    shape = in_fresh_process("benchmarks.shapes:fit_once", scale=chosen.scale, scenario=chosen.scenario)
    yield shape | {"of": "shape"}
    for scenario in turns(sorted({"default", chosen.scenario}), chosen.repeats):
        generated = in_fresh_process(
            "benchmarks.generate:generate_once", scale=chosen.scale, encoder="none", scenario=scenario
        )
        yield generated["parts"][WHOLE] | {"of": scenario, "peak_rss": generated["peak_rss"]}


def findings(figures: Figures) -> Findings:
    """Return a line for each parameter, and the time of its rows compared with the default scenario."""
    settings = figures["settings"]
    (shape,) = matching(figures, of="shape")
    ours, theirs = (
        Spread.of([run["cpu_seconds"] / run["rows"] * 1e6 for run in matching(figures, of=name)])
        for name in (settings["scenario"], "default")
    )
    rows = matching(figures, of=settings["scenario"])[0]["rows"]
    return Findings(
        f"The scenario {settings['scenario']} at {settings['scale']}",
        ("parameter", "requested", "found", "difference"),
        [
            (name, f"{asked:.4g}", f"{found:.4g}", f"{found / asked - 1:+.2%}" if asked else "")
            for name, (asked, found) in shape["fitted"].items()
        ],
        (
            f"{rows:,} rows, made in {ours} CPU µs per row: "
            f"{ours.median / theirs.median:.2f} of the default's {theirs}, "
            f"medians of {settings['repeats']} alternating runs",
        ),
    )


def draw(figures: Figures, figure: Any) -> None:
    """Draw the messages by rank of channel, by rank of user, and by hour of the week."""
    (shape,) = matching(figures, of="shape")
    figure.set_size_inches(10, 2.8)
    channels, users, week = figure.subplots(1, 3)
    for axes, title, of in ((channels, "Messages of channels", "channel"), (users, "Messages of users", "user")):
        ranks, counts = shape[f"{of}s"]
        panel(axes, title, f"rank of the {of}")
        axes.plot(ranks, counts, color=OURS, linewidth=2)
        decades(axes.xaxis, axes.set_xscale)
        decades(axes.yaxis, axes.set_yscale)
        axes.set_ylim(bottom=min(counts) / 2, top=max(counts) * 2)
    total = sum(shape["hours"])
    panel(week, "Hours of the week (UTC)", "", "% of messages")
    week.fill_between(range(HOURS), [count / total * 100 for count in shape["hours"]], color=OURS, step="mid")
    week.set_ylim(bottom=0)
    week.set_xticks(range(12, HOURS, 24), ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])
    week.tick_params(axis="x", length=0)


def options(parser: argparse.ArgumentParser) -> None:
    scale_option(parser, "100x")
    parser.add_argument("--scenario", choices=SCENARIOS, default="slack", help="scenario to measure (slack)")


BENCHMARK: Final = Benchmark(
    "shapes",
    "the parameters of a scenario, fitted to its rows, and the time to make the rows",
    METHOD,
    options,
    measure,
    findings,
    draw,
    needs=(),
)
