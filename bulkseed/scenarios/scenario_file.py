"""Scenario files: TOML, as the user writes it or as one of those that ship, read and checked all at once."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from bulkseed.errors import InputError, suggestion
from bulkseed.fields import normalised, parse_field
from bulkseed.generators.plugins import described
from bulkseed.plan.plan import Probabilities
from bulkseed.plan.scenario import Extra, Rule, Scenario, Shape
from bulkseed.plan.tables import CATALOGUE, TABLES
from bulkseed.scenarios.plugin_tables import has_order, put_together
from bulkseed.scenarios.relationships import related
from bulkseed.scenarios.shipped import shipped
from bulkseed.target.target import ARROW_TYPES
from bulkseed.text.faker_values import Fakes

__all__ = ["ScenarioFile", "read_scenario"]

SECTIONS: Final = (
    "base",
    "schema",
    "uuid",
    "plugins",
    "providers",
    "counts",
    "probabilities",
    "shape",
    "tables",
    "columns",
    "fields",
    "relationships",
    "rules",
)
COUNTS: Final = ("users", "channels", "messages_per_channel")
NEEDED: Final = {"users": ("id",), "channels": ("id",), "messages": ("id",)}
"""What an app cannot do without: rows are found again by them."""
NEVER_LACKED: Final = ("users", "channels")


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """What a scenario says: the plan's part of it, and the counts and probabilities that it begins with."""

    scenario: Scenario
    counts: Mapping[str, int]
    probabilities: Probabilities


def read_scenario(named: str, fakes: Fakes, *, schema: str | None = None, plugins: Iterable[str] = ()) -> ScenarioFile:
    """The scenario that ships under a name, or that is in a TOML file; ``schema`` and ``plugins`` go before its own.
    ``fakes`` are what its fields of Faker's are tried with.

    Raises InputError, which names all that is wrong with it, and the mend of each.
    """
    values = with_base(*values_of(named))
    providers = values.get("providers", [])
    problems = Problems(
        named, replace(fakes, providers=tuple(map(str, providers if isinstance(providers, list) else [])))
    )
    for name in problems.unknown("the scenario", values, SECTIONS):
        values.pop(name)
    problems.types(values)
    problems.refuse()
    given = [*problems.plugins([*plugins, *values.get("plugins", [])])]
    relationships = values.get("relationships", {})
    for name, declared in relationships.items():
        given += problems.tried(related, name, declared)
    known = {table.name: table.column_names for table in (*TABLES, CATALOGUE)} | {
        extra.name: extra.columns for extra in given
    }
    tables = problems.tables(values.get("tables", {}), known)
    extras = problems.together(given, tables)
    columns = problems.columns(values.get("columns", {}), known, extras)
    filled = problems.fields(values.get("fields", {}), known, columns, extras)
    scenario = Scenario(
        name=Path(named).stem,
        shape=problems.made(Shape, "shape", values.get("shape", {})),
        schema=schema if schema is not None else values.get("schema"),
        uuid=problems.uuid(values.get("uuid", 4)),
        tables=tables,
        columns=columns,
        fields=filled,
        relationships={name: normalised(declared, f"relationships.{name}") for name, declared in relationships.items()},
        providers=problems.fakes.providers,
        extras=extras,
        rules=problems.rules(values.get("rules", [])),
    )
    counts = problems.counts(values.get("counts", {}))
    probabilities = problems.made(Probabilities, "probabilities", values.get("probabilities", {}))
    problems.refuse()
    return ScenarioFile(scenario, counts, probabilities)


def values_of(named: str) -> tuple[str, dict[str, Any]]:
    """Where a scenario is from, and what it says. Raises InputError where it cannot be read."""
    if named in shipped():
        return named, tomllib.loads((resources.files("bulkseed") / "scenarios" / f"{named}.toml").read_text("utf-8"))
    path = Path(named)
    if not path.suffix and not path.exists():
        mend = suggestion(named, shipped(), f"give --scenario one of {', '.join(shipped())}, or a TOML file")
        raise InputError(f"there is no scenario {named!r}: {mend}")
    try:
        return named, tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"the scenario {named} cannot be read ({error.strerror}): give --scenario a TOML file, or one of "
            f"{', '.join(shipped())}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the scenario {named} is not TOML ({error}): correct it there") from error


def with_base(named: str, values: dict[str, Any]) -> dict[str, Any]:
    """The same on top of what the scenario that ships, which it names as its ``base``, says."""
    base = values.get("base")
    if base is None:
        return values
    if base not in shipped():
        mend = suggestion(str(base), shipped(), f"give one of {', '.join(shipped())}")
        raise InputError(f"the scenario {named} is based on {base!r}, which does not ship: {mend}")
    return merged(values_of(base)[1], values)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(under)
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(found.get(name), dict)
        found[name] = merged(found[name], value) if both else value
    return found


class Problems:
    """What is wrong with a scenario, all of it; each check gives back what is right."""

    def __init__(self, named: str, fakes: Fakes) -> None:
        self.named = named
        self.fakes = fakes
        self.found: list[str] = []

    def refuse(self) -> None:
        """Raises InputError where something was found."""
        if self.found:
            raise InputError(f"the scenario {self.named} does not work: {'; '.join(self.found)}")

    def unknown(self, where: str, given: Iterable[str], known: Iterable[str]) -> list[str]:
        """The names that are not known."""
        known = list(known)
        strange = [name for name in given if name not in known]
        for name in strange:
            mend = suggestion(name, known, f"it may have {', '.join(known)}")
            self.found.append(f"{where} has {name!r}: {mend}")
        return strange

    def types(self, values: Mapping[str, Any]) -> None:
        """Sections are tables, ``rules`` is a list of them, ``plugins`` of strings."""
        for name in ("counts", "probabilities", "shape", "tables", "columns", "fields", "relationships"):
            if not isinstance(values.get(name, {}), dict):
                self.found.append(f"{name} is {values[name]!r}: write it as a table, [{name}]")
        for name in ("columns", "fields", "relationships"):
            for inner, value in values.get(name, {}).items() if isinstance(values.get(name, {}), dict) else ():
                if not isinstance(value, dict):
                    self.found.append(f"[{name}] has {inner} = {value!r}: write it as a table, [{name}.{inner}]")
        if not isinstance(values.get("schema", ""), str):
            self.found.append(f"schema is {values['schema']!r}: give a schema's name")
        for name in ("plugins", "providers"):
            given = values.get(name, [])
            if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
                self.found.append(f'{name} is {given!r}: give a list such as ["myapp.seed:name"]')

    def tables(self, given: Mapping[str, Any], known: Iterable[str]) -> dict[str, str | None]:
        """What the app calls the tables, None for those that it lacks."""
        self.unknown("[tables]", given, known)
        names: dict[str, str | None] = {}
        for name, value in given.items():
            if value is False and name in NEVER_LACKED:
                self.found.append(
                    f"[tables] leaves out {name}, without which there is no workspace: name the app's table"
                )
            elif value is False or isinstance(value, str):
                names[name] = value or None
            else:
                self.found.append(f"[tables] has {name} = {value!r}: give the app's name of the table, or false")
        if names.get("messages", "") is None or names.get("reactions", "") is None:
            names["message_reactions"] = None
        called = Counter(names.get(name, name) for name in known)
        self.found += [
            f"[tables] has {name} for two tables: leave one of them out"
            for name, times in called.items()
            if name is not None and times > 1
        ]
        return names

    def columns(
        self, given: Mapping[str, Mapping[str, Any]], known: Mapping[str, Iterable[str]], extras: Iterable[Extra]
    ) -> dict[str, dict[str, str | None]]:
        """What the app calls the columns of each table, None for those that it lacks."""
        found: dict[str, dict[str, str | None]] = {}
        needed = NEEDED | {extra.name: (*extra.key, *dict(extra.references)) for extra in extras}
        for table in set(given) - set(self.unknown("[columns]", given, known)):
            self.unknown(f"[columns.{table}]", given[table], known[table])
            found[table] = {}
            references = {column for each in TABLES if each.name == table for column, _ in each.references}
            for name, value in given[table].items():
                if value is False and (name in needed.get(table, ()) or name in references - {"owner_id", "parent_id"}):
                    self.found.append(
                        f"[columns.{table}] leaves out {name}, by which rows are known: name the app's column"
                    )
                elif value is False or isinstance(value, str):
                    found[table][name] = value or None
                else:
                    self.found.append(f"[columns.{table}] has {name} = {value!r}: give the app's name of it, or false")
        return found

    def fields(
        self,
        given: Mapping[str, Mapping[str, Any]],
        known: Mapping[str, Iterable[str]],
        columns: Mapping[str, Mapping[str, str | None]],
        extras: Iterable[Extra],
    ) -> dict[str, dict[str, Any]]:
        """What fills the app's further columns."""
        found: dict[str, dict[str, Any]] = {}
        # what a table of the user's own is made of, only its code knows
        made_of = {
            table.name: pa.schema([(each.name, ARROW_TYPES[each.kind]) for each in table.columns]) for table in TABLES
        }
        self.found += [
            f"[fields.{extra.name}] fills columns of a table without ids of what it follows, {extra.follows}: "
            "add a column of them, or make the values with the rows"
            for extra in extras
            if extra.name in given and not has_order(extra, extras)
        ]
        for table in set(given) - set(self.unknown("[fields]", given, known)):
            named = {columns.get(table, {}).get(name, name) for name in known[table]}
            for name, value in given[table].items():
                if name in named:
                    self.found.append(
                        f"[fields.{table}] fills {name}, which bulkseed fills itself: "
                        f"leave that out with [columns.{table}] {name} = false, or this"
                    )
                elif self.tried(parse_field, f"fields.{table}.{name}", value, self.fakes, made_of.get(table)):
                    found.setdefault(table, {})[name] = normalised(value, f"fields.{table}.{name}")
        return found

    def plugins(self, sources: Iterable[str]) -> Iterable[Extra]:
        """The tables of the user's own."""
        for source in dict.fromkeys(sources):
            yield from self.tried(described, source)

    def together(self, extras: Iterable[Extra], tables: Mapping[str, str | None]) -> tuple[Extra, ...]:
        """The tables beyond the built-in five that the app has, as they follow each other."""
        lacking = {name for name, there in tables.items() if there is None}
        found, problems = put_together([extra for extra in extras if extra.name not in lacking], lacking)
        self.found += problems
        return found

    def uuid(self, given: Any) -> int:
        """The version of UUID keys."""
        if given not in (4, 7):
            self.found.append(f"uuid is {given!r}: give 4 or 7, the version in whose form UUID keys are made")
        return int(given) if given in (4, 7) else 4

    def counts(self, given: Mapping[str, Any]) -> dict[str, int]:
        """The counts at 1x."""
        strange = self.unknown("[counts]", given, COUNTS)
        for name in set(given) - set(strange):
            if not isinstance(given[name], int) or isinstance(given[name], bool) or given[name] < 1:
                self.found.append(f"[counts] has {name} = {given[name]!r}: give a whole number from 1")
        return {name: value for name, value in given.items() if name in COUNTS and isinstance(value, int)}

    def rules(self, given: Any) -> tuple[Rule, ...]:
        """The rules of the user's own."""
        if not isinstance(given, list):
            self.found.append("rules is no list of tables: write each as [[rules]] with name and sql")
            return ()
        found = []
        for each in given:
            if not isinstance(each, dict) or not all(isinstance(each.get(name), str) for name in ("name", "sql")):
                self.found.append(f'[[rules]] has {each!r:.80}: give name = "…" and sql = "SELECT count(*) …"')
            elif not self.unknown("[[rules]]", each, ("name", "sql")):
                found.append(Rule(**each))
        return tuple(found)

    def made(self, kind: type[Any], section: str, given: Mapping[str, Any]) -> Any:
        """A value of ``kind`` with the parameters that were given."""
        if self.unknown(f"[{section}]", given, [each.name for each in fields(kind)]):
            return kind()
        wrong = {name: value for name, value in given.items() if isinstance(value, bool | list | dict)}
        for name, value in wrong.items():
            self.found.append(f"[{section}] has {name} = {value!r}: give a number")
        return next(iter(self.tried(lambda: kind(**given))), kind()) if not wrong else kind()

    def tried(self, make: Any, *given: Any) -> list[Any]:
        """What ``make`` gives, as a list of one; empty where it refuses."""
        try:
            return [make(*given)]
        except InputError as error:
            self.found.append(str(error))
            return []
