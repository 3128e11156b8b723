"""Rules that need a locale's names and words: rows are read in chunks, and compared with Faker's names and texts.

Texts are matched by a regular expression in which the words are a tree of their letters: 3 to 5 µs a message in every
locale, also where words contain spaces or full stops, or follow each other without a space. The 2.4 million messages of
100x took 9 s with it, and 14 s on two cores by an SQL query that split them into words (at single spaces only).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from anyio import to_thread

from bulkseed.postgres.connection import Connection
from bulkseed.sql import SQL, compose
from bulkseed.text.names import SLUG_CHARACTERS, Corpus, WordList
from bulkseed.text.prose import MOST_SENTENCES, SENTENCES_IN_PARAGRAPH, WORDS_IN_SENTENCE
from bulkseed.verifier.rule_checks import ChanceCheck, RuleCheck, Tally
from bulkseed.verifier.rule_sql import Scope

__all__ = ["TextReader", "read_companies", "read_names", "read_texts"]

CHUNK_ROWS: Final = 10_000

Rows = Sequence[Any]
Judge = Callable[[Rows], None]


async def read_names(connection: Connection, scope: Scope, corpus: Corpus) -> list[RuleCheck]:
    """Judge names by rule U5, and addresses, which begin with the name, by rule U2."""
    names = Tally("U5", f"name is one that Faker makes for {corpus.locale}", scope.describe("users", "id"))
    emails = Tally("U2", "email begins with the name in ASCII", scope.describe("users", "id"))

    def judge(rows: Rows) -> None:
        for user, name, email in rows:
            slugs = set() if name is None else corpus.person.slugs(name)
            if not slugs:
                names.add(user)
            if email is None or not any(email.startswith(f"{local_part(slug)}.") for slug in slugs):
                emails.add(user)

    query = compose(
        "SELECT u.id, u.name, u.email FROM {users} AS u WHERE {ours}",
        users=scope.table("users"),
        ours=scope.ours("users", "u"),
    )
    await read_chunks(connection, query, judge)
    return [emails.check(), names.check()]


def local_part(slug: str) -> str:
    return slug[:SLUG_CHARACTERS].rstrip(".") or "user"


async def read_companies(connection: Connection, scope: Scope, corpus: Corpus) -> list[RuleCheck]:
    """Judge the names of regular channels by rule C2."""
    text = f"a regular channel's name is a company's that Faker makes for {corpus.locale}"
    names = Tally("C2", text, scope.describe("channels", "id"))

    def judge(rows: Rows) -> None:
        for channel, name in rows:
            if name is None or not corpus.company.slugs(name):
                names.add(channel)

    query = compose(
        "SELECT c.id, c.name FROM {channels} AS c WHERE {ours} AND c.is_dm IS NOT TRUE",
        channels=scope.table("channels"),
        ours=scope.ours("channels", "c"),
    )
    await read_chunks(connection, query, judge)
    return [names.check()]


async def read_texts(connection: Connection, scope: Scope, corpus: Corpus) -> tuple[list[RuleCheck], list[ChanceCheck]]:
    """Judge contents by rule G3, and replies by rule G4: a reply is one sentence.

    A paragraph of one sentence looks like a sentence, so the share of texts of several sentences is compared.
    """
    text, describe = (
        f"content is 1 to {MOST_SENTENCES} of Faker's sentences for {corpus.locale}",
        scope.describe("messages", "id"),
    )
    texts = Tally("G3", text, describe)
    replies = Tally("G4", "a reply is one sentence", describe)
    reader = await to_thread.run_sync(TextReader, corpus.lorem)
    top_level = longer = 0

    def judge(rows: Rows) -> None:
        nonlocal top_level, longer
        for message, content, is_reply in rows:
            sentences = 0 if content is None else reader.sentences(content)
            if sentences == 0:
                texts.add(message)
            if not is_reply:
                top_level += 1
                longer += sentences > 1
            elif sentences > 1:
                replies.add(message)

    query = compose(
        "SELECT m.id, m.content, m.parent_id IS NOT NULL FROM {messages} AS m WHERE {ours}",
        messages=scope.table("messages"),
        ours=scope.ours("messages", "m"),
    )
    await read_chunks(connection, query, judge)
    more_than_one = 1 - SENTENCES_IN_PARAGRAPH[1] / sum(SENTENCES_IN_PARAGRAPH.values())
    share = ChanceCheck.from_total(
        "G3",
        "share of top-level messages of more than one sentence",
        expected=scope.run.plan.probabilities.message_paragraph * more_than_one,
        total=longer,
        trials=top_level,
    )
    return [texts.check(), replies.check()], [share]


async def read_chunks(connection: Connection, query: SQL, judge: Judge) -> None:
    cursor = await connection.cursor(query)
    while rows := await cursor.fetch(CHUNK_ROWS):
        await to_thread.run_sync(judge, rows)


class TextReader:
    """A reader of texts as Faker's sentences: 3 to 8 listed words, the first in title case, and the full stop."""

    def __init__(self, lorem: WordList) -> None:
        connector, full_stop = re.escape(lorem.connector), re.escape(lorem.full_stop)
        others = f"{{{min(WORDS_IN_SENTENCE) - 1},{max(WORDS_IN_SENTENCE) - 1}}}"
        opening = pattern_of({word.title() for word in lorem.words})
        sentence = f"{opening}(?:{connector}{pattern_of(lorem.words)}){others}{full_stop}"
        # lazy: a text that matches as one sentence counts as one
        self.pattern = re.compile(f"{sentence}({connector}{sentence}){{0,{MOST_SENTENCES - 1}}}?")

    def sentences(self, text: str) -> int:
        """Return 1 for a text of one sentence, 2 for several, 0 for a text that Faker cannot generate."""
        match = self.pattern.fullmatch(text)
        if match is None:
            return 0
        return 1 if match[1] is None else 2


def pattern_of(words: Iterable[str]) -> str:
    """Return a pattern that matches any of ``words``: a tree of their letters, so that few branches are tried."""
    tree: dict[str, Any] = {}
    for word in words:
        node = tree
        for letter in word:
            node = node.setdefault(letter, {})
        node[""] = {}
    return branches(tree)


def branches(node: dict[str, Any]) -> str:
    choices = "|".join(re.escape(letter) + branches(node[letter]) for letter in sorted(node) if letter)
    if not choices:
        return ""
    return f"(?:{choices}){'?' if '' in node else ''}"
