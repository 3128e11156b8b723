"""Corpora of one version of Faker, kept in generators/corpora/: rows with them do not depend on the installed Faker.

``python tests/support/frozen_corpora.py`` writes them again, with the installed versions of Faker and anyascii. The
digests in generators/golden/ depend on them and must then be pinned again, as test_golden.py explains.
"""

from __future__ import annotations

import json
from fractions import Fraction
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from bulkseed.text.faker_source import FAKER_VERSION, make_corpus
from bulkseed.text.names import Corpus, Pattern, Patterns, Pool, WordList

FOLDER: Final = Path(__file__).parents[1] / "generators" / "corpora"
LOCALES: Final = ("en_US", "fr_FR", "ja_JP")
"""ASCII letters; letters with accents; no Latin letter, and names that Faker has romanised."""

METHODS: Final = ("person", "company")


def values_of(corpus: Corpus) -> dict[str, Any]:
    """Return a corpus ready for JSON, with the versions of the packages that it comes from.

    ``pools`` are lists of (text, slug, weight), each pool once. A pattern of ``person`` or ``company`` is its weight
    and its parts: literal texts, and the indexes of pools. Weights are exact: ``1/3``.
    """
    pools: dict[tuple[tuple[str, str, str], ...], int] = {}

    def encode(part: str | Pool) -> str | int:
        if isinstance(part, str):
            return part
        entries = zip(part.texts, part.slugs, map(str, part.weights), strict=True)
        return pools.setdefault(tuple(entries), len(pools))

    patterns = {
        method: [
            [str(pattern.weight), [encode(part) for part in pattern.parts]]
            for pattern in getattr(corpus, method).patterns
        ]
        for method in METHODS
    }
    return {
        "locale": corpus.locale,
        **versions(),
        **patterns,
        "connector": corpus.lorem.connector,
        "full_stop": corpus.lorem.full_stop,
        "words": list(corpus.lorem.words),
        "pools": [[list(entry) for entry in pool] for pool in pools],
    }


def corpus_from(values: dict[str, Any]) -> Corpus:
    """Return the corpus from the output of :func:`values_of`."""
    pools = [
        Pool(
            tuple(text for text, _, _ in entries),
            tuple(slug for _, slug, _ in entries),
            tuple(Fraction(weight) for _, _, weight in entries),
        )
        for entries in values["pools"]
    ]

    def patterns(method: str) -> Patterns:
        return Patterns(
            tuple(
                Pattern(tuple(part if isinstance(part, str) else pools[part] for part in parts), Fraction(weight))
                for weight, parts in values[method]
            )
        )

    lorem = WordList(tuple(values["words"]), values["connector"], values["full_stop"])
    return Corpus(values["locale"], patterns("person"), patterns("company"), lorem)


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that a corpus depends on."""
    return {"faker": FAKER_VERSION, "anyascii": version("anyascii")}


@cache
def frozen_values(locale: str) -> dict[str, Any]:
    """Return the contents of the file of a locale."""
    values: dict[str, Any] = json.loads(file_of(locale).read_text("utf-8"))
    return values


@cache
def frozen_corpus(locale: str) -> Corpus:
    """Return the kept corpus of a locale."""
    return corpus_from(frozen_values(locale))


def file_of(locale: str) -> Path:
    return FOLDER / f"{locale}.json"


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the names of the values in which two corpora differ, except their versions."""
    return [name for name in one if name not in versions() and one[name] != other[name]]


def text_of(values: dict[str, Any]) -> str:
    """Return the JSON of a corpus, with a line for each pattern, word and entry of a pool for readable diffs."""

    def lines(value: Any, depth: int) -> str:
        if not depth or not isinstance(value, list):
            return json.dumps(value, ensure_ascii=False)
        return "[\n" + ",\n".join(lines(element, depth - 1) for element in value) + "\n]"

    depths = {"pools": 2}
    return (
        "{\n" + ",\n".join(f'"{name}": {lines(value, depths.get(name, 1))}' for name, value in values.items()) + "\n}\n"
    )


def freeze() -> None:
    """Write the corpora of the installed Faker."""
    FOLDER.mkdir(exist_ok=True)
    for locale in LOCALES:
        file_of(locale).write_text(text_of(values_of(make_corpus(locale))), "utf-8")


if __name__ == "__main__":
    freeze()
