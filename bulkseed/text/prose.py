"""Sentences and paragraphs by Faker's rules, for whole columns at some 0.1 µs each.

A sentence is two pieces: its first two words, the first with a capital, and the one to six others with the
full stop. There are 65,536 of each, so that 16 random bits pick one and some 4 thousand million different
sentences can be made (rule G6). One Arrow take lays all the pieces of a column side by side; leaving out
offsets then joins them to texts, so no text is copied twice.

Faker's rules (``faker.providers.lorem``): ``sentence()`` has ``int(6 * r / 100)`` words and ``paragraph()``
``int(3 * r / 100)`` sentences, r uniform on 60..140; the first word is in title case.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.randomness.draws import Bools, Ints, Streams, Words, below
from bulkseed.text.names import WordList

__all__ = [
    "MOST_SENTENCES",
    "SENTENCES_IN_PARAGRAPH",
    "WORDS_IN_SENTENCE",
    "WORDS_PER_TEXT",
    "Prose",
    "longest_text",
    "sentence_counts",
]


def randomized(number: int) -> dict[int, int]:
    return dict(sorted(Counter(int(number * percent / 100) for percent in range(60, 141)).items()))


WORDS_IN_SENTENCE: Final = randomized(6)
"""Number of words to how many of 81 sentences have it: 3 to 8 words."""
SENTENCES_IN_PARAGRAPH: Final = randomized(3)
"""Number of sentences to how many of 81 paragraphs have it: 1 to 4 sentences."""
MOST_SENTENCES: Final = max(SENTENCES_IN_PARAGRAPH)

WORDS_PER_TEXT: Final = MOST_SENTENCES // 2
"""Random words that a text takes: 32 bits for each sentence that it could have."""

PIECES: Final = 65_536
OPENING_WORDS: Final = 2

Indexes = npt.NDArray[np.int32]


class Prose:
    """The pieces of a locale's sentences, drawn from ``streams``."""

    def __init__(self, lorem: WordList, streams: Streams) -> None:
        self.vocabulary = pa.array(lorem.words, pa.string())
        self.titles = pa.array([word.title() for word in lorem.words], pa.string())
        self.connector = lorem.connector
        openings = self.openings(streams)
        following = pc.binary_join_element_wise("", openings, lorem.connector)
        endings = pc.binary_join_element_wise(self.endings(streams), lorem.full_stop, "")
        self.pieces: pa.StringArray = pa.concat_arrays([openings, following, endings])
        self.lengths: Ints = pc.utf8_length(self.pieces).to_numpy().astype(np.int64)
        self.one_word_endings = endings_by_words()[1]

    def texts(self, words: Words, sentences: Ints) -> pa.StringArray:
        """Texts of so many ``sentences`` each (1 to 4), from ``words`` of shape ``(n * WORDS_PER_TEXT,)``."""
        return self.joined(self.piece_indexes(words), sentences)

    def short_texts(self, words: Words, sentences: Ints, most_characters: int) -> pa.StringArray:
        """As :meth:`texts`, but none longer than ``most_characters``: a sentence if more do not fit, or a short one."""
        indexes = self.piece_indexes(words)
        places = np.arange(2 * MOST_SENTENCES)
        lengths = self.lengths[indexes]
        total = np.where(places < 2 * sentences[:, None], lengths, 0).sum(axis=1)
        first = lengths[:, :2].sum(axis=1)
        indexes[:, 1] = np.where(
            first > most_characters, 2 * PIECES + indexes[:, 1] % self.one_word_endings, indexes[:, 1]
        )
        texts = self.joined(indexes, np.where(total > most_characters, 1, sentences))
        return pc.utf8_slice_codeunits(texts, 0, most_characters)

    def piece_indexes(self, words: Words) -> Indexes:
        bits = words.astype("<u8", copy=False).view("<u2").reshape(-1, 2 * MOST_SENTENCES)
        indexes = bits.astype(np.int32)
        indexes[:, 2::2] += PIECES
        indexes[:, 1::2] += 2 * PIECES
        return indexes

    def joined(self, indexes: Indexes, sentences: Ints) -> pa.StringArray:
        pieces = 2 * sentences
        laid = self.pieces.take(pa.array(indexes[np.arange(2 * MOST_SENTENCES) < pieces[:, None]]))
        _, offsets, data = laid.buffers()
        ends = np.concatenate([[0], np.cumsum(pieces)])
        starts = np.frombuffer(offsets, dtype=np.int32, count=len(laid) + 1)[ends]
        return pa.StringArray.from_buffers(len(sentences), pa.py_buffer(starts), data)

    def openings(self, streams: Streams) -> pa.StringArray:
        first, second = (self.picked(streams, f"opening.{place}", PIECES) for place in range(OPENING_WORDS))
        return pc.binary_join_element_wise(self.titles.take(first), self.vocabulary.take(second), self.connector)

    def endings(self, streams: Streams) -> pa.StringArray:
        """Each ending begins with the connector, as it follows an opening; those of fewer words come first."""
        counts = list(endings_by_words().items())
        blocks = []
        start = 0
        for words, count in counts:
            columns = [
                self.vocabulary.take(self.picked(streams, f"ending.{place}", PIECES).slice(start, count))
                for place in range(words)
            ]
            blocks.append(pc.binary_join_element_wise("", *columns, self.connector))
            start += count
        return pa.concat_arrays(blocks)

    def picked(self, streams: Streams, column: str, count: int) -> pa.Int64Array:
        return pa.array(below(streams.words("lorem", column, 0, count), len(self.vocabulary)))


@lru_cache(maxsize=1)
def endings_by_words() -> dict[int, int]:
    """How many of the endings have so many words: in the proportions of :data:`WORDS_IN_SENTENCE`."""
    out_of = sum(WORDS_IN_SENTENCE.values())
    counts = {}
    reached = taken = 0
    for words, share in WORDS_IN_SENTENCE.items():
        reached += share
        end = round(PIECES * reached / out_of)
        counts[words - OPENING_WORDS] = end - taken
        taken = end
    return counts


def sentence_counts(words: Words, paragraphs: Bools) -> Ints:
    """How many sentences each text has: 1, or Faker's number where ``paragraphs`` is true."""
    ends = np.cumsum(list(SENTENCES_IN_PARAGRAPH.values()))
    drawn = np.searchsorted(ends, below(words, int(ends[-1])), side="right") + min(SENTENCES_IN_PARAGRAPH)
    return np.where(paragraphs, drawn, 1).astype(np.int64)


def longest_text(lorem: WordList) -> int:
    """The most characters that a paragraph of this word list can have."""
    word = max(map(len, lorem.words))
    sentence = max(WORDS_IN_SENTENCE) * (word + len(lorem.connector)) + len(lorem.full_stop)
    return MOST_SENTENCES * sentence
