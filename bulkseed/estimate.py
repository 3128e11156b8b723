"""What a plan is expected to come to, in rows and bytes, before anything is made."""

from __future__ import annotations

from typing import Final

from bulkseed.plan import Plan

__all__ = ["expected_bytes", "expected_rows"]

REACTIONS_PER_REACTED_MESSAGE: Final = 2
"""The mean of 1..3 (rule R1)."""

BYTES_PER_ROW: Final = {
    "users": 500,
    "channels": 275,
    "user_channels": 100,
    "messages": 210,
    "message_reactions": 112,
}
"""Heap and indexes of the reference schema, en_US."""
BYTES_PER_OTHER_ROW: Final = 150
"""A guess: a short row with two indexes."""


def expected_rows(plan: Plan) -> dict[str, float]:
    """The expected number of rows of each table, in dependency order (rules C1, M1, M2, G4, R1)."""
    chance = plan.probabilities
    regular_members = (2 + plan.largest_channel) / 2
    members = chance.channel_dm * 2 + (1 - chance.channel_dm) * regular_members
    messages = plan.top_level_messages * (1 + chance.message_reply)
    rows = {
        "users": float(plan.users),
        "channels": float(plan.channels),
        "user_channels": plan.channels * members,
        "messages": messages,
        "message_reactions": messages * chance.message_reactions * REACTIONS_PER_REACTED_MESSAGE,
    }
    for table in plan.model.all_tables():
        if table.name not in rows:
            extra = next(each for each in plan.scenario.extras if each.name == table.name)
            rows[extra.name] = rows[extra.follows] * extra.rows_per_parent
    return {name: rows[name] for name in plan.model.names}


def expected_bytes(plan: Plan) -> dict[str, float]:
    """The expected bytes on disk of each table's rows with their indexes (the reference schema, en_US)."""
    return {table: rows * BYTES_PER_ROW.get(table, BYTES_PER_OTHER_ROW) for table, rows in expected_rows(plan).items()}
