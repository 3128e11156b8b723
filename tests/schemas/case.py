"""A generated schema: SQL that makes it, the scenario that maps it, and the options of its load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from bulkseed.load_options import Defer, Format

Loader = Literal["superuser", "owner", "granted"]
"""Who loads: a superuser, the owner of all tables, or a user with the privileges that the documentation lists."""


Tables = tuple[str, str, str, str]
"""The kind of keys, the type of ids, the type of times, and how messages are stored."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A part of a schema: the SQL that makes it, and what it adds to the scenario file.

    ``fields`` are values of columns as TOML, by table and column; ``scenario`` are further lines. ``leaves`` are the
    tables whose rows after cleanup need not be those before, as triggers of the app write them.
    """

    sql: str
    fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    scenario: str = ""
    leaves: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """The options of the load."""

    defer: Defer = "always"
    copy_format: Format = "auto"
    rows_per_shard: int = 200
    loader: Loader = "superuser"
    schema: str = "public"
    checks: bool = False


MARK: Final = "-- options: "


@dataclass(frozen=True, slots=True)
class Case:
    """What is run: tables, and parts that are made in this order, each in a transaction."""

    options: LoadOptions
    tables: Tables
    features: tuple[Feature, ...]

    @property
    def sql(self) -> str:
        """The statements of all parts."""
        return "\n".join(feature.sql.strip() for feature in self.features) + "\n"

    @property
    def leaves(self) -> list[str]:
        """The tables whose rows are not compared."""
        return [table for feature in self.features for table in feature.leaves]

    @property
    def scenario(self) -> str:
        """The text of the scenario file."""
        fields: dict[str, dict[str, str]] = {}
        for feature in self.features:
            for table, columns in feature.fields.items():
                fields.setdefault(table, {}).update(columns)
        lines = [f'schema = "{self.options.schema}"', *(feature.scenario for feature in self.features)]
        for table, columns in fields.items():
            lines += [f"[fields.{table}]", *(f"{column} = {value}" for column, value in columns.items())]
        # keys of the file come before its sections
        return "\n".join(line for line in lines if line) + "\n"

    def without(self, index: int) -> Case:
        """Return the case without one of its parts."""
        return replace(self, features=self.features[:index] + self.features[index + 1 :])

    def keep(self, folder: Path, name: str, outcome: str) -> None:
        """Write the case to two files, ``name`` with ``.sql`` and ``.toml``, as :func:`kept` reads them."""
        options = json.dumps(asdict(self.options) | {"tables": self.tables, "leaves": self.leaves, "outcome": outcome})
        (folder / f"{name}.sql").write_text(f"{MARK}{options}\n{self.sql}")
        (folder / f"{name}.toml").write_text(self.scenario)


@dataclass(frozen=True, slots=True)
class Kept:
    """A case that failed once: its further SQL, its scenario, and the outcome that is right.

    ``outcome`` is ``loaded``, the code of the refusal, or ``refused`` for any.
    """

    sql: str
    scenario: str
    options: LoadOptions
    tables: Tables
    leaves: list[str]
    outcome: str


def kept(file: Path) -> Kept:
    """Read a case that :meth:`Case.keep` wrote."""
    text = file.read_text()
    first, _, sql = text.partition("\n")
    options = json.loads(first.removeprefix(MARK))
    tables, leaves, outcome = (options.pop(key) for key in ("tables", "leaves", "outcome"))
    return Kept(sql, file.with_suffix(".toml").read_text(), LoadOptions(**options), tuple(tables), leaves, outcome)
