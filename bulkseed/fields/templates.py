"""Fields of texts with placeholders: ``user-{n}@{faker.domain_name}``."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Final, Self

import pyarrow as pa
import pyarrow.compute as pc

from bulkseed.arrays import longest_in, texts_of
from bulkseed.fields.fakers import FakePool
from bulkseed.fields.source import Distinct, Entry, FieldRows, Source
from bulkseed.fields.values import UUID_CHARACTERS, make_uuid_texts
from bulkseed.text.names import scalar

__all__ = ["FAKER_PLACEHOLDER", "Template"]

WIDTH: Final = re.compile(r"0[1-9]\d?")
FAKER_PLACEHOLDER: Final = "{faker."
PLACEHOLDERS: Final = "{n}, {id}, {uuid}, {email} or another column, or {faker.domain_name}"


class Placeholder(ABC):
    """A placeholder of a template."""

    @abstractmethod
    def texts(self, rows: FieldRows, part: str) -> pa.StringArray:
        """Return a text for each row; random texts are drawn from the words of ``part``."""

    @abstractmethod
    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        """Return the most characters of a text, as :meth:`Source.longest`."""


@dataclass(frozen=True, slots=True)
class Number(Placeholder):
    """``{n}``: the row's number, from 1; ``{n:06}`` pads it with zeros to six characters."""

    width: int

    def texts(self, rows: FieldRows, part: str) -> pa.StringArray:
        return pad(pa.array(rows.numbers + 1).cast(pa.string()), self.width)

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        return max(self.width, len(str(greatest)))


@dataclass(frozen=True, slots=True)
class Column(Placeholder):
    """``{email}``: another column of the row, as text; an empty text for null."""

    name: str
    width: int

    def texts(self, rows: FieldRows, part: str) -> pa.StringArray:
        texts = texts_of(rows.values(self.name))
        return pad(pc.fill_null(texts, scalar("")) if texts.null_count else texts, self.width)

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        most = len(str(greatest)) if self.name == "id" else columns.get(self.name)
        return None if most is None else max(self.width, most)


@dataclass(frozen=True, slots=True)
class RandomUuid(Placeholder):
    """``{uuid}``: a random UUID."""

    def texts(self, rows: FieldRows, part: str) -> pa.StringArray:
        return make_uuid_texts(rows.words(part, each=2))

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        return UUID_CHARACTERS


@dataclass(frozen=True, slots=True)
class FakerText(Placeholder):
    """``{faker.domain_name}``: a value from a pool of Faker values."""

    pool: FakePool

    def texts(self, rows: FieldRows, part: str) -> pa.StringArray:
        texts = texts_of(self.pool.draw(rows.words(part)))
        return pc.fill_null(texts, scalar("")) if texts.null_count else texts

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        return longest_in(texts_of(self.pool.array))


@dataclass(frozen=True, eq=False)
class Template(Source):
    """``template = "user-{n}@{faker.domain_name}"``: literal texts and placeholders, in the order of the text."""

    parts: tuple[str | Placeholder, ...]

    @classmethod
    def read(cls, entry: Entry) -> Self:
        text: str = entry.options["template"]
        if "\0" in text:
            raise entry.error(
                "the template has a NUL character, which PostgreSQL's texts cannot hold: leave it out",
                code="wrong-template",
            )
        try:
            pieces = list(Formatter().parse(text))
        except ValueError as error:
            raise entry.error(
                f"the template {text!r} cannot be read ({error}): double the braces that belong to the text, as in "
                "{{ and }}",
                code="wrong-template",
            ) from error
        return cls(tuple(read_parts(entry, pieces)))

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(part.name for part in self.parts if isinstance(part, Column)))

    @property
    def pools(self) -> tuple[FakePool, ...]:
        return tuple(part.pool for part in self.parts if isinstance(part, FakerText))

    def values(self, rows: FieldRows) -> pa.Array:
        texts = [
            pa.repeat(scalar(part), len(rows)) if isinstance(part, str) else part.texts(rows, f"template.{index}")
            for index, part in enumerate(self.parts)
        ]
        return pc.binary_join_element_wise(*texts, scalar("")) if texts else pa.repeat(scalar(""), len(rows))

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return pa.string()

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        lengths = [len(part) if isinstance(part, str) else part.longest(greatest, columns) for part in self.parts]
        known = [length for length in lengths if length is not None]
        return sum(known) if len(known) == len(lengths) else None

    def distinct(self) -> Distinct | None:
        scopes = {distinct_scope(part) for index, part in enumerate(self.parts) if self.is_recoverable(index)}
        return "always" if "always" in scopes else "run" if "run" in scopes else None

    def is_recoverable(self, index: int) -> bool:
        """Return whether the text of the part at ``index`` follows from the complete text, so that distinct parts make
        distinct texts.

        True for a UUID (equal texts are as improbable as equal UUIDs). True for a number if only literal texts come
        before it and no digit follows, or only literal texts come after it and no digit precedes.
        """
        if isinstance(self.parts[index], RandomUuid):
            return True
        before, after = self.parts[:index], self.parts[index + 1 :]
        return (is_literal(before) and has_no_digit(after, 0)) or (is_literal(after) and has_no_digit(before[::-1], -1))


def read_parts(
    entry: Entry, pieces: list[tuple[str, str | None, str | None, str | None]]
) -> Iterator[str | Placeholder]:
    literal_text = ""
    for text, name, width, conversion in pieces:
        literal_text += text
        if name is None:
            continue
        if literal_text:
            yield literal_text
            literal_text = ""
        yield read_placeholder(entry, name, width or "", conversion)
    if literal_text:
        yield literal_text


def read_placeholder(entry: Entry, name: str, width: str, conversion: str | None) -> Placeholder:
    shown = f"{{{name}{'!' + conversion if conversion else ''}{':' + width if width else ''}}}"
    may_have_width = name == "n" or (name.isidentifier() and name != "uuid")
    if conversion or (width and not (may_have_width and WIDTH.fullmatch(width))):
        raise entry.error(
            f"the template's {shown} is not a placeholder: only a 0 and a width may follow the name of a column or n, "
            "as in {n:06}",
            code="wrong-template",
        )
    if name == "n":
        return Number(int(width or 0))
    if name == "uuid":
        return RandomUuid()
    if name.startswith("faker."):
        pool = FakePool(entry.where, entry.fakes, name.removeprefix("faker."))
        trial = pool.check()
        if trial.is_list:
            raise entry.error(
                f"a template cannot hold the {trial.type_name} of Faker's {pool.method}: use another method",
                code="faker-not-text",
            )
        return FakerText(pool)
    if not name.isidentifier():
        raise entry.error(f"the template's {shown} is not a placeholder: give {PLACEHOLDERS}", code="wrong-template")
    return Column(entry.check_column(name), int(width or 0))


def pad(texts: pa.StringArray, width: int) -> pa.StringArray:
    return pc.utf8_lpad(texts, width, "0") if width else texts


def is_literal(parts: tuple[str | Placeholder, ...]) -> bool:
    return all(isinstance(part, str) for part in parts)


def has_no_digit(parts: tuple[str | Placeholder, ...], end: int) -> bool:
    """Return whether ``parts`` is empty, or begins with a text whose character at ``end`` (0 or -1) is no digit."""
    return not parts or (isinstance(parts[0], str) and not parts[0][end].isdigit())


def distinct_scope(part: str | Placeholder) -> Distinct | None:
    match part:
        case RandomUuid() | Column("id"):
            return "always"
        case Number():
            return "run"
    return None
