"""The rules of messages and reactions (G1 to R4, and R0) as SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from bulkseed.plan.activity import MOST_REACTIONS
from bulkseed.sql import compose, literal
from bulkseed.text.names import WordList
from bulkseed.text.prose import WORDS_IN_SENTENCE
from bulkseed.verifier.rule_sql import COUNT, NEVER, Clause, Draw, RuleQuery, Scope, columns, count_where

__all__ = ["distinct_contents", "message_queries", "reaction_queries", "reply_queries"]

LEAST_JUDGED: Final = 1_000
"""A repeated text among fewer messages shows nothing."""
MOST_JUDGED: Final = 1_000_000
"""Rule G6 is about a million messages."""


def message_queries(scope: Scope) -> Iterator[RuleQuery]:
    """Yield the queries of rules G1 and G2, of the share of replies (G4), and of top-level messages per channel (N)."""
    messages, our_messages = scope.table("messages"), scope.ours("messages", "m")
    channels, our_channels = scope.table("channels"), scope.ours("channels", "c")
    yield RuleQuery(
        rows=compose(
            "{messages} AS m LEFT JOIN {channels} AS c ON c.id = m.channel_id AND {our_channels} "
            "LEFT JOIN {users} AS u ON u.id = m.user_id AND {our_users} WHERE {our_messages}",
            messages=messages,
            channels=channels,
            our_channels=our_channels,
            users=scope.table("users"),
            our_users=scope.ours("users", "u"),
            our_messages=our_messages,
        ),
        key=compose("m.id"),
        describe=scope.describe("messages", "id"),
        needs=columns(messages="id channel_id user_id", channels="id", users="id"),
        clauses=(
            Clause(
                "G1",
                "the author is a user and the channel a channel of the run",
                compose("u.id IS NOT NULL AND c.id IS NOT NULL"),
            ),
            Clause(
                "G2",
                "created_at is from the later of the channel's and the author's created_at to as_of",
                compose(
                    "m.created_at >= c.created_at AND m.created_at >= u.created_at AND m.created_at <= {as_of}",
                    as_of=scope.as_of,
                ),
                columns(messages="created_at", channels="created_at", users="created_at"),
            ),
            Clause(
                "G2",
                "updated_at equals created_at",
                compose("m.updated_at = m.created_at"),
                columns(messages="updated_at created_at"),
            ),
        ),
        draws=(
            Draw(
                "G4",
                "share of top-level messages that have a reply",
                scope.run.plan.probabilities.message_reply,
                count_where(compose("m.parent_id IS NULL")),
                count_where(compose("m.parent_id IS NOT NULL")),
                columns(messages="parent_id"),
            ),
        )
        if scope.shape.most_replies == 1
        else (),
    )
    yield RuleQuery(
        rows=compose(
            "{messages} AS m WHERE {our_messages} AND NOT EXISTS "
            "(SELECT FROM {members} AS a WHERE a.channel_id = m.channel_id AND a.user_id = m.user_id)",
            messages=messages,
            our_messages=our_messages,
            members=scope.table("user_channels"),
        ),
        key=compose("m.id"),
        describe=scope.describe("messages", "id"),
        needs=columns(messages="id channel_id user_id", user_channels="channel_id user_id"),
        clauses=(Clause("G1", "the author is a member of the channel", NEVER),),
    )
    if scope.ranking is not None:
        return  # each rank has a number of its own (shape_rules.py)
    per_channel = scope.run.plan.messages_per_channel
    yield RuleQuery(
        rows=compose(
            "{channels} AS c LEFT JOIN (SELECT m.channel_id, count(*) AS messages FROM {messages} AS m "
            "WHERE {our_messages} AND m.parent_id IS NULL GROUP BY m.channel_id) AS g "
            "ON g.channel_id = c.id WHERE {our_channels}",
            channels=channels,
            messages=messages,
            our_messages=our_messages,
            our_channels=our_channels,
        ),
        key=compose("c.id"),
        describe=scope.describe("channels", "id"),
        needs=columns(channels="id", messages="id channel_id parent_id"),
        clauses=(
            Clause(
                "N",
                f"a channel has {per_channel:,} top-level messages",
                compose("g.messages = {per_channel}", per_channel=per_channel),
            ),
        ),
    )


def distinct_contents(scope: Scope, lorem: WordList) -> RuleQuery:
    """Return the query of rule G6.

    The bound is lower for a word list so short (some 60 words in vi_VN) that Faker itself repeats more.
    """
    first, last = scope.ids("messages")
    messages = min(last - first + 1, MOST_JUDGED)
    repeated = max(0.01, 2 * repeated_sentences(lorem, messages))
    return RuleQuery(
        rows=compose(
            "(SELECT count(*) AS messages, count(DISTINCT hashtextextended(m.content::text, 0)) AS different "
            "FROM {messages} AS m WHERE m.id BETWEEN {first} AND {last}) AS g",
            messages=scope.table("messages"),
            first=first,
            last=first + messages - 1,
        ),
        key=compose("g.messages - g.different"),
        describe="{} repeated contents".format,
        needs=columns(messages="id content"),
        clauses=(
            Clause(
                "G6",
                f"{1 - repeated:.0%} of the contents of up to a million messages are distinct "
                f"(not checked for fewer than {LEAST_JUDGED:,})",
                compose(
                    "g.messages < {least} OR g.messages - g.different <= {repeated} * g.messages",
                    least=LEAST_JUDGED,
                    repeated=literal(repeated),
                ),
            ),
        ),
    )


def repeated_sentences(lorem: WordList, number: int) -> float:
    """Return the largest expected share, among ``number`` of Faker's sentences, of those equal to another one."""
    same_word = sum((count / len(lorem.words)) ** 2 for count in Counter(lorem.words).values())
    lengths = sum(WORDS_IN_SENTENCE.values())
    same_text = sum((share / lengths) ** 2 * same_word**words for words, share in WORDS_IN_SENTENCE.items())
    return number / 2 * same_text


def reply_queries(scope: Scope) -> Iterator[RuleQuery]:
    """Yield the queries of rules G4 and G5, except those that need the words of the locale."""
    messages, users = scope.table("messages"), scope.table("users")
    yield RuleQuery(
        rows=compose(
            "{messages} AS r LEFT JOIN {messages} AS p ON p.id = r.parent_id AND {our_parents} "
            "LEFT JOIN {users} AS a ON a.id = r.user_id LEFT JOIN {users} AS b ON b.id = p.user_id "
            "WHERE {our_replies} AND r.parent_id IS NOT NULL",
            messages=messages,
            our_parents=scope.ours("messages", "p"),
            users=users,
            our_replies=scope.ours("messages", "r"),
        ),
        key=compose("r.id"),
        describe=scope.describe("messages", "id"),
        needs=columns(messages="id parent_id user_id", users="id"),
        clauses=(
            Clause(
                "G4",
                "a reply's parent is a message of the run and no reply itself",
                compose("p.id IS NOT NULL AND p.parent_id IS NULL"),
            ),
            Clause(
                "G4",
                "a reply is in its parent's channel",
                compose("r.channel_id = p.channel_id"),
                columns(messages="channel_id"),
            ),
            Clause("G4", "a reply is by another user than the author of its parent", compose("r.user_id <> p.user_id")),
            Clause(
                "G4",
                "a reply comes 1 to 60 minutes after its parent, or in the time that is left until as_of",
                # least() ignores nulls, so a parent without created_at must be excluded first
                compose(
                    "p.created_at IS NOT NULL AND r.created_at BETWEEN "
                    "least(p.created_at + interval '1 minute', {as_of}) AND "
                    "least(p.created_at + interval '60 minutes', {as_of})",
                    as_of=scope.as_of,
                ),
                columns(messages="created_at"),
            ),
            Clause(
                "G4",
                "the accounts of both authors are older than the parent",
                compose("a.created_at <= p.created_at AND b.created_at <= p.created_at"),
                columns(users="created_at", messages="created_at"),
            ),
            Clause("G5", "a parent's id is lower than its reply's", compose("r.parent_id < r.id")),
        ),
    )
    most = scope.shape.most_replies
    yield RuleQuery(
        rows=compose(
            "(SELECT m.parent_id FROM {messages} AS m WHERE {our_messages} "
            "AND m.parent_id IS NOT NULL GROUP BY m.parent_id HAVING count(*) > {most}) AS g",
            messages=messages,
            our_messages=scope.ours("messages", "m"),
            most=most,
        ),
        key=compose("g.parent_id"),
        describe=scope.describe("messages", "id"),
        needs=columns(messages="id parent_id"),
        clauses=(Clause("G4", f"a message has at most {'one reply' if most == 1 else f'{most} replies'}", NEVER),),
    )


def reaction_queries(scope: Scope) -> Iterator[RuleQuery]:
    """Yield the queries of rules R0 to R4."""
    catalogue, reactions = scope.table("reactions"), scope.table("message_reactions")
    messages, ours = scope.table("messages"), scope.ours("message_reactions", "x")
    describe = scope.describe("message_reactions", "message_id")
    yield RuleQuery(
        rows=compose(
            "(SELECT count(*) FILTER (WHERE r.is_system) AS system FROM {catalogue} AS r) AS g", catalogue=catalogue
        ),
        key=compose("g.system"),
        describe="{} such rows".format,
        needs=columns(reactions="is_system"),
        clauses=(Clause("R0", "the catalogue has a system reaction", compose("g.system > 0")),),
    )
    yield RuleQuery(
        rows=compose(
            "{reactions} AS x LEFT JOIN {messages} AS m ON m.id = x.message_id "
            "LEFT JOIN {users} AS u ON u.id = x.user_id LEFT JOIN {catalogue} AS r ON r.id = x.reaction_id "
            "WHERE {ours}",
            reactions=reactions,
            messages=messages,
            users=scope.table("users"),
            catalogue=catalogue,
            ours=ours,
        ),
        key=compose("x.message_id"),
        describe=describe,
        needs=columns(message_reactions="message_id user_id reaction_id", messages="id", users="id", reactions="id"),
        clauses=(
            Clause(
                "R2",
                "the reaction is a system reaction of the catalogue",
                compose("r.is_system"),
                columns(reactions="is_system"),
            ),
            Clause(
                "R4",
                "created_at is from the later of the message's and the user's created_at to as_of",
                compose(
                    "x.created_at >= m.created_at AND x.created_at >= u.created_at AND x.created_at <= {as_of}",
                    as_of=scope.as_of,
                ),
                columns(message_reactions="created_at", messages="created_at", users="created_at"),
            ),
        ),
    )
    yield RuleQuery(
        rows=compose(
            "{reactions} AS x LEFT JOIN {messages} AS m ON m.id = x.message_id WHERE {ours} AND NOT EXISTS "
            "(SELECT FROM {members} AS a WHERE a.channel_id = m.channel_id AND a.user_id = x.user_id)",
            reactions=reactions,
            messages=messages,
            ours=ours,
            members=scope.table("user_channels"),
        ),
        key=compose("x.message_id"),
        describe=describe,
        needs=columns(
            message_reactions="message_id user_id", messages="id channel_id", user_channels="channel_id user_id"
        ),
        clauses=(Clause("R2", "the user is a member of the message's channel", NEVER),),
    )
    yield RuleQuery(
        rows=compose(
            "(SELECT x.message_id FROM {reactions} AS x WHERE {ours} "
            "GROUP BY x.message_id, x.user_id, x.reaction_id HAVING count(*) > 1) AS g",
            reactions=reactions,
            ours=ours,
        ),
        key=compose("g.message_id"),
        describe=describe,
        needs=columns(message_reactions="message_id user_id reaction_id"),
        clauses=(Clause("R3", "no user has the same reaction to a message twice", NEVER),),
    )
    yield reactions_per_message(scope)


def reactions_per_message(scope: Scope) -> RuleQuery:
    """Return the query of rule R1.

    The shares of messages with 1, 2 and 3 reactions are judged where the channel has enough different pairs of a
    member and a reaction.
    """
    run = scope.run
    is_free = compose("p.pairs >= {most}", most=MOST_REACTIONS)
    return RuleQuery(
        rows=compose(
            "(SELECT x.message_id, count(*) AS number FROM {reactions} AS x WHERE {our_reactions} "
            "GROUP BY x.message_id) AS g LEFT JOIN {messages} AS m ON m.id = g.message_id "
            "LEFT JOIN (SELECT a.channel_id, count(*) * {codes} AS pairs "
            "FROM {members} AS a WHERE {our_members} GROUP BY a.channel_id) AS p ON p.channel_id = m.channel_id",
            reactions=scope.table("message_reactions"),
            our_reactions=scope.ours("message_reactions", "x"),
            messages=scope.table("messages"),
            codes=len(run.placement.reactions),
            members=scope.table("user_channels"),
            our_members=scope.ours("user_channels", "a"),
        ),
        key=compose("g.message_id"),
        describe=scope.describe("message_reactions", "message_id"),
        needs=columns(message_reactions="message_id", messages="id channel_id", user_channels="channel_id"),
        clauses=(
            Clause(
                "R1",
                f"a message has at most {MOST_REACTIONS} reactions",
                compose("g.number <= {most}", most=MOST_REACTIONS),
            ),
        ),
        draws=(
            Draw(
                "R1",
                "share of messages that have reactions",
                run.plan.probabilities.message_reactions,
                compose("{messages}::bigint", messages=run.rows.get("messages", 0)),
                COUNT,
            ),
            *(
                Draw(
                    "R1",
                    f"share of messages with reactions that have {number}",
                    1 / MOST_REACTIONS,
                    count_where(is_free),
                    count_where(compose("{is_free} AND g.number = {number}", is_free=is_free, number=number)),
                )
                for number in range(1, MOST_REACTIONS + 1)
            ),
        ),
    )
