"""The rules of users, channels and memberships (U1 to M3) as SQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bulkseed.plan.activity import LARGEST_GROUP_DM, SMALLEST_GROUP_DM
from bulkseed.verifier.rule_sql import BROKEN, Clause, Draw, RuleQuery, Scope

__all__ = ["channel_passes", "membership_passes", "user_passes"]

AUTH0_ID: Final = r"^auth0\|[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
"""RFC 9562: version 4 in the 13th digit, the variant's bits 10 in the 17th."""
EMAIL: Final = r"^[a-z0-9]+([.-][a-z0-9]+)*@[a-z0-9-]+(\.[a-z0-9-]+)+$"
PICTURE: Final = r"^https://[a-z0-9-]+(\.[a-z0-9-]+)+/\S+$"
JOIN_CODE: Final = "^[A-HJ-NP-Z2-9]{8}$"
"""Without I and O, which look like 1 and 0."""

QUARTERS: Final = 4


def user_passes(scope: Scope) -> Iterator[RuleQuery]:
    """Rules U1 to U5, but for what needs the names of the locale."""
    users = scope.table("users")
    yield RuleQuery(
        rows=f"{users} AS u WHERE {scope.ours('users', 'u')}",
        key="u.id",
        example="users.id {}",
        clauses=(
            Clause("U1", "auth0_id is auth0| and a version-4 UUID", f"u.auth0_id ~ '{AUTH0_ID}'"),
            Clause("U2", "email has the form of an address", f"u.email ~ '{EMAIL}'"),
            Clause("U3", "is_active is set", "u.is_active IS NOT NULL"),
            Clause(
                "U4",
                f"created_at is from {begin(scope)} to {end(scope)}",
                f"u.created_at BETWEEN {scope.history_start} AND {scope.latest_signup}",
            ),
            Clause("U5", "picture is an https address", f"u.picture ~ '{PICTURE}'"),
            Clause("U5", "bio has 1 to 200 characters", "char_length(u.bio) BETWEEN 1 AND 200"),
        ),
        draws=(
            Draw(
                "U3",
                "share of users who are active",
                scope.run.plan.probabilities.user_active,
                "count(*)",
                "count(*) FILTER (WHERE u.is_active)",
            ),
        ),
    )
    yield repeated(scope, "users", "auth0_id", "U1")
    yield repeated(scope, "users", "email", "U2")


def begin(scope: Scope) -> str:
    """The start of the history in words."""
    return f"{scope.shape.history:g} years before as_of" if scope.shape.history else "1 January"


def end(scope: Scope) -> str:
    """The youngest age of accounts and channels in words."""
    days = scope.shape.settled_days
    return f"{days:,} days before as_of" if days else "as_of"


def repeated(scope: Scope, table: str, column: str, rule: str) -> RuleQuery:
    """The rows of the run whose value another row of the whole table has as well."""
    name = scope.table(table)
    return RuleQuery(
        rows=f"{name} AS t WHERE {scope.ours(table, 't')} "
        f"AND EXISTS (SELECT FROM {name} AS o WHERE o.{column} = t.{column} AND o.id <> t.id)",
        key="t.id",
        example=f"{table}.id {{}}",
        clauses=(Clause(rule, f"{column} is unique in the whole table", BROKEN),),
    )


def channel_passes(scope: Scope) -> Iterator[RuleQuery]:
    """Rules C1 to C5, but for what needs the companies of the locale."""
    chances, ranking = scope.run.plan.probabilities, scope.ranking
    dm, private = chances.channel_dm, chances.channel_private
    if ranking is not None:
        # what is not drawn, but rounded to whole channels
        dm = ranking.dms / scope.run.plan.channels
        private = float(ranking.private.mean()) if ranking.regular else private
    yield RuleQuery(
        rows=f"{scope.table('channels')} AS c "
        f"LEFT JOIN {scope.table('users')} AS o ON o.id = c.owner_id AND {scope.ours('users', 'o')} "
        f"WHERE {scope.ours('channels', 'c')}",
        key="c.id",
        example="channels.id {}",
        clauses=(
            Clause("C1", "is_dm and is_private are set", "c.is_dm IS NOT NULL AND c.is_private IS NOT NULL"),
            Clause("C1", "a DM is private", "NOT c.is_dm OR c.is_private"),
            Clause("C2", "a DM's name is its owner's and ' DM'", "NOT c.is_dm OR c.name = o.name || ' DM'"),
            Clause("C3", "a DM has no description", "NOT c.is_dm OR c.description IS NULL"),
            Clause(
                "C3",
                "a regular channel's description is a text of 1 to 100 characters",
                r"c.is_dm OR char_length(c.description) <= 100 AND c.description ~ '\S'",
            ),
            Clause("C4", "owner_id is a user of the run", "o.id IS NOT NULL"),
            Clause(
                "C4",
                f"created_at is from the owner's created_at to {end(scope)}",
                f"c.created_at BETWEEN o.created_at AND {scope.latest_signup}",
            ),
            Clause(
                "C5",
                "join_code is there where the channel is private and no DM, and nowhere else",
                "(c.join_code IS NOT NULL) = (c.is_private AND NOT c.is_dm)",
            ),
            Clause(
                "C5",
                "join_code is 8 of the characters A-Z and 2-9 without look-alikes",
                f"c.join_code IS NULL OR c.join_code ~ '{JOIN_CODE}'",
            ),
        ),
        draws=(
            Draw(
                "C1",
                "share of channels that are DMs",
                dm,
                "count(*)",
                "count(*) FILTER (WHERE c.is_dm)",
            ),
            Draw(
                "C1",
                "share of regular channels that are private",
                private,
                "count(*) FILTER (WHERE NOT c.is_dm)",
                "count(*) FILTER (WHERE NOT c.is_dm AND c.is_private)",
            ),
        ),
    )
    yield repeated(scope, "channels", "join_code", "C5")


def membership_passes(scope: Scope) -> Iterator[RuleQuery]:
    """Rules M1 to M3. That the owner's row is the first is not judged: a table keeps no order of its rows."""
    channels, members = scope.table("channels"), scope.table("user_channels")
    largest = scope.run.plan.users if scope.shape.viral else scope.run.plan.largest_channel
    yield RuleQuery(
        rows=f"{members} AS m "
        f"LEFT JOIN {channels} AS c ON c.id = m.channel_id "
        f"LEFT JOIN {scope.table('users')} AS u ON u.id = m.user_id AND {scope.ours('users', 'u')} "
        f"WHERE {scope.ours('user_channels', 'm')}",
        key="m.channel_id",
        example="user_channels.channel_id {}",
        clauses=(
            Clause("M2", "every member is one of a channel that is there", "c.id IS NOT NULL"),
            Clause("M1", "the members of a DM are users of the run", "NOT c.is_dm OR u.id IS NOT NULL"),
            Clause("M2", "the members of a regular channel are users of the run", "c.is_dm OR u.id IS NOT NULL"),
        ),
    )
    yield RuleQuery(
        rows=f"{channels} AS c "
        "LEFT JOIN (SELECT m.channel_id, count(*) AS members, count(DISTINCT m.user_id) AS different "
        f"FROM {members} AS m WHERE {scope.ours('user_channels', 'm')} GROUP BY m.channel_id) AS g "
        f"ON g.channel_id = c.id WHERE {scope.ours('channels', 'c')}",
        key="c.id",
        example="channels.id {}",
        clauses=(
            dm_members(scope),
            Clause(
                "M2",
                f"a regular channel has 2 to {largest} members",
                f"c.is_dm OR g.members BETWEEN 2 AND {largest}",
            ),
            Clause("M2", "the members of a regular channel are all different", "c.is_dm OR g.members = g.different"),
        ),
        draws=(*group_draws(scope), *size_draws(scope)),
    )
    yield RuleQuery(
        rows=f"{channels} AS c WHERE {scope.ours('channels', 'c')} "
        f"AND NOT EXISTS (SELECT FROM {members} AS m WHERE m.channel_id = c.id AND m.user_id = c.owner_id)",
        key="c.id",
        example="channels.id {}",
        clauses=(
            Clause("M3", "the owner is a member (which row came first is not something that a table keeps)", BROKEN),
        ),
    )


def dm_members(scope: Scope) -> Clause:
    """Rule M1, for DMs of two, or with group DMs."""
    if not scope.shape.group_dms:
        return Clause(
            "M1",
            "a DM has two members, the owner and one other",
            "NOT c.is_dm OR g.members = 2 AND g.different = 2",
        )
    return Clause(
        "M1",
        f"a DM has 2 to {LARGEST_GROUP_DM} members, all different",
        f"NOT c.is_dm OR g.members BETWEEN 2 AND {LARGEST_GROUP_DM} AND g.different = g.members",
    )


def group_draws(scope: Scope) -> Iterator[Draw]:
    ranking = scope.ranking
    if ranking is None or not ranking.groups:
        return
    group = f"c.is_dm AND g.members >= {SMALLEST_GROUP_DM}"
    yield Draw(
        "M1",
        "share of DMs that are group DMs",
        ranking.groups / ranking.dms,
        "count(*) FILTER (WHERE c.is_dm)",
        f"count(*) FILTER (WHERE {group})",
    )
    largest = min(LARGEST_GROUP_DM, scope.run.plan.users)
    yield Draw(
        "M1",
        "mean number of members of a group DM",
        (SMALLEST_GROUP_DM + largest) / 2,
        f"count(*) FILTER (WHERE {group})",
        f"sum(g.members) FILTER (WHERE {group})",
        low=float(SMALLEST_GROUP_DM),
        high=float(largest),
    )


def size_draws(scope: Scope) -> Iterator[Draw]:
    """The members of regular channels, where they are drawn (else shape_rules.py judges them)."""
    if scope.shape.channel_sizes:
        return
    largest, drawn = scope.run.plan.largest_channel, "NOT c.is_dm"
    if scope.shape.viral:
        drawn += f" AND c.id <> {scope.ids('channels')[0]}"
    yield Draw(
        "M2",
        "mean number of members of a regular channel",
        (2 + largest) / 2,
        f"count(*) FILTER (WHERE {drawn})",
        f"sum(g.members) FILTER (WHERE {drawn})",
        low=2.0,
        high=float(largest),
    )
    for part in range(QUARTERS):
        yield quarter(part, largest, drawn)


def quarter(part: int, largest: int, drawn: str) -> Draw:
    """The share of the channels that are ``drawn`` whose number of members is in one quarter of 2 to ``largest``."""
    sizes = range(2, largest + 1)
    among = sizes[len(sizes) * part // QUARTERS : len(sizes) * (part + 1) // QUARTERS]
    least, most = (among[0], among[-1]) if among else (2, 1)
    return Draw(
        "M2",
        f"share of regular channels with {least:,} to {most:,} members",
        len(among) / len(sizes),
        f"count(*) FILTER (WHERE {drawn})",
        f"count(*) FILTER (WHERE {drawn} AND g.members BETWEEN {least} AND {most})",
    )
