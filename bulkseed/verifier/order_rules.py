"""The rules of the order of time (T1 and T4), and of the pairs of DMs (M4), as SQL.

Runs of the first generator do not hold them, and are not judged by them.
"""

from __future__ import annotations

from collections.abc import Iterator

from bulkseed.plan.tables import WITH_IDS
from bulkseed.sql import compose
from bulkseed.verifier.rule_sql import Clause, RuleQuery, Scope, columns

__all__ = ["joining_queries", "order_queries", "pair_queries"]


def order_queries(scope: Scope) -> Iterator[RuleQuery]:
    """Yield the query of rule T1 for each table with ids."""
    if not scope.is_in_order:
        return
    for table in WITH_IDS:
        yield RuleQuery(
            rows=compose(
                "(SELECT t.id, t.created_at, lag(t.created_at) OVER (ORDER BY t.id) AS before "
                "FROM {table} AS t WHERE {ours}) AS t",
                table=scope.table(table),
                ours=scope.ours(table, "t"),
            ),
            key=compose("t.id"),
            describe=scope.describe(table, "id"),
            needs=columns(**{table: "id created_at"}),
            clauses=(
                Clause(
                    "T1",
                    f"the ids of {table} ascend with created_at",
                    compose("t.before IS NULL OR t.created_at >= t.before"),
                ),
            ),
        )


def joining_queries(scope: Scope) -> Iterator[RuleQuery]:
    """Yield the queries of rule T4, which need the app's column for ``joined``."""
    if not scope.is_in_order:
        return
    members, messages = scope.table("user_channels"), scope.table("messages")
    joined = columns(user_channels="user_id channel_id joined")
    yield RuleQuery(
        rows=compose(
            "{members} AS k JOIN {channels} AS c ON c.id = k.channel_id JOIN {users} AS u ON u.id = k.user_id "
            "WHERE {ours}",
            members=members,
            channels=scope.table("channels"),
            users=scope.table("users"),
            ours=scope.ours("user_channels", "k"),
        ),
        key=compose("k.channel_id"),
        describe=scope.describe("user_channels", "channel_id"),
        needs=joined | columns(channels="id", users="id"),
        clauses=(
            Clause(
                "T4",
                "joined is from the later of the channel's and the user's created_at to as_of",
                compose(
                    "k.joined >= c.created_at AND k.joined >= u.created_at AND k.joined <= {as_of}", as_of=scope.as_of
                ),
                columns(channels="created_at", users="created_at"),
            ),
            Clause(
                "T4",
                "the owner has joined when the channel was created",
                compose("k.user_id <> c.owner_id OR k.joined = c.created_at"),
                columns(channels="owner_id created_at"),
            ),
        ),
    )
    yield RuleQuery(
        rows=compose(
            "{messages} AS m JOIN {members} AS k ON k.channel_id = m.channel_id AND k.user_id = m.user_id WHERE {ours}",
            messages=messages,
            members=members,
            ours=scope.ours("messages", "m"),
        ),
        key=compose("m.id"),
        describe=scope.describe("messages", "id"),
        needs=joined | columns(messages="id channel_id user_id created_at"),
        clauses=(Clause("T4", "the author has joined before the message", compose("m.created_at >= k.joined")),),
    )
    yield RuleQuery(
        rows=compose(
            "{reactions} AS x JOIN {messages} AS m ON m.id = x.message_id "
            "JOIN {members} AS k ON k.channel_id = m.channel_id AND k.user_id = x.user_id WHERE {ours}",
            reactions=scope.table("message_reactions"),
            messages=messages,
            members=members,
            ours=scope.ours("message_reactions", "x"),
        ),
        key=compose("x.message_id"),
        describe=scope.describe("message_reactions", "message_id"),
        needs=joined | columns(messages="id channel_id", message_reactions="message_id user_id created_at"),
        clauses=(Clause("T4", "the user has joined before the reaction", compose("x.created_at >= k.joined")),),
    )


def pair_queries(scope: Scope) -> Iterator[RuleQuery]:
    """Yield the query of rule M4."""
    if not scope.is_in_order:
        return
    users = scope.run.plan.users
    yield RuleQuery(
        rows=compose(
            "(SELECT g.channel_id, count(*) OVER (PARTITION BY g.one, g.other) AS dms, count(*) OVER () AS all_dms "
            "FROM (SELECT m.channel_id, min(m.user_id) AS one, max(m.user_id) AS other FROM {members} AS m "
            "JOIN {channels} AS c ON c.id = m.channel_id WHERE {our_members} AND c.is_dm "
            "GROUP BY m.channel_id HAVING count(*) = 2) AS g) AS p",
            members=scope.table("user_channels"),
            channels=scope.table("channels"),
            our_members=scope.ours("user_channels", "m"),
        ),
        key=compose("p.channel_id"),
        describe=scope.describe("channels", "id"),
        needs=columns(channels="id is_dm", user_channels="channel_id user_id"),
        clauses=(
            Clause(
                "M4",
                "no two DMs have the same two members, as long as there are enough pairs of users",
                compose("p.dms = 1 OR p.all_dms > {pairs}", pairs=users * (users - 1) // 2),
            ),
        ),
    )
