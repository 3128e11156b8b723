"""``bulkseed plan``."""

from __future__ import annotations

from typing import Any

import click

from bulkseed.cli import report
from bulkseed.cli.log_options import log_options
from bulkseed.cli.options import JSON_OPTION, PLAN_OPTIONS, SHARD_OPTION
from bulkseed.scenarios.planning import make_plan

__all__ = ["plan_command"]


@click.command("plan")
@PLAN_OPTIONS
@SHARD_OPTION
@JSON_OPTION
@log_options
def plan_command(rows_per_shard: int, as_json: bool, **plan_options: Any) -> None:
    """Show the expected rows, bytes and shards; write nothing."""
    plan = make_plan(**plan_options)
    if as_json:
        report.print_json(report.plan_json(plan, rows_per_shard))
    else:
        report.print_plan(plan, rows_per_shard)
