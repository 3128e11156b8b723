"""Names, companies, sentences and paragraphs are those that Faker itself generates."""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache

import numpy as np
import pyarrow.compute as pc
import pytest
from faker import Faker
from faker.config import AVAILABLE_LOCALES
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkseed.errors import InputError
from bulkseed.plan.tables import TABLES
from bulkseed.randomness.draws import Ints, Streams
from bulkseed.text.faker_source import make_corpus
from bulkseed.text.fakes import Fakes
from bulkseed.text.names import Corpus, Patterns, Pool, WordList, draw_names, slug_of
from bulkseed.text.prose import (
    MOST_SENTENCES,
    RANDOM_WORDS_PER_TEXT,
    SENTENCES_IN_PARAGRAPH,
    WORDS_IN_SENTENCE,
    Prose,
    longest_text,
    sentence_counts,
)
from support.errors import raises
from support.evenness import unevenness

STREAMS = Streams(seed=1, first_user=1)
PROSE_LOCALES = ["en_US", "ja_JP", "th_TH", "fr_FR"]
UNAMBIGUOUS_LOCALES = ["en_US", "de_DE"]
"""Where spaces, and none within a word, leave one way to read a sentence."""

SAMPLED = {
    "name": {"es_CL", "is_IS"},
    "company": {"en_PH", "fil_PH", "tl_PH", "es", "es_ES", "es_CL", "is_IS"},
}
"""Locales whose methods build values by code of their own, or from names that do: their corpus has samples."""

SLUG = re.compile(r"([a-z]+(\.[a-z]+)*)?")

LONGEST = {(table.name, column.name): column.longest for table in TABLES for column in table.columns if column.longest}


def longest_of(patterns: Patterns) -> int:
    def longest(part: str | Pool) -> int:
        return max(map(len, part.texts)) if isinstance(part, Pool) else len(part)

    return max(sum(map(longest, pattern.parts)) for pattern in patterns.patterns)


# one test for all of it: taking a locale out of Faker is what takes the time
@pytest.mark.filterwarnings("ignore")  # Faker warns of deprecated locales
@pytest.mark.parametrize("locale", sorted(AVAILABLE_LOCALES))
def test_every_locale(locale: str) -> None:
    corpus = make_corpus(locale)
    assert corpus.locale == locale
    check_values_of_faker_are_recognised(corpus)
    check_fits_the_columns(corpus)
    for patterns in (corpus.person, corpus.company):
        check_weights_and_slugs(patterns)


def check_values_of_faker_are_recognised(corpus: Corpus) -> None:
    fake = Faker(corpus.locale)
    fake.seed_instance(20260601)
    for method, patterns in (("name", corpus.person), ("company", corpus.company)):
        made = {str(getattr(fake, method)()) for _ in range(40)}
        unknown = {text for text in made if not patterns.slugs(text)}
        assert not unknown or corpus.locale in SAMPLED[method]


def check_fits_the_columns(corpus: Corpus) -> None:
    assert longest_of(corpus.person) <= LONGEST["users", "name"]
    assert longest_of(corpus.person) + len(" DM") <= LONGEST["channels", "name"]
    assert longest_of(corpus.company) <= LONGEST["channels", "name"]
    assert all(corpus.lorem.words)
    # a title may be longer than its word (ligatures), and longest_text counts on words
    assert max(len(word.title()) for word in corpus.lorem.words) <= max(map(len, corpus.lorem.words))


def check_weights_and_slugs(patterns: Patterns) -> None:
    assert sum(pattern.weight for pattern in patterns.patterns) == 1
    pools = {part for pattern in patterns.patterns for part in pattern.parts if isinstance(part, Pool)}
    assert all(pattern.weight > 0 for pattern in patterns.patterns)
    for pool in pools:
        assert len(pool.texts) == len(pool.slugs) == len(pool.weights) > 0
        assert all(SLUG.fullmatch(slug) for slug in pool.slugs)
        assert min(pool.weights) >= 0
        assert not any("{{" in text for text in pool.texts)


@pytest.mark.parametrize("locale", ["en_US", "de_DE", "ja_JP", "zh_CN", "ru_RU", "ar_AA", "th_TH", "es_CL", "pl_PL"])
def test_names_can_be_parsed_to_their_slugs(locale: str) -> None:
    corpus = make_corpus(locale)
    for patterns in (corpus.person, corpus.company):
        texts, slugs = draw_names(patterns, STREAMS, "test", "name", np.arange(12_345, 12_645))
        assert len(texts) == len(slugs) == 300
        for text, slug in zip(texts.to_pylist(), slugs.to_pylist(), strict=True):
            assert slug in patterns.slugs(text)
            assert SLUG.fullmatch(slug)


@pytest.mark.parametrize("locale", ["en_US", "ja_JP", "es_CL"])
def test_names_are_the_same_in_any_slice(locale: str) -> None:
    patterns = make_corpus(locale).person
    texts, slugs = draw_names(patterns, STREAMS, "test", "name", np.arange(100, 150))
    for start, count in ((100, 1), (113, 20), (149, 1)):
        part, part_slugs = draw_names(patterns, STREAMS, "test", "name", np.arange(start, start + count))
        assert part.equals(texts.slice(start - 100, count))
        assert part_slugs.equals(slugs.slice(start - 100, count))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("locale", ["en_US", "de_DE", "pl_PL", "ru_RU", "en_GB"])
@pytest.mark.parametrize("method", ["name", "company"])
def test_shapes_of_values_are_as_frequent_as_fakers(locale: str, method: str) -> None:
    corpus = make_corpus(locale)
    count = 2000
    fake = Faker(locale)
    fake.seed_instance(1)
    theirs = Counter(shape(str(getattr(fake, method)())) for _ in range(count))
    patterns = corpus.person if method == "name" else corpus.company
    ours = Counter(
        shape(text) for text in draw_names(patterns, STREAMS, "test", method, np.arange(20_000))[0].to_pylist()
    )
    for key in theirs | ours:
        share, pooled = theirs[key] / count, (theirs[key] + ours[key]) / (count + 20_000)
        error = math.sqrt(pooled * (1 - pooled) * (1 / count + 1 / 20_000))
        assert abs(share - ours[key] / 20_000) <= 4.5 * error, key


def shape(text: str) -> str:
    """How many words, and which marks: enough to tell most patterns apart."""
    return f"{min(len(text.split()), 5)}{''.join(sorted(set(text) & set('.,-')))}"


@pytest.mark.parametrize(
    ("locale", "suggested"),
    [
        ("en_UK", "en_"),
        ("de-De", "de_DE"),
        ("ja_jp", "ja_JP"),
        ("fr", "fr_"),
        ("xx_XX", "en_US"),
        ("", "en_US"),
    ],
)
def test_unknown_locale_is_refused_with_a_suggestion(locale: str, suggested: str) -> None:
    with raises("unknown-locale", repr(locale), suggested, kind=InputError) as caught:
        make_corpus(locale)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("method", "arguments", "providers", "code", "facts"),
    [
        ("emial", {}, (), "unknown-faker-method", ("'emial'", "en_US", "email")),
        ("zip", {}, (), "unreproducible-faker-method", ("zip",)),
        ("pyint", {"minimun": 1}, (), "faker-call-failed", ("pyint", "TypeError")),
        ("name", {}, ("fillers:phones",), "not-a-faker-provider", ("fillers:phones", "BaseProvider")),
    ],
)
def test_methods_and_providers_that_cannot_be_used_are_refused(
    method: str, arguments: dict[str, int], providers: tuple[str, ...], code: str, facts: tuple[str, ...]
) -> None:
    with raises(code, *facts, kind=InputError):
        Fakes("en_US", 1, 0, providers).check(method, arguments)


def test_locale_may_be_written_with_a_hyphen() -> None:
    assert make_corpus("de-DE").locale == "de_DE"


@pytest.mark.parametrize(
    ("text", "slug"),
    [("Dr. Zoë Müller", "dr.zoe.muller"), ("O'Neil-Smith", "o.neil.smith"), ("123", ""), ("", "")],
)
def test_slug_is_lower_case_ascii(text: str, slug: str) -> None:
    assert slug_of(text) == slug


@given(st.text())
def test_slug_of_anything_fits_an_address(text: str) -> None:
    assert SLUG.fullmatch(slug_of(text))


@cache
def prose_of(locale: str) -> Prose:
    return Prose(make_corpus(locale).lorem, STREAMS)


def word_counts(text: str, lorem: WordList) -> set[int]:
    """How many words a sentence without its full stop may be read as, the first of them in title case."""
    words = set(lorem.words)
    titles = {word.title() for word in words}
    longest = max(map(len, words | titles))
    reached: list[set[int]] = [set() for _ in range(len(text) + 1)]
    for end in range(1, len(text) + 1):
        for begin in range(max(0, end - longest), end):
            piece = text[begin:end]
            if begin == 0 and piece in titles:
                reached[end].add(1)
            before = begin - len(lorem.connector)
            if before > 0 and reached[before] and piece in words and text[before:begin] == lorem.connector:
                reached[end] |= {count + 1 for count in reached[before]}
    return reached[-1]


def sentences_of(text: str, lorem: WordList) -> list[str]:
    """The sentences of a paragraph, without their full stops."""
    assert text.endswith(lorem.full_stop)
    return text.removesuffix(lorem.full_stop).split(lorem.full_stop + lorem.connector)


def bits_for(count: int, column: str = "content") -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return STREAMS.words("test_corpus", column, 0, count * RANDOM_WORDS_PER_TEXT)


@pytest.mark.parametrize("locale", PROSE_LOCALES)
def test_word_lists_leave_sentences_readable(locale: str) -> None:
    lorem = make_corpus(locale).lorem
    assert not any(lorem.full_stop in word for word in lorem.words)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("locale", PROSE_LOCALES)
def test_reading_sentences_works_on_fakers_own(locale: str) -> None:
    lorem = make_corpus(locale).lorem
    fake = Faker(locale)
    fake.seed_instance(3)
    for _ in range(50):
        for sentence in sentences_of(fake.paragraph(), lorem):
            assert word_counts(sentence, lorem) & set(WORDS_IN_SENTENCE)


@pytest.mark.parametrize("locale", PROSE_LOCALES)
def test_texts_follow_fakers_rules(locale: str) -> None:
    lorem = make_corpus(locale).lorem
    count = 400
    sentences: Ints = 1 + np.arange(count) % MOST_SENTENCES
    texts = prose_of(locale).texts(bits_for(count), sentences)
    assert texts.null_count == 0
    for text, wanted in zip(texts.to_pylist(), sentences, strict=True):
        assert len(text) <= longest_text(lorem)
        found = sentences_of(text, lorem)
        assert len(found) == wanted
        for sentence in found:
            assert word_counts(sentence, lorem) & set(WORDS_IN_SENTENCE), text


@pytest.mark.parametrize("locale", UNAMBIGUOUS_LOCALES)
def test_words_in_a_sentence_are_distributed_as_fakers(locale: str) -> None:
    texts = prose_of(locale).texts(bits_for(40_000), np.ones(40_000, dtype=np.int64))
    assert not any(" " in word for word in make_corpus(locale).lorem.words)
    counts = np.bincount(pc.count_substring(texts, " ").to_numpy() + 1)
    assert not counts[:3].any()
    assert unevenness(counts[3:], list(WORDS_IN_SENTENCE.values())) < 4


def test_every_sentence_of_a_paragraph_has_the_same_distribution() -> None:
    texts = prose_of("en_US").texts(bits_for(20_000), np.full(20_000, MOST_SENTENCES))
    split = [sentences_of(text, make_corpus("en_US").lorem) for text in texts.to_pylist()]
    for index in range(MOST_SENTENCES):
        counts = np.bincount([len(text[index].split(" ")) for text in split], minlength=9)
        assert unevenness(counts[3:], list(WORDS_IN_SENTENCE.values())) < 4
    assert len({sentence for text in split for sentence in text}) > 0.999 * 20_000 * MOST_SENTENCES


def test_shares_are_those_of_faker() -> None:
    for shares, number in ((WORDS_IN_SENTENCE, 6), (SENTENCES_IN_PARAGRAPH, 3)):
        assert shares == Counter(int(number * percent / 100) for percent in range(60, 141))
    assert sum(WORDS_IN_SENTENCE.values()) == sum(SENTENCES_IN_PARAGRAPH.values()) == 81
    fake = Faker("en_US")
    fake.seed_instance(5)
    theirs = np.bincount([len(fake.sentence().split(" ")) for _ in range(4000)], minlength=9)
    assert unevenness(theirs[3:], list(WORDS_IN_SENTENCE.values())) < 4
    theirs = np.bincount([fake.paragraph().count(".") for _ in range(4000)], minlength=5)
    assert unevenness(theirs[1:], list(SENTENCES_IN_PARAGRAPH.values())) < 4


def test_sentences_in_a_paragraph_are_distributed_as_fakers() -> None:
    bits = STREAMS.words("test_corpus", "sentences", 0, 40_000)
    paragraphs = np.arange(len(bits)) % 2 == 0
    counts = sentence_counts(bits, paragraphs)
    assert (counts[~paragraphs] == 1).all()
    found = np.bincount(counts[paragraphs])
    assert found[0] == 0
    assert unevenness(found[1:], list(SENTENCES_IN_PARAGRAPH.values())) < 4


@pytest.mark.parametrize("locale", PROSE_LOCALES)
@pytest.mark.parametrize("most", [1, 3, 12, 25, 40, 100, 200])
def test_short_texts_are_never_too_long_nor_empty(locale: str, most: int) -> None:
    count = 4000
    sentences: Ints = 1 + np.arange(count) % MOST_SENTENCES
    texts = prose_of(locale).short_texts(bits_for(count, f"short.{most}"), sentences, most)
    lengths = pc.utf8_length(texts).to_numpy()
    assert lengths.min() >= 1
    assert lengths.max() <= most


@pytest.mark.parametrize("locale", PROSE_LOCALES)
def test_short_texts_that_fit_are_the_texts_themselves(locale: str) -> None:
    count, most = 3000, 100
    sentences: Ints = 1 + np.arange(count) % 2
    bits = bits_for(count, "fitting")
    short = prose_of(locale).short_texts(bits.copy(), sentences, most).to_pylist()
    complete = prose_of(locale).texts(bits, sentences).to_pylist()
    lorem = make_corpus(locale).lorem
    for shortened, text in zip(short, complete, strict=True):
        if len(text) <= most:
            assert shortened == text
        else:
            [sentence] = sentences_of(shortened, lorem)
            assert word_counts(sentence, lorem) & set(WORDS_IN_SENTENCE)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5),
    st.sampled_from(["", " ", "--"]),
    st.sampled_from(["", ".", " ", "..."]),
    st.integers(),
)
def test_longest_text_bounds_every_word_list(words: list[str], connector: str, stop: str, seed: int) -> None:
    # no locale has words whose title is longer (check_fits_the_columns)
    kept = tuple(word for word in words if len(word.title()) == len(word)) or ("a",)
    lorem = WordList(kept, connector, stop)
    prose = Prose(lorem, Streams(seed, 1))
    openings, endings = prose.lengths[: len(prose.lengths) // 3], prose.lengths[2 * len(prose.lengths) // 3 :]
    sentence = int(openings.max() + endings.max())
    longest = MOST_SENTENCES * sentence + (MOST_SENTENCES - 1) * len(connector)
    assert longest <= longest_text(lorem)
    texts = prose.texts(bits_for(50), np.full(50, MOST_SENTENCES))
    assert pc.max(pc.utf8_length(texts)).as_py() <= longest


@pytest.mark.parametrize("locale", PROSE_LOCALES)
def test_longest_text_is_nearly_reached(locale: str) -> None:
    """A bound that is far too high would refuse a target's column for nothing."""
    lorem = make_corpus(locale).lorem
    word = max(map(len, lorem.words))
    sentence = (
        max(WORDS_IN_SENTENCE) * word + (max(WORDS_IN_SENTENCE) - 1) * len(lorem.connector) + len(lorem.full_stop)
    )
    exact = MOST_SENTENCES * sentence + (MOST_SENTENCES - 1) * len(lorem.connector)
    assert exact <= longest_text(lorem) <= exact + MOST_SENTENCES
