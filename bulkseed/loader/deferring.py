"""Whether a load defers indexes and keys: dropped before it and rebuilt after, or kept up row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from bulkseed.choices import Defer
from bulkseed.deferral import Deferred, Kept, capture
from bulkseed.listeners import Watcher
from bulkseed.plan.estimate import expected_rows
from bulkseed.plan.plan import Plan
from bulkseed.postgres.connection import Connection
from bulkseed.target.target import Target, estimated_rows

__all__ = ["is_worth_it", "to_defer", "what_is_locked"]


LEAST_ROWS: Final = 20_000
"""Below so many new rows, dropping and rebuilding costs more than it saves (``python -m benchmarks inplace``)."""

MOST_OLD: Final = 5.0
"""So many times the new rows may be there already (``python -m benchmarks inplace``).

The two ways take as long at 7 (one worker) to 9 times (two); before that, what an app loses meanwhile weighs more.
"""

ACTING: Final = """
SELECT format('the trigger %s of %s', tgname, tgrelid::regclass) FROM pg_trigger
WHERE tgrelid = ANY ($1::text[]::regclass[]) AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype::int & 4 <> 0
UNION ALL
SELECT format('the rule %s of %s', rulename, ev_class::regclass) FROM pg_rewrite
WHERE ev_class = ANY ($1::text[]::regclass[]) AND ev_type = '3' AND ev_enabled <> 'D'
"""
"""What an app does at each INSERT into the tables $1: its ``ON CONFLICT``, say, needs the keys."""


def is_worth_it(new_rows: float, old_rows: float) -> bool:
    """Whether rebuilding the indexes of old and new rows costs less than keeping them up for the new ones."""
    return new_rows >= LEAST_ROWS and old_rows <= MOST_OLD * new_rows


async def to_defer(
    connection: Connection, target: Target, plan: Plan, defer: Defer, watcher: Watcher
) -> tuple[Deferred, ...]:
    """What is to be dropped and rebuilt; nothing where the load is to keep all of it up. Nothing is changed.

    Raises what asyncpg raises.
    """
    if defer == "never":
        return ()
    if defer == "auto":
        tables = target.tables()
        old_rows = await estimated_rows(connection, tables)
        if not is_worth_it(sum(expected_rows(plan).values()), old_rows):
            return ()
        acting = [row[0] for row in await connection.fetch(ACTING, tables)]
        if acting:
            watcher.note(
                f"indexes and keys stay in place during the load, as {', '.join(acting)} may want them: "
                "give --defer always if they do not"
            )
            return ()
    found = await capture(connection, target.schema, [target.model.name(table) for table in target.model.names])
    for said in told(found.kept):
        watcher.note(said)
    return found.deferred


def what_is_locked(deferred: Sequence[Deferred]) -> str:
    """What dropping and rebuilding does to who else works with the tables, in a sentence."""
    tables = ", ".join(sorted({each.table for each in deferred} | {each.parent for each in deferred if each.parent}))
    return (
        f"{len(deferred)} indexes and keys are dropped, and rebuilt after the load; {tables} are locked for a moment "
        "at each step, and against writing while an index of theirs is built (--defer never leaves all in place)"
    )


def told(kept: tuple[Kept, ...]) -> list[str]:
    """A sentence for each reason for which something stays in place during the load."""
    reasons = Counter((each.table, each.reason) for each in kept)
    names = {(each.table, each.reason): f"the {each.kind} {each.name}" for each in kept}
    return [
        f"{names[key] if count == 1 else f'{count} indexes and keys'} of {key[0]} "
        f"{'stays' if count == 1 else 'stay'} in place during the load: {key[1]}"
        for key, count in reasons.items()
    ]
