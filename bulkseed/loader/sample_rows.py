"""A few rows of a load in temporary tables, over which indexes are tried before any of them is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bulkseed.copy.writer import CopyPlan, copy_batches
from bulkseed.plan.plan import Plan
from bulkseed.postgres.connection import Connection, translate_errors
from bulkseed.target.copy_plan import with_keys
from bulkseed.target.target import Target
from bulkseed.target.trial_load import make_samples
from bulkseed.text.names import Corpus

__all__ = ["fill_with_samples"]


async def fill_with_samples(
    connection: Connection,
    target: Target,
    copy_plans: Mapping[str, CopyPlan],
    plan: Plan,
    corpus: Corpus,
    copies: Mapping[str, str],
) -> None:
    """Copy a few rows of the load of ``plan`` into temporary tables: ``copies`` has their names, by the table's name.

    Raises InputError for errors of the user's code, and RunError where a copy refuses the rows.
    """
    samples = await make_samples(connection, target, plan, corpus)
    for name, batches in samples.batches.items():
        actual = target.model.name(name)
        if actual in copies:
            copy_plan = with_keys(copy_plans[name], target.model.by_name[name], samples.keys)
            with translate_errors(connection, f"trying {actual}"):
                into = replace(copy_plan, table=copies[actual], schema="pg_temp")
                await copy_batches(connection, into, iter(batches), lambda _: None)
