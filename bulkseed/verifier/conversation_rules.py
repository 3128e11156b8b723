"""The rules of messages and reactions (G1 to R4, and R0) as SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from bulkseed.text.names import WordList
from bulkseed.text.prose import WORDS_IN_SENTENCE
from bulkseed.verifier.rule_sql import BROKEN, Clause, Draw, RuleQuery, Scope

__all__ = ["distinct_contents", "message_passes", "reaction_passes", "reply_passes"]

MOST_REACTIONS: Final = 3
LEAST_JUDGED: Final = 1_000
"""A repeated text among few messages says nothing."""
MOST_JUDGED: Final = 1_000_000
"""Rule G6 speaks of a million messages."""


def message_passes(scope: Scope) -> Iterator[RuleQuery]:
    """Rules G1 and G2, the share of replies of G4, and the number of top-level messages of a channel."""
    messages, members = scope.table("messages"), scope.table("user_channels")
    yield RuleQuery(
        rows=f"{messages} AS m "
        f"LEFT JOIN {scope.table('channels')} AS c ON c.id = m.channel_id AND {scope.ours('channels', 'c')} "
        f"LEFT JOIN {scope.table('users')} AS u ON u.id = m.user_id AND {scope.ours('users', 'u')} "
        f"WHERE {scope.ours('messages', 'm')}",
        key="m.id",
        example="messages.id {}",
        clauses=(
            Clause(
                "G1",
                "the author is a user and the channel a channel of the run",
                "u.id IS NOT NULL AND c.id IS NOT NULL",
            ),
            Clause(
                "G2",
                "created_at is from the later of the channel's and the author's created_at to as_of",
                f"m.created_at >= c.created_at AND m.created_at >= u.created_at AND m.created_at <= {scope.as_of}",
            ),
            Clause("G2", "updated_at equals created_at", "m.updated_at = m.created_at"),
        ),
        draws=(
            Draw(
                "G4",
                "share of top-level messages that have a reply",
                scope.run.plan.probabilities.message_reply,
                "count(*) FILTER (WHERE m.parent_id IS NULL)",
                "count(*) FILTER (WHERE m.parent_id IS NOT NULL)",
            ),
        )
        if scope.shape.most_replies == 1
        else (),
    )
    yield RuleQuery(
        rows=f"{messages} AS m WHERE {scope.ours('messages', 'm')} AND NOT EXISTS "
        f"(SELECT FROM {members} AS a WHERE a.channel_id = m.channel_id AND a.user_id = m.user_id)",
        key="m.id",
        example="messages.id {}",
        clauses=(Clause("G1", "the author is a member of the channel", BROKEN),),
    )
    if scope.ranking is not None:
        return  # how many each channel has is not the same for all (shape_rules.py)
    per_channel = scope.run.plan.messages_per_channel
    yield RuleQuery(
        rows=f"{scope.table('channels')} AS c "
        f"LEFT JOIN (SELECT m.channel_id, count(*) AS messages FROM {messages} AS m "
        f"WHERE {scope.ours('messages', 'm')} AND m.parent_id IS NULL GROUP BY m.channel_id) AS g "
        f"ON g.channel_id = c.id WHERE {scope.ours('channels', 'c')}",
        key="c.id",
        example="channels.id {}",
        clauses=(Clause("N", f"a channel has {per_channel:,} top-level messages", f"g.messages = {per_channel}"),),
    )


def distinct_contents(scope: Scope, lorem: WordList) -> RuleQuery:
    """Rule G6, with less asked of a word list so short (some 60 words in vi_VN) that Faker itself repeats more."""
    first, last = scope.ids("messages")
    messages = min(last - first + 1, MOST_JUDGED)
    repeated = max(0.01, 2 * repeated_sentences(lorem, messages))
    return RuleQuery(
        rows="(SELECT count(*) AS messages, count(DISTINCT hashtextextended(m.content::text, 0)) AS different "
        f"FROM {scope.table('messages')} AS m WHERE m.id BETWEEN {first} AND {first + messages - 1}) AS g",
        key="g.messages - g.different",
        example="{} repeated contents",
        clauses=(
            Clause(
                "G6",
                f"{1 - repeated:.0%} of the contents of up to a million messages are distinct "
                f"(judged from {LEAST_JUDGED:,})",
                f"g.messages < {LEAST_JUDGED} OR g.messages - g.different <= {repeated} * g.messages",
            ),
        ),
    )


def repeated_sentences(lorem: WordList, number: int) -> float:
    """The share of ``number`` of Faker's sentences that are expected to say what another one says, at most."""
    same_word = sum((count / len(lorem.words)) ** 2 for count in Counter(lorem.words).values())
    lengths = sum(WORDS_IN_SENTENCE.values())
    same_text = sum((share / lengths) ** 2 * same_word**words for words, share in WORDS_IN_SENTENCE.items())
    return number / 2 * same_text


def reply_passes(scope: Scope) -> Iterator[RuleQuery]:
    """Rules G4 and G5, but for what needs the words of the locale."""
    messages, users = scope.table("messages"), scope.table("users")
    yield RuleQuery(
        rows=f"{messages} AS r "
        f"LEFT JOIN {messages} AS p ON p.id = r.parent_id AND {scope.ours('messages', 'p')} "
        f"LEFT JOIN {users} AS a ON a.id = r.user_id "
        f"LEFT JOIN {users} AS b ON b.id = p.user_id "
        f"WHERE {scope.ours('messages', 'r')} AND r.parent_id IS NOT NULL",
        key="r.id",
        example="messages.id {}",
        clauses=(
            Clause(
                "G4",
                "a reply's parent is a message of the run and no reply itself",
                "p.id IS NOT NULL AND p.parent_id IS NULL",
            ),
            Clause("G4", "a reply is in its parent's channel", "r.channel_id = p.channel_id"),
            Clause("G4", "a reply is by another than its parent's author", "r.user_id <> p.user_id"),
            Clause(
                "G4",
                "a reply comes 1 to 60 minutes after its parent, or in the time that is left until as_of",
                # least() skips nulls, so that a parent that is missing is asked for first
                "p.created_at IS NOT NULL AND r.created_at BETWEEN "
                f"least(p.created_at + interval '1 minute', {scope.as_of}) AND "
                f"least(p.created_at + interval '60 minutes', {scope.as_of})",
            ),
            Clause(
                "G4",
                "the accounts of both authors are older than the parent",
                "a.created_at <= p.created_at AND b.created_at <= p.created_at",
            ),
            Clause("G5", "a parent's id is lower than its reply's", "r.parent_id < r.id"),
        ),
    )
    most = scope.shape.most_replies
    yield RuleQuery(
        rows=f"(SELECT m.parent_id FROM {messages} AS m WHERE {scope.ours('messages', 'm')} "
        f"AND m.parent_id IS NOT NULL GROUP BY m.parent_id HAVING count(*) > {most}) AS g",
        key="g.parent_id",
        example="messages.id {}",
        clauses=(Clause("G4", f"a message has at most {'one reply' if most == 1 else f'{most} replies'}", BROKEN),),
    )


def reaction_passes(scope: Scope) -> Iterator[RuleQuery]:
    """Rules R0 to R4."""
    catalogue, reactions = scope.table("reactions"), scope.table("message_reactions")
    messages, members = scope.table("messages"), scope.table("user_channels")
    example = "message_reactions.message_id {}"
    ours = scope.ours("message_reactions", "x")
    yield RuleQuery(
        rows=f"(SELECT count(*) FILTER (WHERE r.is_system) AS system FROM {catalogue} AS r) AS g",
        key="g.system",
        example="{} such rows",
        clauses=(Clause("R0", "the catalogue has a system reaction", "g.system > 0"),),
    )
    yield RuleQuery(
        rows=f"{reactions} AS x "
        f"LEFT JOIN {messages} AS m ON m.id = x.message_id "
        f"LEFT JOIN {scope.table('users')} AS u ON u.id = x.user_id "
        f"LEFT JOIN {catalogue} AS r ON r.id = x.reaction_id WHERE {ours}",
        key="x.message_id",
        example=example,
        clauses=(
            Clause("R2", "the reaction is a system one of the catalogue", "r.is_system"),
            Clause(
                "R4",
                "created_at is from the later of the message's and the user's created_at to as_of",
                f"x.created_at >= m.created_at AND x.created_at >= u.created_at AND x.created_at <= {scope.as_of}",
            ),
        ),
    )
    yield RuleQuery(
        rows=f"{reactions} AS x LEFT JOIN {messages} AS m ON m.id = x.message_id WHERE {ours} AND NOT EXISTS "
        f"(SELECT FROM {members} AS a WHERE a.channel_id = m.channel_id AND a.user_id = x.user_id)",
        key="x.message_id",
        example=example,
        clauses=(Clause("R2", "the user is a member of the message's channel", BROKEN),),
    )
    yield RuleQuery(
        rows=f"(SELECT x.message_id FROM {reactions} AS x WHERE {ours} "
        "GROUP BY x.message_id, x.user_id, x.reaction_id HAVING count(*) > 1) AS g",
        key="g.message_id",
        example=example,
        clauses=(Clause("R3", "no user has the same reaction to a message twice", BROKEN),),
    )
    yield counted_reactions(scope)


def counted_reactions(scope: Scope) -> RuleQuery:
    """Rule R1. How many reactions a message got is judged where its channel has enough different pairs."""
    run = scope.run
    pairs = f"(SELECT a.channel_id, count(*) * {len(run.placement.reactions)} AS pairs "
    pairs += f"FROM {scope.table('user_channels')} AS a WHERE {scope.ours('user_channels', 'a')} GROUP BY a.channel_id)"
    free = f"p.pairs >= {MOST_REACTIONS}"
    return RuleQuery(
        rows=f"(SELECT x.message_id, count(*) AS number FROM {scope.table('message_reactions')} AS x "
        f"WHERE {scope.ours('message_reactions', 'x')} GROUP BY x.message_id) AS g "
        f"LEFT JOIN {scope.table('messages')} AS m ON m.id = g.message_id "
        f"LEFT JOIN {pairs} AS p ON p.channel_id = m.channel_id",
        key="g.message_id",
        example="message_reactions.message_id {}",
        clauses=(Clause("R1", f"a message has at most {MOST_REACTIONS} reactions", f"g.number <= {MOST_REACTIONS}"),),
        draws=(
            Draw(
                "R1",
                "share of messages that have reactions",
                run.plan.probabilities.message_reactions,
                f"{run.rows.get('messages', 0)}::bigint",
                "count(*)",
            ),
            *(
                Draw(
                    "R1",
                    f"share of them that have {number}",
                    1 / MOST_REACTIONS,
                    f"count(*) FILTER (WHERE {free})",
                    f"count(*) FILTER (WHERE {free} AND g.number = {number})",
                )
                for number in range(1, MOST_REACTIONS + 1)
            ),
        ),
    )
