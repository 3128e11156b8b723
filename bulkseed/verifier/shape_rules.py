"""Checks of a shape: ranks and exponents, idle users, the hours of the week, threads.

The default shape has none of these, and nothing is judged here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from bulkseed.plan.activity import SMALLEST_GROUP_DM, Ranking
from bulkseed.postgres.connection import Connection
from bulkseed.randomness.distributions import fit_exponent, rank_weights
from bulkseed.randomness.draws import Ints
from bulkseed.sql import SQL, compose
from bulkseed.verifier.rule_checks import ChanceCheck, RuleCheck
from bulkseed.verifier.rule_sql import COUNT, Draw, RuleQuery, Scope, columns, count_where

__all__ = ["NEEDS", "judge_ranks", "judge_users", "shape_queries"]

EXACT: Final = 0.02
"""The relative error of a fitted exponent that is due to the fit alone."""
LEAST_JUDGED: Final = {False: 100, True: 30}
"""The fewest users whose exponent is judged: with the first generator, and in order of time."""
FAR: Final = 3.0
"""Standard deviations of one user's number of messages, below which few users are."""
SURE: Final = 6.0
"""Standard deviations of a count that chance does not reach."""

NEEDS: Final = columns(
    messages="id created_at user_id channel_id parent_id",
    channels="id is_dm is_private",
    user_channels="channel_id",
)
"""The columns that the ranks of channels and users are judged by."""

Floats = npt.NDArray[np.float64]


def shape_queries(scope: Scope) -> Iterator[RuleQuery]:
    """Yield the queries of the hours of the week, and of the replies of threads (rules G2 and G4)."""
    if not scope.shape.even_week:
        yield hours_query(scope)
    if scope.shape.most_replies > 1:
        yield threads_query(scope)


def hours_query(scope: Scope) -> RuleQuery:
    """Return the query of the moments of top-level messages.

    The shares are exact for the messages of a channel with a week or more. In runs of the first generator, this holds
    for a message whose channel and author were there for so long; a message with replies may have had less time, as it
    comes after all authors of its thread, and is left out.
    """
    messages, ours, shape = scope.table("messages"), scope.ours("messages", "m"), scope.shape
    if shape.idle:
        needs = columns(messages="id parent_id")
        rows = compose("{messages} AS m WHERE {ours} AND m.parent_id IS NULL", messages=messages, ours=ours)
    elif scope.is_in_order:
        needs = columns(
            messages="id parent_id channel_id",
            channels="id created_at",
            users="id created_at",
            user_channels="channel_id user_id",
        )
        rows = in_complete_weeks(scope)
    else:
        needs = columns(messages="id parent_id channel_id user_id", channels="id created_at", users="id created_at")
        rows = compose(
            "{messages} AS m JOIN {channels} AS c ON c.id = m.channel_id JOIN {users} AS u ON u.id = m.user_id "
            "WHERE {ours} AND m.parent_id IS NULL "
            "AND greatest(c.created_at, u.created_at) + interval '7 days' <= {as_of} "
            "AND NOT EXISTS (SELECT FROM {messages} AS r WHERE r.parent_id = m.id)",
            messages=messages,
            channels=scope.table("channels"),
            users=scope.table("users"),
            ours=ours,
            as_of=scope.as_of,
        )
    weekend = compose("extract(isodow FROM m.created_at) > 5")
    office = compose("NOT {weekend} AND extract(hour FROM m.created_at) BETWEEN 9 AND 16", weekend=weekend)
    created = columns(messages="created_at")
    return RuleQuery(
        rows=rows,
        key=compose("m.id"),
        describe=scope.describe("messages", "id"),
        needs=needs,
        draws=(
            Draw(
                "G2",
                "share of top-level messages in office hours",
                shape.office_hours,
                COUNT,
                count_where(office),
                created,
            ),
            Draw(
                "G2",
                "share of top-level messages at weekends",
                shape.weekends,
                COUNT,
                count_where(weekend),
                created,
            ),
        ),
    )


def in_complete_weeks(scope: Scope) -> SQL:
    """Return FROM and WHERE clauses for top-level messages of channels whose two first members are there for a week."""
    return compose(
        "{messages} AS m JOIN (SELECT k.channel_id FROM {members} AS k JOIN {users} AS u ON u.id = k.user_id "
        "JOIN {channels} AS c ON c.id = k.channel_id "
        "WHERE {our_members} AND greatest(c.created_at, u.created_at) + interval '7 days' <= {as_of} "
        "GROUP BY k.channel_id HAVING count(*) > 1) AS g ON g.channel_id = m.channel_id "
        "WHERE {ours} AND m.parent_id IS NULL",
        messages=scope.table("messages"),
        members=scope.table("user_channels"),
        users=scope.table("users"),
        channels=scope.table("channels"),
        our_members=scope.ours("user_channels", "k"),
        ours=scope.ours("messages", "m"),
        as_of=scope.as_of,
    )


def threads_query(scope: Scope) -> RuleQuery:
    """Return the query of the share of messages with replies, and of the number of these replies."""
    plan, most = scope.run.plan, scope.shape.most_replies
    return RuleQuery(
        rows=compose(
            "(SELECT m.parent_id, count(*) AS replies FROM {messages} AS m "
            "WHERE {ours} AND m.parent_id IS NOT NULL GROUP BY m.parent_id) AS g",
            messages=scope.table("messages"),
            ours=scope.ours("messages", "m"),
        ),
        key=compose("g.parent_id"),
        describe=scope.describe("messages", "id"),
        needs=columns(messages="id parent_id"),
        draws=(
            Draw(
                "G4",
                "share of top-level messages that have replies",
                plan.probabilities.message_reply,
                compose("{messages}::bigint", messages=plan.top_level_messages),
                COUNT,
            ),
            *(
                Draw(
                    "G4",
                    f"share of messages with replies that have {number}",
                    1 / most,
                    COUNT,
                    count_where(compose("g.replies = {number}", number=number)),
                )
                for number in range(1, most + 1)
            ),
        ),
    )


class Scatter(NamedTuple):
    """How far chance scatters the messages of users: in all channels, and in those by which activity is judged."""

    overall: float
    judged: float


async def judge_ranks(connection: Connection, scope: Scope) -> tuple[list[RuleCheck], list[ChanceCheck], Scatter]:
    """Judge the kinds and sizes of channels by rank; return also how far chance scatters the messages of users.

    A user is in some channels and not in others: the standard deviation of the logarithm of the user's number of
    messages is about the root of the sum, over channels, of the square of the channel's share of messages times the
    odds against membership. Needs the columns of :data:`NEEDS`.
    """
    query = compose(
        "SELECT c.is_dm, c.is_private, coalesce(g.members, 0), coalesce(t.messages, 0) FROM {channels} AS c "
        "LEFT JOIN (SELECT m.channel_id, count(*) AS members "
        "FROM {members} AS m WHERE {our_members} GROUP BY m.channel_id) AS g ON g.channel_id = c.id "
        "LEFT JOIN (SELECT m.channel_id, count(*) AS messages FROM {messages} AS m "
        "WHERE {our_messages} AND m.parent_id IS NULL GROUP BY m.channel_id) AS t ON t.channel_id = c.id "
        "WHERE {our_channels}",
        channels=scope.table("channels"),
        members=scope.table("user_channels"),
        our_members=scope.ours("user_channels", "m"),
        messages=scope.table("messages"),
        our_messages=scope.ours("messages", "m"),
        our_channels=scope.ours("channels", "c"),
    )
    rows = await connection.fetch(query)
    found = np.array([[int(value or 0) for value in row] for row in rows], dtype=np.int64).reshape(-1, 4)
    is_dm, sizes, messages = found[:, 0] == 1, found[:, 2], found[:, 3]
    users = scope.run.plan.users

    def scatter_of(messages: Ints) -> float:
        shares = messages / max(1, messages.sum())
        return math.sqrt(float((shares**2 * np.maximum(users / np.maximum(sizes, 1) - 1, 0)).sum()))

    judged = np.where(2 * sizes >= users, messages, 0) if scope.is_in_order else messages
    scatter = Scatter(scatter_of(messages), scatter_of(judged))
    ranking = scope.ranking
    if ranking is None:
        return [], [], scatter
    rules = [
        check_number("C1", "DMs", int(is_dm.sum()), ranking.dms),
        check_number("C1", "private regular channels", int(found[~is_dm, 1].sum()), int(ranking.private.sum())),
        check_number("M1", "group DMs", int((sizes[is_dm] >= SMALLEST_GROUP_DM).sum()), ranking.groups),
        check_by_rank("M2", "members", "regular channel", sizes[~is_dm], ranking.sizes[ranking.sizes > 0]),
        check_by_rank("N", "top-level messages", "channel", messages, ranking.messages),
    ]
    return rules, judge_channel_exponent(scope, ranking, messages), scatter


def check_number(rule: str, kind: str, found: int, asked: int) -> RuleCheck:
    example = f"{found:,} instead of {asked:,}" if found != asked else None
    return RuleCheck(rule, f"the number of channels that are {kind} is that of the shape", abs(found - asked), example)


def check_by_rank(rule: str, counted: str, owner: str, found: Ints, asked: Ints) -> RuleCheck:
    """Compare the numbers ``found`` with those ``asked`` by rank, the largest first, whichever channel has them."""
    asked, found = np.sort(asked)[::-1], np.sort(found)[::-1]
    present = np.zeros(len(asked), dtype=np.int64)
    present[: len(found)] = found[: len(asked)]
    wrong, example = np.flatnonzero(present != asked), None
    if len(wrong):
        rank = int(wrong[0])
        example = f"the {owner} of rank {rank + 1:,} has {present[rank]:,} instead of {asked[rank]:,}"
    return RuleCheck(rule, f"the number of {counted} of a {owner} is that of its rank", len(wrong), example)


def judge_channel_exponent(scope: Scope, ranking: Ranking, messages: Ints) -> list[ChanceCheck]:
    asked = scope.shape.channel_activity
    if not asked:
        return []
    skipped = int(scope.shape.viral > 0)
    found = fit_exponent(np.sort(messages)[::-1][skipped:])
    # messages are whole numbers: with few of them, the exponent of the ranking differs from the one asked for
    expected = fit_exponent(np.sort(ranking.messages)[::-1][skipped:])
    within = abs(found - expected) <= EXACT * max(asked, expected)
    return [ChanceCheck("N", "Zipf exponent of messages over channels", asked, found, int(messages.sum()), within)]


async def judge_users(
    connection: Connection, scope: Scope, scatter: Scatter
) -> tuple[list[RuleCheck], list[ChanceCheck]]:
    """Judge the number of messages of each user, and of late ones; ``scatter`` is that of :func:`judge_ranks`."""
    plan, shape = scope.run.plan, scope.shape
    if not (shape.user_activity or shape.idle):
        return [], []
    query = compose(
        "SELECT {judged}, count(*), {late} FROM {messages} AS m WHERE {ours} GROUP BY m.user_id",
        judged=count_where(is_judged(scope)) if scope.is_in_order else COUNT,
        late=count_where(compose("m.created_at > {idle_since}", idle_since=scope.idle_since)),
        messages=scope.table("messages"),
        ours=scope.ours("messages", "m"),
    )
    found = np.array([list(row) for row in await connection.fetch(query)], dtype=np.int64).reshape(-1, 3)
    rules, chances = [], []
    active = plan.users - int(shape.idle * plan.users + 0.5)
    if shape.user_activity:
        judged = active if scope.is_in_order else plan.users
        chances.append(judge_activity(scope, found[:, 0], judged, scatter.judged))
    if shape.idle:
        wrote_lately = int((found[:, 2] > 0).sum())
        text = f"no more users than the shape allows have written in the last {shape.idle_days:,} days"
        excess = max(0, wrote_lately - active)
        example = f"{wrote_lately:,} instead of at most {active:,}" if excess else None
        rules.append(RuleCheck("G2", text, excess, example))
        silent = active - wrote_lately
        within = silent <= most_silent_by_chance(scope, active, int(found[:, 1].sum()), scatter.overall)
        text = f"share of users who wrote nothing in the last {shape.idle_days:,} days"
        chances.append(ChanceCheck("G2", text, shape.idle, 1 - wrote_lately / plan.users, plan.users, within))
    return rules, chances


def is_judged(scope: Scope) -> SQL:
    """Return the SQL condition of the messages by which the activity of users is judged.

    Authors are drawn among the members who are there, in proportion to their activity. So it is judged in the channels
    that half of the users are in, by what is written when all are members; where some are idle, by what the others
    write after that.
    """
    return compose(
        "m.created_at > {since} AND m.channel_id IN (SELECT k.channel_id FROM {members} AS k WHERE {our_members} "
        "GROUP BY k.channel_id HAVING 2 * count(*) >= {users})",
        since=scope.idle_since if scope.shape.idle else scope.latest_signup,
        members=scope.table("user_channels"),
        our_members=scope.ours("user_channels", "k"),
        users=scope.run.plan.users,
    )


def judge_activity(scope: Scope, messages: Ints, judged: int, scatter: float) -> ChanceCheck:
    """Judge the exponent of the ``messages`` of users, of whom ``judged`` may have any."""
    asked = scope.shape.user_activity
    counts: Ints = np.zeros(max(judged, len(messages)), dtype=np.int64)
    counts[: len(messages)] = np.sort(messages)[::-1]
    total, found = int(counts.sum()), fit_exponent(counts[:judged])
    noise = math.sqrt(scatter**2 + judged / max(1, total))
    near = abs(found - asked) <= EXACT * asked + (1 + asked) * noise
    # replies are by others: a user with more messages than all others together has too few to reply to
    weights = rank_weights(judged, asked)
    # a shape may have no channel that half of the users are in
    is_judged = total > 0 and judged >= LEAST_JUDGED[scope.is_in_order]
    within = near or not is_judged or bool(2 * weights[0] > weights.sum())
    return ChanceCheck("G1", "Zipf exponent of messages over users", asked, found, total, within)


def most_silent_by_chance(scope: Scope, active: int, total: int, scatter: float) -> float:
    """Return the most of the ``active`` users that chance leaves without a message in the last days."""
    shape = scope.shape
    weights = rank_weights(scope.run.plan.users, shape.user_activity)
    lately = shape.idle_days / shape.history_days
    least = max(0.0, 1 - FAR * scatter) * lately * total * weights[:active] / weights.sum()
    silent: Floats = np.exp(-least)
    return float(silent.sum() + SURE * np.sqrt(silent.sum())) + 1
