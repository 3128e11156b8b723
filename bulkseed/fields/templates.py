"""Fields of a text with places: ``user-{n}@{faker.domain_name}``."""

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
from bulkseed.fields.choices import UUID_CHARACTERS, uuid_texts
from bulkseed.fields.fakers import FakePool
from bulkseed.fields.source import Distinct, Entry, FieldRows, Source
from bulkseed.text.names import scalar

__all__ = ["Template"]

WIDTH: Final = re.compile(r"0[1-9]\d?")
SUCH_AS: Final = "{n}, {id}, {uuid}, {email} or another column, or {faker.domain_name}"


class Placeholder(ABC):
    """A place of a template that something is put into."""

    @abstractmethod
    def texts(self, rows: FieldRows, part: str) -> pa.StringArray:
        """A text for each row; random words are those of ``part``."""

    @abstractmethod
    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        """As :meth:`Source.longest`."""


@dataclass(frozen=True, slots=True)
class Number(Placeholder):
    """``{n}``: the row's number, from 1; ``{n:06}`` with zeros before it."""

    width: int

    def texts(self, rows: FieldRows, part: str) -> pa.StringArray:
        return padded(pa.array(rows.numbers + 1).cast(pa.string()), self.width)

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        return max(self.width, len(str(greatest)))


@dataclass(frozen=True, slots=True)
class Column(Placeholder):
    """``{email}``: another column of the row, as text; nothing where it is null."""

    name: str
    width: int

    def texts(self, rows: FieldRows, part: str) -> pa.StringArray:
        texts = texts_of(rows.values(self.name))
        return padded(pc.fill_null(texts, scalar("")) if texts.null_count else texts, self.width)

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        most = len(str(greatest)) if self.name == "id" else columns.get(self.name)
        return None if most is None else max(self.width, most)


@dataclass(frozen=True, slots=True)
class Unique(Placeholder):
    """``{uuid}``: a random UUID."""

    def texts(self, rows: FieldRows, part: str) -> pa.StringArray:
        return uuid_texts(rows.words(part, each=2))

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        return UUID_CHARACTERS


@dataclass(frozen=True, slots=True)
class Faked(Placeholder):
    """``{faker.domain_name}``: a value from a pool of Faker's."""

    pool: FakePool

    def texts(self, rows: FieldRows, part: str) -> pa.StringArray:
        texts = texts_of(self.pool.drawn(rows.words(part)))
        return pc.fill_null(texts, scalar("")) if texts.null_count else texts

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        return longest_in(texts_of(self.pool.array))


@dataclass(frozen=True, eq=False)
class Template(Source):
    """``template = "user-{n}@{faker.domain_name}"``: literal texts and places in turn."""

    parts: tuple[str | Placeholder, ...]

    @classmethod
    def read(cls, entry: Entry) -> Self:
        text: str = entry.given["template"]
        if "\0" in text:
            raise entry.error("the template has a NUL character, which PostgreSQL's texts cannot hold: leave it out")
        try:
            pieces = list(Formatter().parse(text))
        except ValueError as error:
            raise entry.error(
                f"the template {text!r} cannot be read ({error}): double the braces that are meant as such, as in {{{{"
            ) from None
        return cls(tuple(parts_of(entry, pieces)))

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(part.name for part in self.parts if isinstance(part, Column)))

    def values(self, rows: FieldRows) -> pa.Array:
        texts = [
            pa.repeat(scalar(part), len(rows)) if isinstance(part, str) else part.texts(rows, f"template.{place}")
            for place, part in enumerate(self.parts)
        ]
        return pc.binary_join_element_wise(*texts, scalar("")) if texts else pa.repeat(scalar(""), len(rows))

    def arrow(self, schema: pa.Schema | None) -> pa.DataType | None:
        return pa.string()

    def longest(self, greatest: int, columns: Mapping[str, int]) -> int | None:
        lengths = [len(part) if isinstance(part, str) else part.longest(greatest, columns) for part in self.parts]
        known = [length for length in lengths if length is not None]
        return sum(known) if len(known) == len(lengths) else None

    def distinct(self) -> Distinct | None:
        found = {distinctness(part) for place, part in enumerate(self.parts) if self.stands_out(place)}
        return "always" if "always" in found else "run" if "run" in found else None

    def stands_out(self, place: int) -> bool:
        """Whether the text of a place can be told from the whole.

        A UUID always, for all that chance allows. A number where only literal texts come before it and no digit can
        follow, or only literal texts come after it and no digit can precede.
        """
        if isinstance(self.parts[place], Unique):
            return True
        before, after = self.parts[:place], self.parts[place + 1 :]
        return (literal(before) and not_a_digit(after, 0)) or (literal(after) and not_a_digit(before[::-1], -1))


def parts_of(entry: Entry, pieces: list[tuple[str, str | None, str | None, str | None]]) -> Iterator[str | Placeholder]:
    literal_text = ""
    for text, name, width, conversion in pieces:
        literal_text += text
        if name is None:
            continue
        if literal_text:
            yield literal_text
            literal_text = ""
        yield place_of(entry, name, width or "", conversion)
    if literal_text:
        yield literal_text


def place_of(entry: Entry, name: str, width: str, conversion: str | None) -> Placeholder:
    shown = f"{{{name}{'!' + conversion if conversion else ''}{':' + width if width else ''}}}"
    counted = name == "n" or (name.isidentifier() and name != "uuid")
    if conversion or (width and not (counted and WIDTH.fullmatch(width))):
        raise entry.error(
            f"the template's {shown} is not known: nothing but zeros and a width may follow, as in {{n:06}}"
        )
    if name == "n":
        return Number(int(width or 0))
    if name == "uuid":
        return Unique()
    if name.startswith("faker."):
        pool = FakePool(entry.where, entry.fakes, name.removeprefix("faker."))
        if isinstance(pool.check(), list | tuple | bytes):
            raise entry.error(f"Faker's {pool.method} gives no text, as a template needs: take another method")
        return Faked(pool)
    if not name.isidentifier():
        raise entry.error(f"the template's {shown} is not known: give {SUCH_AS}")
    return Column(entry.column(name), int(width or 0))


def padded(texts: pa.StringArray, width: int) -> pa.StringArray:
    return pc.utf8_lpad(texts, width, "0") if width else texts


def literal(parts: tuple[str | Placeholder, ...]) -> bool:
    return all(isinstance(part, str) for part in parts)


def not_a_digit(parts: tuple[str | Placeholder, ...], end: int) -> bool:
    """Whether what comes first in ``parts`` is nothing, or a literal text with no digit at that end."""
    return not parts or (isinstance(parts[0], str) and not parts[0][end].isdigit())


def distinctness(part: str | Placeholder) -> Distinct | None:
    match part:
        case Unique() | Column("id"):
            return "always"
        case Number():
            return "run"
    return None
