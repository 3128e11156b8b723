"""``bulkseed plan``."""

from __future__ import annotations

from typing import Any

from bulkseed.cli.command import command
from bulkseed.cli.options import JSON_OPTION, PLAN_OPTIONS, SHARD_OPTION
from bulkseed.cli.output import print_json

__all__ = ["plan_command"]


@command("plan")
@PLAN_OPTIONS
@SHARD_OPTION
@JSON_OPTION
def plan_command(rows_per_shard: int, as_json: bool, **plan_options: Any) -> None:
    """Show the expected rows, bytes and shards; write nothing."""
    from bulkseed.cli import report
    from bulkseed.scenarios.planning import make_plan

    plan = make_plan(**plan_options)
    if as_json:
        print_json(report.plan_json(plan, rows_per_shard))
    else:
        report.print_plan(plan, rows_per_shard)
