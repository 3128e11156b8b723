"""Sentences and paragraphs by Faker's rules, for a whole column at a time: about 0.1 µs for each text.

A sentence consists of two pieces: the opening, which is its first two words (the first one capitalized), and the
ending, which is the other one to six words with the full stop. There are 65,536 of each, so 16 random bits pick one,
and about 4 thousand million different sentences are possible (rule G6). One ``take`` of Arrow puts all the pieces of a
column side by side; dropping the offsets between pieces then joins them to texts, so that no text is copied twice.

Faker's rules (``faker.providers.lorem``): ``sentence()`` has ``int(6 * r / 100)`` words and ``paragraph()`` has
``int(3 * r / 100)`` sentences, with r uniform in 60..140; the first word is in title case.
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
    "RANDOM_WORDS_PER_TEXT",
    "SENTENCES_IN_PARAGRAPH",
    "WORDS_IN_SENTENCE",
    "Prose",
    "longest_text",
    "sentence_counts",
]


def counts_by_size(number: int) -> dict[int, int]:
    return dict(sorted(Counter(int(number * percent / 100) for percent in range(60, 141)).items()))


WORDS_IN_SENTENCE: Final = counts_by_size(6)
"""How many of 81 sentences have each number of words, 3 to 8."""
SENTENCES_IN_PARAGRAPH: Final = counts_by_size(3)
"""How many of 81 paragraphs have each number of sentences, 1 to 4."""
MOST_SENTENCES: Final = max(SENTENCES_IN_PARAGRAPH)

RANDOM_WORDS_PER_TEXT: Final = MOST_SENTENCES // 2
"""Random 64-bit words for each text: 32 bits for each sentence that a text may have."""

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
        later_openings = pc.binary_join_element_wise("", openings, lorem.connector)
        endings = pc.binary_join_element_wise(self.endings(streams), lorem.full_stop, "")
        self.pieces: pa.StringArray = pa.concat_arrays([openings, later_openings, endings])
        self.lengths: Ints = pc.utf8_length(self.pieces).to_numpy().astype(np.int64)
        self.one_word_endings = endings_by_words()[1]

    def texts(self, bits: Words, sentences: Ints) -> pa.StringArray:
        """Return a text for each of ``sentences``, the number of its sentences (1 to 4).

        ``bits`` has shape ``(len(sentences) * RANDOM_WORDS_PER_TEXT,)``.
        """
        return self.join_pieces(self.piece_indexes(bits), sentences)

    def short_texts(self, bits: Words, sentences: Ints, most_characters: int) -> pa.StringArray:
        """Return texts as :meth:`texts`, none longer than ``most_characters``.

        A text that would be longer has one sentence instead; if that is too long, its ending has one word.
        """
        indexes = self.piece_indexes(bits)
        pieces = np.arange(2 * MOST_SENTENCES)
        lengths = self.lengths[indexes]
        total = np.where(pieces < 2 * sentences[:, None], lengths, 0).sum(axis=1)
        first = lengths[:, :2].sum(axis=1)
        indexes[:, 1] = np.where(
            first > most_characters, 2 * PIECES + indexes[:, 1] % self.one_word_endings, indexes[:, 1]
        )
        texts = self.join_pieces(indexes, np.where(total > most_characters, 1, sentences))
        return pc.utf8_slice_codeunits(texts, 0, most_characters)

    def piece_indexes(self, bits: Words) -> Indexes:
        chunks = bits.astype("<u8", copy=False).view("<u2").reshape(-1, 2 * MOST_SENTENCES)
        indexes = chunks.astype(np.int32)
        indexes[:, 2::2] += PIECES
        indexes[:, 1::2] += 2 * PIECES
        return indexes

    def join_pieces(self, indexes: Indexes, sentences: Ints) -> pa.StringArray:
        counts = 2 * sentences
        pieces = self.pieces.take(pa.array(indexes[np.arange(2 * MOST_SENTENCES) < counts[:, None]]))
        _, offsets, data = pieces.buffers()
        ends = np.concatenate([[0], np.cumsum(counts)])
        starts = np.frombuffer(offsets, dtype=np.int32, count=len(pieces) + 1)[ends]
        return pa.StringArray.from_buffers(len(sentences), pa.py_buffer(starts), data)

    def openings(self, streams: Streams) -> pa.StringArray:
        first, second = (self.pick(streams, f"opening.{number}", PIECES) for number in range(OPENING_WORDS))
        return pc.binary_join_element_wise(self.titles.take(first), self.vocabulary.take(second), self.connector)

    def endings(self, streams: Streams) -> pa.StringArray:
        """Return the endings, those of fewer words first. Each begins with the connector, as it follows an opening."""
        counts = list(endings_by_words().items())
        blocks = []
        start = 0
        for words, count in counts:
            columns = [
                self.vocabulary.take(self.pick(streams, f"ending.{number}", PIECES).slice(start, count))
                for number in range(words)
            ]
            blocks.append(pc.binary_join_element_wise("", *columns, self.connector))
            start += count
        return pa.concat_arrays(blocks)

    def pick(self, streams: Streams, column: str, count: int) -> pa.Int64Array:
        return pa.array(below(streams.words("lorem", column, 0, count), len(self.vocabulary)))


@lru_cache(maxsize=1)
def endings_by_words() -> dict[int, int]:
    """Return the number of endings by their number of words, in the proportions of :data:`WORDS_IN_SENTENCE`."""
    total = sum(WORDS_IN_SENTENCE.values())
    counts = {}
    cumulative = start = 0
    for words, share in WORDS_IN_SENTENCE.items():
        cumulative += share
        end = round(PIECES * cumulative / total)
        counts[words - OPENING_WORDS] = end - start
        start = end
    return counts


def sentence_counts(bits: Words, paragraphs: Bools) -> Ints:
    """Return the number of sentences of each text: 1, or a number by Faker's rule where ``paragraphs`` is true."""
    ends = np.cumsum(list(SENTENCES_IN_PARAGRAPH.values()))
    counts, several = np.ones(len(bits), dtype=np.int64), np.flatnonzero(paragraphs)
    drawn = np.searchsorted(ends, below(bits[several], int(ends[-1])), side="right")
    counts[several] = drawn + min(SENTENCES_IN_PARAGRAPH)
    return counts


def longest_text(lorem: WordList) -> int:
    """Return an upper bound of the characters of a paragraph with this word list."""
    word = max(map(len, lorem.words))
    sentence = max(WORDS_IN_SENTENCE) * (word + len(lorem.connector)) + len(lorem.full_stop)
    return MOST_SENTENCES * sentence
