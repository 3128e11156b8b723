"""Rules that need a locale's names and words: rows are read in chunks and judged by what Faker can make.

Texts are read by a regular expression in which the words stand as a tree of their letters: 3 to 5 µs a message in
every locale, also where words hold spaces or full stops, or follow each other without a space. The 2.4 million of
100x took 9 s with it, and 14 s on two cores by an SQL query that split them into words (at single spaces only).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from anyio import to_thread

from bulkseed.postgres.connection import Connection
from bulkseed.text.names import SLUG_CHARACTERS, Corpus, WordList
from bulkseed.text.prose import MOST_SENTENCES, SENTENCES_IN_PARAGRAPH, WORDS_IN_SENTENCE
from bulkseed.verifier.checks import ChanceCheck, RuleCheck, Tally
from bulkseed.verifier.rule_sql import Scope

__all__ = ["TextReader", "read_companies", "read_names", "read_texts"]

CHUNK_ROWS: Final = 10_000

Rows = Sequence[Any]
Judge = Callable[[Rows], None]


async def read_names(connection: Connection, scope: Scope, corpus: Corpus) -> list[RuleCheck]:
    """Rule U5 of names, and rule U2: an address is made from the name."""
    names = Tally("U5", f"name is one that Faker makes for {corpus.locale}", "users.id")
    emails = Tally("U2", "email begins with the name in ASCII", "users.id")

    def judge(rows: Rows) -> None:
        for user, name, email in rows:
            slugs = set() if name is None else corpus.person.slugs(name)
            if not slugs:
                names.add(user)
            if email is None or not any(email.startswith(f"{local_part(slug)}.") for slug in slugs):
                emails.add(user)

    await read(
        connection,
        f"SELECT u.id, u.name, u.email FROM {scope.table('users')} AS u WHERE {scope.ours('users', 'u')}",
        judge,
    )
    return [emails.check(), names.check()]


def local_part(slug: str) -> str:
    return slug[:SLUG_CHARACTERS].rstrip(".") or "user"


async def read_companies(connection: Connection, scope: Scope, corpus: Corpus) -> list[RuleCheck]:
    """Rule C2 of regular channels."""
    names = Tally("C2", f"a regular channel's name is a company's that Faker makes for {corpus.locale}", "channels.id")

    def judge(rows: Rows) -> None:
        for channel, name in rows:
            if name is None or not corpus.company.slugs(name):
                names.add(channel)

    await read(
        connection,
        f"SELECT c.id, c.name FROM {scope.table('channels')} AS c "
        f"WHERE {scope.ours('channels', 'c')} AND c.is_dm IS NOT TRUE",
        judge,
    )
    return [names.check()]


async def read_texts(connection: Connection, scope: Scope, corpus: Corpus) -> tuple[list[RuleCheck], list[ChanceCheck]]:
    """Rule G3, and rule G4: a reply is one sentence.

    A paragraph of one sentence looks like a sentence, so what is compared is the share of texts of more.
    """
    texts = Tally("G3", f"content is 1 to {MOST_SENTENCES} of Faker's sentences for {corpus.locale}", "messages.id")
    replies = Tally("G4", "a reply is one sentence", "messages.id")
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

    await read(
        connection,
        f"SELECT m.id, m.content, m.parent_id IS NOT NULL FROM {scope.table('messages')} AS m "
        f"WHERE {scope.ours('messages', 'm')}",
        judge,
    )
    more_than_one = 1 - SENTENCES_IN_PARAGRAPH[1] / sum(SENTENCES_IN_PARAGRAPH.values())
    share = ChanceCheck.of(
        "G3",
        "share of top-level messages of more than one sentence",
        expected=scope.run.plan.probabilities.message_paragraph * more_than_one,
        total=longer,
        trials=top_level,
    )
    return [texts.check(), replies.check()], [share]


async def read(connection: Connection, sql: str, judge: Judge) -> None:
    cursor = await connection.cursor(sql)
    while rows := await cursor.fetch(CHUNK_ROWS):
        await to_thread.run_sync(judge, rows)


class TextReader:
    """Reads texts as sentences by Faker's rules: 3 to 8 listed words, the first in title case, and the full stop."""

    def __init__(self, lorem: WordList) -> None:
        connector, full_stop = re.escape(lorem.connector), re.escape(lorem.full_stop)
        others = f"{{{min(WORDS_IN_SENTENCE) - 1},{max(WORDS_IN_SENTENCE) - 1}}}"
        opening = one_of({word.title() for word in lorem.words})
        sentence = f"{opening}(?:{connector}{one_of(lorem.words)}){others}{full_stop}"
        # lazy: a text that can be read as one sentence is one
        self.pattern = re.compile(f"{sentence}({connector}{sentence}){{0,{MOST_SENTENCES - 1}}}?")

    def sentences(self, text: str) -> int:
        """1 or 2 for a text of one, or of more sentences; 0 for what Faker cannot make."""
        match = self.pattern.fullmatch(text)
        if match is None:
            return 0
        return 1 if match[1] is None else 2


def one_of(words: Iterable[str]) -> str:
    """A pattern that matches any of ``words``: a tree of their letters, so that few are tried in vain."""
    tree: dict[str, Any] = {}
    for word in words:
        node = tree
        for letter in word:
            node = node.setdefault(letter, {})
        node[""] = {}
    return branches(tree)


def branches(node: dict[str, Any]) -> str:
    ways = "|".join(re.escape(letter) + branches(node[letter]) for letter in sorted(node) if letter)
    if not ways:
        return ""
    return f"(?:{ways}){'?' if '' in node else ''}"
