"""The rules of users, channels and memberships (U1 to M3) as SQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bulkseed.plan.activity import LARGEST_GROUP_DM, SMALLEST_GROUP_DM
from bulkseed.sql import SQL, compose, identifier, literal
from bulkseed.verifier.rule_sql import COUNT, NEVER, Clause, Draw, RuleQuery, Scope, columns, count_where

__all__ = ["channel_queries", "membership_queries", "user_queries"]

AUTH0_ID: Final = r"^auth0\|[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
"""RFC 9562: version 4 in the 13th digit, the variant's bits 10 in the 17th."""
EMAIL: Final = r"^[a-z0-9]+([.-][a-z0-9]+)*@[a-z0-9-]+(\.[a-z0-9-]+)+$"
PICTURE: Final = r"^https://[a-z0-9-]+(\.[a-z0-9-]+)+/\S+$"
JOIN_CODE: Final = "^[A-HJ-NP-Z2-9]{8}$"
"""Without I and O, which look like 1 and 0."""

QUARTERS: Final = 4


def user_queries(scope: Scope) -> Iterator[RuleQuery]:
    """Yield the queries of rules U1 to U5, except those that need the names of the locale."""
    yield RuleQuery(
        rows=compose("{users} AS u WHERE {ours}", users=scope.table("users"), ours=scope.ours("users", "u")),
        key=compose("u.id"),
        describe=scope.describe("users", "id"),
        needs=columns(users="id"),
        clauses=(
            Clause(
                "U1",
                "auth0_id is auth0| and a version-4 UUID",
                compose("u.auth0_id ~ {pattern}", pattern=literal(AUTH0_ID)),
                columns(users="auth0_id"),
            ),
            Clause(
                "U2",
                "email has the form of an address",
                compose("u.email ~ {pattern}", pattern=literal(EMAIL)),
                columns(users="email"),
            ),
            Clause("U3", "is_active is set", compose("u.is_active IS NOT NULL"), columns(users="is_active")),
            Clause(
                "U4",
                f"created_at is from {describe_start(scope)} to {describe_end(scope)}",
                compose("u.created_at BETWEEN {first} AND {last}", first=scope.history_start, last=scope.latest_signup),
                columns(users="created_at"),
            ),
            Clause(
                "U5",
                "picture is an https address",
                compose("u.picture ~ {pattern}", pattern=literal(PICTURE)),
                columns(users="picture"),
            ),
            Clause(
                "U5",
                "bio has 1 to 200 characters",
                compose("char_length(u.bio) BETWEEN 1 AND 200"),
                columns(users="bio"),
            ),
        ),
        draws=(
            Draw(
                "U3",
                "share of users who are active",
                scope.run.plan.probabilities.user_active,
                COUNT,
                count_where(compose("u.is_active")),
                columns(users="is_active"),
            ),
        ),
    )
    yield repeated_values(scope, "users", "auth0_id", "U1")
    yield repeated_values(scope, "users", "email", "U2")


def describe_start(scope: Scope) -> str:
    """Return the start of the history in words."""
    return f"{scope.shape.history:g} years before as_of" if scope.shape.history else "1 January"


def describe_end(scope: Scope) -> str:
    """Return the last moment of accounts and channels in words."""
    days = scope.shape.settled_days
    return f"{days:,} days before as_of" if days else "as_of"


def repeated_values(scope: Scope, table: str, column: str, rule: str) -> RuleQuery:
    """Return the query for the run's rows whose value another row of the whole table has too."""
    return RuleQuery(
        rows=compose(
            "{table} AS t WHERE {ours} "
            "AND EXISTS (SELECT FROM {table} AS o WHERE o.{column} = t.{column} AND o.id <> t.id)",
            table=scope.table(table),
            ours=scope.ours(table, "t"),
            column=identifier(column),
        ),
        key=compose("t.id"),
        describe=scope.describe(table, "id"),
        needs=columns(**{table: f"id {column}"}),
        clauses=(Clause(rule, f"{column} is unique in the whole table", NEVER),),
    )


def channel_queries(scope: Scope) -> Iterator[RuleQuery]:
    """Yield the queries of rules C1 to C5, except those that need the companies of the locale."""
    probabilities, ranking = scope.run.plan.probabilities, scope.ranking
    dm, private = probabilities.channel_dm, probabilities.channel_private
    if ranking is not None:
        # with ranks, these numbers are not drawn: they are rounded to whole channels
        dm = ranking.dms / scope.run.plan.channels
        private = float(ranking.private.mean()) if ranking.regular else private
    yield RuleQuery(
        rows=compose(
            "{channels} AS c LEFT JOIN {users} AS o ON o.id = c.owner_id AND {our_users} WHERE {our_channels}",
            channels=scope.table("channels"),
            users=scope.table("users"),
            our_users=scope.ours("users", "o"),
            our_channels=scope.ours("channels", "c"),
        ),
        key=compose("c.id"),
        describe=scope.describe("channels", "id"),
        needs=columns(channels="id owner_id", users="id"),
        clauses=(
            Clause(
                "C1",
                "is_dm and is_private are set",
                compose("c.is_dm IS NOT NULL AND c.is_private IS NOT NULL"),
                columns(channels="is_dm is_private"),
            ),
            Clause(
                "C1",
                "a DM is private",
                compose("NOT c.is_dm OR c.is_private"),
                columns(channels="is_dm is_private"),
            ),
            Clause(
                "C2",
                "a DM's name is the owner's name followed by ' DM'",
                compose("NOT c.is_dm OR c.name = o.name || ' DM'"),
                columns(channels="is_dm name", users="name"),
            ),
            Clause(
                "C3",
                "a DM has no description",
                compose("NOT c.is_dm OR c.description IS NULL"),
                columns(channels="is_dm description"),
            ),
            Clause(
                "C3",
                "a regular channel's description is a text of 1 to 100 characters",
                compose(r"c.is_dm OR char_length(c.description) <= 100 AND c.description ~ '\S'"),
                columns(channels="is_dm description"),
            ),
            Clause("C4", "owner_id is a user of the run", compose("o.id IS NOT NULL")),
            Clause(
                "C4",
                f"created_at is from the owner's created_at to {describe_end(scope)}",
                compose("c.created_at BETWEEN o.created_at AND {last}", last=scope.latest_signup),
                columns(channels="created_at", users="created_at"),
            ),
            Clause(
                "C5",
                "a channel has a join_code if and only if it is private and not a DM",
                compose("(c.join_code IS NOT NULL) = (c.is_private AND NOT c.is_dm)"),
                columns(channels="join_code is_private is_dm"),
            ),
            Clause(
                "C5",
                "join_code is 8 of the characters A-Z and 2-9 without look-alikes",
                compose("c.join_code IS NULL OR c.join_code ~ {pattern}", pattern=literal(JOIN_CODE)),
                columns(channels="join_code"),
            ),
        ),
        draws=(
            Draw(
                "C1",
                "share of channels that are DMs",
                dm,
                COUNT,
                count_where(compose("c.is_dm")),
                columns(channels="is_dm"),
            ),
            Draw(
                "C1",
                "share of regular channels that are private",
                private,
                count_where(compose("NOT c.is_dm")),
                count_where(compose("NOT c.is_dm AND c.is_private")),
                columns(channels="is_dm is_private"),
            ),
        ),
    )
    yield repeated_values(scope, "channels", "join_code", "C5")


def membership_queries(scope: Scope) -> Iterator[RuleQuery]:
    """Yield the queries of rules M1 to M3, except that the owner's row is the first: a table keeps no order of rows."""
    channels, members = scope.table("channels"), scope.table("user_channels")
    our_channels, our_members = scope.ours("channels", "c"), scope.ours("user_channels", "m")
    largest = scope.run.plan.users if scope.shape.viral else scope.run.plan.largest_channel
    yield RuleQuery(
        rows=compose(
            "{members} AS m LEFT JOIN {channels} AS c ON c.id = m.channel_id "
            "LEFT JOIN {users} AS u ON u.id = m.user_id AND {our_users} WHERE {our_members}",
            members=members,
            channels=channels,
            users=scope.table("users"),
            our_users=scope.ours("users", "u"),
            our_members=our_members,
        ),
        key=compose("m.channel_id"),
        describe=scope.describe("user_channels", "channel_id"),
        needs=columns(user_channels="channel_id user_id", channels="id", users="id"),
        clauses=(
            Clause("M2", "the channel of every membership exists", compose("c.id IS NOT NULL")),
            Clause(
                "M1",
                "the members of a DM are users of the run",
                compose("NOT c.is_dm OR u.id IS NOT NULL"),
                columns(channels="is_dm"),
            ),
            Clause(
                "M2",
                "the members of a regular channel are users of the run",
                compose("c.is_dm OR u.id IS NOT NULL"),
                columns(channels="is_dm"),
            ),
        ),
    )
    yield RuleQuery(
        rows=compose(
            "{channels} AS c "
            "LEFT JOIN (SELECT m.channel_id, count(*) AS members, count(DISTINCT m.user_id) AS different "
            "FROM {members} AS m WHERE {our_members} GROUP BY m.channel_id) AS g "
            "ON g.channel_id = c.id WHERE {our_channels}",
            channels=channels,
            members=members,
            our_members=our_members,
            our_channels=our_channels,
        ),
        key=compose("c.id"),
        describe=scope.describe("channels", "id"),
        needs=columns(channels="id", user_channels="channel_id user_id"),
        clauses=(
            dm_members(scope),
            Clause(
                "M2",
                f"a regular channel has 2 to {largest} members",
                compose("c.is_dm OR g.members BETWEEN 2 AND {largest}", largest=largest),
                columns(channels="is_dm"),
            ),
            Clause(
                "M2",
                "the members of a regular channel are all different",
                compose("c.is_dm OR g.members = g.different"),
                columns(channels="is_dm"),
            ),
        ),
        draws=(*group_draws(scope), *size_draws(scope)),
    )
    yield RuleQuery(
        rows=compose(
            "{channels} AS c WHERE {our_channels} "
            "AND NOT EXISTS (SELECT FROM {members} AS m WHERE m.channel_id = c.id AND m.user_id = c.owner_id)",
            channels=channels,
            our_channels=our_channels,
            members=members,
        ),
        key=compose("c.id"),
        describe=scope.describe("channels", "id"),
        needs=columns(channels="id owner_id", user_channels="channel_id user_id"),
        clauses=(
            Clause(
                "M3", "the owner is a member (not checked: that it is the first row, as tables have no order)", NEVER
            ),
        ),
    )


def dm_members(scope: Scope) -> Clause:
    """Return the clause of rule M1 on the number of members: of two, or with group DMs of more."""
    if not scope.shape.group_dms:
        return Clause(
            "M1",
            "a DM has two members, the owner and one other",
            compose("NOT c.is_dm OR g.members = 2 AND g.different = 2"),
            columns(channels="is_dm"),
        )
    return Clause(
        "M1",
        f"a DM has 2 to {LARGEST_GROUP_DM} members, all different",
        compose(
            "NOT c.is_dm OR g.members BETWEEN 2 AND {largest} AND g.different = g.members", largest=LARGEST_GROUP_DM
        ),
        columns(channels="is_dm"),
    )


def group_draws(scope: Scope) -> Iterator[Draw]:
    """Yield the draws of group DMs: how many there are, and their mean number of members."""
    ranking = scope.ranking
    if ranking is None or not ranking.groups:
        return
    is_group = compose("c.is_dm AND g.members >= {smallest}", smallest=SMALLEST_GROUP_DM)
    yield Draw(
        "M1",
        "share of DMs that are group DMs",
        ranking.groups / ranking.dms,
        count_where(compose("c.is_dm")),
        count_where(is_group),
        columns(channels="is_dm"),
    )
    largest = min(LARGEST_GROUP_DM, scope.run.plan.users)
    yield Draw(
        "M1",
        "mean number of members of a group DM",
        (SMALLEST_GROUP_DM + largest) / 2,
        count_where(is_group),
        sum_of_members(is_group),
        columns(channels="is_dm"),
        low=float(SMALLEST_GROUP_DM),
        high=float(largest),
    )


def sum_of_members(condition: SQL) -> SQL:
    return compose("sum(g.members) FILTER (WHERE {condition})", condition=condition)


def size_draws(scope: Scope) -> Iterator[Draw]:
    """Yield the draws of members of regular channels, where these are drawn (else shape_rules.py judges them)."""
    if scope.shape.channel_sizes:
        return
    largest, is_drawn = scope.run.plan.largest_channel, compose("NOT c.is_dm")
    if scope.shape.viral:
        is_drawn = compose("NOT c.is_dm AND c.id <> {viral}", viral=scope.ids("channels")[0])
    yield Draw(
        "M2",
        "mean number of members of a regular channel",
        (2 + largest) / 2,
        count_where(is_drawn),
        sum_of_members(is_drawn),
        columns(channels="is_dm"),
        low=2.0,
        high=float(largest),
    )
    for number in range(QUARTERS):
        yield quarter_draw(number, largest, is_drawn)


def quarter_draw(number: int, largest: int, is_drawn: SQL) -> Draw:
    """Return the share of the channels that meet ``is_drawn`` with a size in quarter ``number`` of 2 to ``largest``."""
    sizes = range(2, largest + 1)
    quarter = sizes[len(sizes) * number // QUARTERS : len(sizes) * (number + 1) // QUARTERS]
    least, most = (quarter[0], quarter[-1]) if quarter else (2, 1)
    return Draw(
        "M2",
        f"share of regular channels with {least:,} to {most:,} members",
        len(quarter) / len(sizes),
        count_where(is_drawn),
        count_where(
            compose("{is_drawn} AND g.members BETWEEN {least} AND {most}", is_drawn=is_drawn, least=least, most=most)
        ),
        columns(channels="is_dm"),
    )
