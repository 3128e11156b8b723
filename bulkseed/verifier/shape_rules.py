"""What a shape adds to the rules: ranks and exponents, idle users, the hours of the week, threads.

Where the rules as they stand have none of it, nothing is judged here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from bulkseed.plan.activity import SMALLEST_GROUP_DM, Ranking
from bulkseed.postgres.connection import Connection
from bulkseed.randomness.distributions import fitted_exponent, rank_weights
from bulkseed.randomness.draws import Ints
from bulkseed.verifier.checks import ChanceCheck, RuleCheck
from bulkseed.verifier.rule_sql import Draw, RuleQuery, Scope

__all__ = ["judge_ranks", "judge_users", "shape_passes"]

EXACT: Final = 0.02
"""How far a fitted exponent may be off for no other reason than that it is fitted."""
LEAST_JUDGED: Final = 100
"""Fewer users have no exponent to speak of."""
FAR: Final = 3.0
"""Standard deviations of what one user writes, below which few are."""
SURE: Final = 6.0
"""Standard deviations of a count that chance does not make."""

Floats = npt.NDArray[np.float64]


def shape_passes(scope: Scope) -> Iterator[RuleQuery]:
    """The hours of the week, and the replies of threads (rules G2 and G4)."""
    if not scope.shape.even_week:
        yield hours(scope)
    if scope.shape.most_replies > 1:
        yield threads(scope)


def hours(scope: Scope) -> RuleQuery:
    """When top-level messages are written; of those that had a week or more for it, each share is exact.

    What is replied to may have had less time than its channel and author say: it waits for all authors of its thread.
    """
    messages, shape = scope.table("messages"), scope.shape
    rows = f"{messages} AS m WHERE {scope.ours('messages', 'm')} AND m.parent_id IS NULL"
    if not shape.idle:
        rows = (
            f"{messages} AS m JOIN {scope.table('channels')} AS c ON c.id = m.channel_id "
            f"JOIN {scope.table('users')} AS u ON u.id = m.user_id "
            f"WHERE {scope.ours('messages', 'm')} AND m.parent_id IS NULL "
            f"AND greatest(c.created_at, u.created_at) + interval '7 days' <= {scope.as_of} "
            f"AND NOT EXISTS (SELECT FROM {messages} AS r WHERE r.parent_id = m.id)"
        )
    weekend = "extract(isodow FROM m.created_at) > 5"
    office = f"NOT {weekend} AND extract(hour FROM m.created_at) BETWEEN 9 AND 16"
    return RuleQuery(
        rows=rows,
        key="m.id",
        example="messages.id {}",
        draws=(
            share("G2", "share of top-level messages in office hours", shape.office_hours, office),
            share("G2", "share of top-level messages at weekends", shape.weekends, weekend),
        ),
    )


def share(rule: str, text: str, expected: float, holds: str) -> Draw:
    return Draw(rule, text, expected, "count(*)", f"count(*) FILTER (WHERE {holds})")


def threads(scope: Scope) -> RuleQuery:
    """How many messages have replies, and how many they have."""
    plan, most = scope.run.plan, scope.shape.most_replies
    return RuleQuery(
        rows=f"(SELECT m.parent_id, count(*) AS replies FROM {scope.table('messages')} AS m "
        f"WHERE {scope.ours('messages', 'm')} AND m.parent_id IS NOT NULL GROUP BY m.parent_id) AS g",
        key="g.parent_id",
        example="messages.id {}",
        draws=(
            Draw(
                "G4",
                "share of top-level messages that have replies",
                plan.probabilities.message_reply,
                f"{plan.top_level_messages}::bigint",
                "count(*)",
            ),
            *(
                share("G4", f"share of them that have {number}", 1 / most, f"g.replies = {number}")
                for number in range(1, most + 1)
            ),
        ),
    )


async def judge_ranks(connection: Connection, scope: Scope) -> tuple[list[RuleCheck], list[ChanceCheck], float]:
    """What channels are and how much is in them, by rank; and how far chance scatters what users write.

    A user is in some channels and not in others: the standard deviation of the logarithm of what they write is
    about the root of the sum, over channels, of the square of the channel's share of messages times the chances
    against being a member.
    """
    rows = await connection.fetch(
        "SELECT c.is_dm, c.is_private, coalesce(g.members, 0), coalesce(t.messages, 0) "
        f"FROM {scope.table('channels')} AS c "
        "LEFT JOIN (SELECT m.channel_id, count(*) AS members "
        f"FROM {scope.table('user_channels')} AS m WHERE {scope.ours('user_channels', 'm')} GROUP BY m.channel_id) "
        "AS g ON g.channel_id = c.id "
        "LEFT JOIN (SELECT m.channel_id, count(*) AS messages "
        f"FROM {scope.table('messages')} AS m WHERE {scope.ours('messages', 'm')} AND m.parent_id IS NULL "
        f"GROUP BY m.channel_id) AS t ON t.channel_id = c.id WHERE {scope.ours('channels', 'c')}"
    )
    found = np.array([[int(value or 0) for value in row] for row in rows], dtype=np.int64).reshape(-1, 4)
    is_dm, sizes, messages = found[:, 0] == 1, found[:, 2], found[:, 3]
    shares, users = messages / max(1, messages.sum()), scope.run.plan.users
    scatter = math.sqrt(float((shares**2 * np.maximum(users / np.maximum(sizes, 1) - 1, 0)).sum()))
    ranking = scope.ranking
    if ranking is None:
        return [], [], scatter
    rules = [
        as_many("C1", "DMs", int(is_dm.sum()), ranking.dms),
        as_many("C1", "private regular channels", int(found[~is_dm, 1].sum()), int(ranking.private.sum())),
        as_many("M1", "group DMs", int((sizes[is_dm] >= SMALLEST_GROUP_DM).sum()), ranking.groups),
        by_rank("M2", "members", "regular channel", sizes[~is_dm], ranking.sizes[ranking.sizes > 0]),
        by_rank("N", "top-level messages", "channel", messages, ranking.messages),
    ]
    return rules, channel_exponents(scope, ranking, messages), scatter


def as_many(rule: str, what: str, found: int, asked: int) -> RuleCheck:
    example = f"{found:,} are, where {asked:,} are asked" if found != asked else None
    return RuleCheck(rule, f"as many channels are {what} as the shape asks", abs(found - asked), example)


def by_rank(rule: str, what: str, of: str, found: Ints, asked: Ints) -> RuleCheck:
    """The largest of ``found`` against all that is ``asked``, whatever channels they are of."""
    asked, found = np.sort(asked)[::-1], np.sort(found)[::-1]
    there = np.zeros(len(asked), dtype=np.int64)
    there[: len(found)] = found[: len(asked)]
    off, example = np.flatnonzero(there != asked), None
    if len(off):
        rank = int(off[0])
        example = f"the {of} of rank {rank + 1:,} has {there[rank]:,}, where {asked[rank]:,} are asked"
    return RuleCheck(rule, f"the {what} of a {of} are as its rank asks", len(off), example)


def channel_exponents(scope: Scope, ranking: Ranking, messages: Ints) -> list[ChanceCheck]:
    asked = scope.shape.channel_activity
    if not asked:
        return []
    skipped = int(scope.shape.viral > 0)
    found = fitted_exponent(np.sort(messages)[::-1][skipped:])
    # whole messages cannot be shared out exactly: few of them have another exponent than was asked
    expected = fitted_exponent(np.sort(ranking.messages)[::-1][skipped:])
    within = abs(found - expected) <= EXACT * max(asked, expected)
    return [ChanceCheck("N", "Zipf exponent of messages over channels", asked, found, int(messages.sum()), within)]


async def judge_users(
    connection: Connection, scope: Scope, scatter: float
) -> tuple[list[RuleCheck], list[ChanceCheck]]:
    """How much each user has written, and whether lately; ``scatter`` is what :func:`judge_ranks` found."""
    plan, shape = scope.run.plan, scope.shape
    if not (shape.user_activity or shape.idle):
        return [], []
    rows = await connection.fetch(
        f"SELECT count(*), count(*) FILTER (WHERE m.created_at > {scope.idle_since}) "
        f"FROM {scope.table('messages')} AS m WHERE {scope.ours('messages', 'm')} GROUP BY m.user_id"
    )
    counts: Ints = np.zeros(max(plan.users, len(rows)), dtype=np.int64)
    counts[: len(rows)] = [row[0] for row in rows]
    total, wrote_lately = int(counts.sum()), sum(row[1] > 0 for row in rows)
    rules, chances = [], []
    if shape.user_activity:
        found = fitted_exponent(counts)
        noise = math.sqrt(scatter**2 + plan.users / max(1, total))
        near = abs(found - shape.user_activity) <= EXACT * shape.user_activity + (1 + shape.user_activity) * noise
        # who writes more than all others together cannot answer themselves as often
        weights = rank_weights(plan.users, shape.user_activity)
        within = near or plan.users < LEAST_JUDGED or bool(2 * weights[0] > weights.sum())
        text = "Zipf exponent of messages over users"
        chances.append(ChanceCheck("G1", text, shape.user_activity, found, total, within))
    if shape.idle:
        active = plan.users - int(shape.idle * plan.users + 0.5)
        text = f"no more users than the shape asks have written in the last {shape.idle_days:,} days"
        more = max(0, wrote_lately - active)
        example = f"{wrote_lately:,} have, where {active:,} are asked" if more else None
        rules.append(RuleCheck("G2", text, more, example))
        silent = active - wrote_lately
        within = silent <= silent_by_chance(scope, active, total, scatter)
        text = f"share of users who wrote nothing in the last {shape.idle_days:,} days"
        chances.append(ChanceCheck("G2", text, shape.idle, 1 - wrote_lately / plan.users, plan.users, within))
    return rules, chances


def silent_by_chance(scope: Scope, active: int, total: int, scatter: float) -> float:
    """How many of the ``active`` users, at most, happen to have written nothing lately."""
    shape = scope.shape
    weights = rank_weights(scope.run.plan.users, shape.user_activity)
    lately = shape.idle_days / shape.history_days
    least = max(0.0, 1 - FAR * scatter) * lately * total * weights[:active] / weights.sum()
    silent: Floats = np.exp(-least)
    return float(silent.sum() + SURE * np.sqrt(silent.sum())) + 1
