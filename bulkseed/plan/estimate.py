"""What a plan is expected to come to, in rows and bytes, before anything is made."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from bulkseed.plan.activity import LARGEST_GROUP_DM, SMALLEST_GROUP_DM, Ranking, ranking_of
from bulkseed.plan.plan import Plan

__all__ = ["expected_bytes", "expected_channel_rows", "expected_rows"]

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
    messages = plan.top_level_messages * (1 + replies_per_message(plan))
    rows = {
        "users": float(plan.users),
        "channels": float(plan.channels),
        "user_channels": expected_members(plan),
        "messages": messages,
        "message_reactions": messages * reactions_per_message(plan),
    }
    model = plan.model
    for table in model.all_tables():
        if (extra := model.extras.get(table.name)) is not None:
            rows[extra.name] = rows[extra.follows] * extra.rows_per_parent
    return {name: rows[name] for name in model.names}


def replies_per_message(plan: Plan) -> float:
    return plan.probabilities.message_reply * plan.scenario.shape.replies_per_thread


def reactions_per_message(plan: Plan) -> float:
    return plan.probabilities.message_reactions * REACTIONS_PER_REACTED_MESSAGE


def regular_members(plan: Plan) -> float:
    return (2 + plan.largest_channel) / 2


def expected_members(plan: Plan) -> float:
    ranking = ranking_of(plan)
    if ranking is not None:
        return float(members_by_rank(plan, ranking).sum())
    dm = plan.probabilities.channel_dm
    return plan.channels * (dm * 2 + (1 - dm) * regular_members(plan))


def members_by_rank(plan: Plan, ranking: Ranking) -> npt.NDArray[np.float64]:
    members = np.full(plan.channels, 2.0)
    members[: ranking.regular] = np.where(ranking.sizes > 0, ranking.sizes, regular_members(plan))
    group = (SMALLEST_GROUP_DM + min(LARGEST_GROUP_DM, plan.users)) / 2
    members[ranking.regular : ranking.regular + ranking.groups] = group
    return members


def expected_channel_rows(plan: Plan) -> npt.NDArray[np.float64] | None:
    """The expected rows of each channel with all that is in it: shape ``(channels,)``; None where all are alike."""
    ranking = ranking_of(plan)
    if ranking is None:
        return None
    per_message = (1 + replies_per_message(plan)) * (1 + reactions_per_message(plan))
    by_rank = 1 + members_by_rank(plan, ranking) + ranking.messages * per_message
    return by_rank[ranking.rank]


def expected_bytes(plan: Plan) -> dict[str, float]:
    """The expected bytes on disk of each table's rows with their indexes (the reference schema, en_US)."""
    return {table: rows * BYTES_PER_ROW.get(table, BYTES_PER_OTHER_ROW) for table, rows in expected_rows(plan).items()}
