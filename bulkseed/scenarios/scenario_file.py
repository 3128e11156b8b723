"""Scenario files: TOML, as the user writes it or as one of those that ship, read and checked all at once."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

import pyarrow as pa

from bulkseed.errors import InputError, suggestion
from bulkseed.fields import normalised, parse_field
from bulkseed.generators.plugins import described
from bulkseed.plan.plan import Probabilities
from bulkseed.plan.scenario import PluginTable, Rule, Scenario, Shape
from bulkseed.plan.tables import CATALOGUE, TABLES
from bulkseed.scenarios import shipped
from bulkseed.scenarios.plugin_tables import find_contradictions, has_order, put_together, related
from bulkseed.target.target import ARROW_TYPES
from bulkseed.text.faker_source import Fakes

if TYPE_CHECKING:
    from bulkseed.scenarios.structure import ScenarioValues

__all__ = ["ScenarioFile", "read_scenario"]

NEEDED: Final = {"users": ("id",), "channels": ("id",), "messages": ("id",)}
"""What an app cannot do without: rows are found again by them."""
NEVER_LACKED: Final = ("users", "channels")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """What a scenario says: the plan's part of it, and the counts and probabilities that it begins with."""

    scenario: Scenario
    counts: Mapping[str, int]
    probabilities: Probabilities


def read_scenario(named: str, fakes: Fakes, *, schema: str | None = None, plugins: Iterable[str] = ()) -> ScenarioFile:
    """The scenario that ships under a name, or that is in a TOML file; ``schema`` and ``plugins`` go before its own.
    ``fakes`` are what its fields of Faker's are tried with.

    Raises InputError, which names all that is wrong with it, each in a line with its place and its fix.
    """
    given = values_of(named)
    problems = Problems(named, [*given])
    values = cast("ScenarioValues", given) if named in shipped() else problems.keep_valid(problems.add_base(given))
    fakes = replace(fakes, providers=tuple(values.get("providers", ())))
    relationships = values.get("relationships", {})
    asked = dict.fromkeys(plugins, "") | dict.fromkeys(values.get("plugins", ()), "plugins")
    extras = [*problems.plugins(asked), *problems.relationships(relationships)]
    known = {table.name: table.column_names for table in (*TABLES, CATALOGUE)} | {
        extra.name: extra.columns for extra in extras
    }
    tables = problems.tables(values.get("tables", {}), known)
    together = problems.together(extras, tables, asked)
    columns = problems.columns(values.get("columns", {}), known, together)
    filled = problems.fields(values.get("fields", {}), known, columns, together, fakes)
    shape = problems.tried("shape", lambda: Shape(**values.get("shape", {})))
    scenario = Scenario(
        name=Path(named).stem,
        shape=shape or Shape(),
        schema=schema if schema is not None else values.get("schema"),
        uuid=int(values.get("uuid", 4)),
        tables=tables,
        columns=columns,
        fields=filled,
        relationships={name: dict(declared) for name, declared in relationships.items()},
        providers=fakes.providers,
        extras=together,
        rules=tuple(Rule(**rule) for rule in values.get("rules", ())),
    )
    counts = cast("dict[str, int]", values.get("counts", {}))
    probabilities = Probabilities(**values.get("probabilities", {}))
    problems.refuse()
    return ScenarioFile(scenario, counts, probabilities)


def values_of(named: str) -> dict[str, Any]:
    """What a scenario says. Raises InputError where it cannot be read."""
    if named in shipped():
        return tomllib.loads((resources.files("bulkseed") / "scenarios" / f"{named}.toml").read_text("utf-8"))
    path = Path(named)
    if not path.suffix and not path.exists():
        mend = suggestion(named, shipped(), f"give --scenario one of {', '.join(shipped())}, or a TOML file")
        raise InputError(f"there is no scenario {named!r}: {mend}")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"the scenario {named} cannot be read ({error.strerror}): give --scenario a TOML file, or one of "
            f"{', '.join(shipped())}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the scenario {named} is not TOML ({error}): correct it there") from error


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(under)
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(found.get(name), dict)
        found[name] = merged(found[name], value) if both else value
    return found


class Problems:
    """All problems of a scenario; each check returns the part without problems.

    ``named`` is the file, ``sections`` are its sections in their order.
    """

    def __init__(self, named: str, sections: Iterable[str]) -> None:
        self.named = named
        self.sections = list(sections)
        self.found: list[tuple[str, str]] = []
        self.ill: set[str] = set()
        """The relationships with problems: other sections may name these tables all the same."""

    def add(self, place: str, problem: str) -> None:
        """Note a problem, with its fix. ``place`` is the dotted key in the file; empty for options."""
        self.found.append((place, " ".join(problem.removeprefix(f"{place}: ").split())))

    def refuse(self) -> None:
        """Raise InputError if there are problems, with a line for each, by the order of the sections."""

        def order(problem: tuple[str, str]) -> int:
            section = problem[0].split(".")[0]
            return self.sections.index(section) if section in self.sections else -1

        if self.found:
            lines = sorted(dict.fromkeys(self.found), key=order)
            raise InputError(
                "\n".join(f"{self.named}: {place}: {problem}" if place else problem for place, problem in lines)
            )

    def add_base(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return ``values`` on top of those of the shipped scenario that they name as ``base``."""
        base = values.get("base", "default")
        if base in shipped():
            return merged(values_of(base), values) if "base" in values else values
        fix = suggestion(str(base), shipped(), f"give one of {', '.join(shipped())}")
        self.add("base", f"{base!r} does not ship: {fix}")
        return {key: value for key, value in values.items() if key != "base"}

    def keep_valid(self, values: Mapping[str, Any]) -> ScenarioValues:
        """Return the parts of ``values`` whose structure is right."""
        # only here: pydantic takes 60 ms to import
        from bulkseed.scenarios.structure import check_structure  # noqa: PLC0415

        sound: dict[str, Any] = deepcopy(dict(values))
        for place, problem in check_structure(values):
            self.add(".".join(map(str, place)), problem)
            leave_out(sound, place)
            if place[0] == "relationships":
                self.ill.update(map(str, place[1:2]))
        return cast("ScenarioValues", sound)

    def tried(self, place: str, make: Callable[[], T]) -> T | None:
        """What ``make`` returns; None where it refuses."""
        try:
            return make()
        except InputError as error:
            self.add(place, str(error))
            return None

    def keep_known(self, section: str, given: Mapping[str, T], known: Collection[str]) -> dict[str, T]:
        """Return those of ``given`` whose names are ``known``: of columns in [columns.…], else of tables."""
        noun = "column" if "." in section else "table"
        for name in given:
            if name not in known and not (noun == "table" and name in self.ill):
                fix = suggestion(name, known, f"there are {', '.join(known)}")
                self.add(f"{section}.{name}", f"bulkseed has no such {noun}: {fix}")
        return {name: value for name, value in given.items() if name in known}

    def plugins(self, asked: Mapping[str, str]) -> Iterable[PluginTable]:
        """The tables of the user's own; ``asked`` has for each the place that names it."""
        for source, place in asked.items():
            extra = self.tried(place, partial(described, source))
            if extra is not None:
                yield extra

    def relationships(self, given: Mapping[str, Mapping[str, Any]]) -> Iterable[PluginTable]:
        """The tables of relationships."""
        for name, declared in given.items():
            problems = list(find_contradictions(declared))
            for problem in problems:
                self.add(f"relationships.{name}", problem)
            if problems:
                self.ill.add(name)
            else:
                yield related(name, declared)

    def tables(self, given: Mapping[str, str | Literal[False]], known: Collection[str]) -> dict[str, str | None]:
        """What the app calls the tables, None for those that it lacks."""
        names: dict[str, str | None] = {}
        for name, value in self.keep_known("tables", given, known).items():
            names[name] = value or None
            if value is False and name in NEVER_LACKED:
                self.add(f"tables.{name}", "no workspace is without this table: name the app's table")
        if names.get("messages", "") is None or names.get("reactions", "") is None:
            names["message_reactions"] = None
        called = Counter(names.get(name, name) for name in known)
        for name, table in names.items():
            if table is not None and called[table] > 1:
                self.add(f"tables.{name}", f"{table} is the name of two tables: leave one of them out")
        return names

    def together(
        self, extras: Iterable[PluginTable], tables: Mapping[str, str | None], asked: Mapping[str, str]
    ) -> tuple[PluginTable, ...]:
        """The tables beyond the built-in five that the app has, as they follow each other."""
        lacking = {name for name, there in tables.items() if there is None}
        kept = [extra for extra in extras if extra.name not in lacking]
        places = {each.name: asked[each.source] if each.source else f"relationships.{each.name}" for each in kept}
        found, problems = put_together(kept, lacking)
        for name, problem in problems:
            self.add(places[name], problem)
        return found

    def columns(
        self,
        given: Mapping[str, Mapping[str, str | Literal[False]]],
        known: Mapping[str, Collection[str]],
        extras: Iterable[PluginTable],
    ) -> dict[str, dict[str, str | None]]:
        """What the app calls the columns of each table, None for those that it lacks."""
        found: dict[str, dict[str, str | None]] = {}
        needed = NEEDED | {extra.name: (*extra.key, *dict(extra.references)) for extra in extras}
        for table, names in self.keep_known("columns", given, known).items():
            references = {column for each in TABLES if each.name == table for column, _ in each.references}
            held = {*needed.get(table, ()), *(references - {"owner_id", "parent_id"})}
            found[table] = {}
            for name, value in self.keep_known(f"columns.{table}", names, known[table]).items():
                found[table][name] = value or None
                if value is False and name in held:
                    self.add(f"columns.{table}.{name}", "rows are known by this column: name the app's column")
        return found

    def fields(
        self,
        given: Mapping[str, Mapping[str, Any]],
        known: Mapping[str, Collection[str]],
        columns: Mapping[str, Mapping[str, str | None]],
        extras: Collection[PluginTable],
        fakes: Fakes,
    ) -> dict[str, dict[str, Any]]:
        """What fills the app's further columns."""
        found: dict[str, dict[str, Any]] = {}
        # what a table of the user's own is made of, only its code knows
        made_of = {
            table.name: pa.schema([(each.name, ARROW_TYPES[each.kind]) for each in table.columns]) for table in TABLES
        }
        for extra in extras:
            if extra.name in given and not has_order(extra, extras):
                self.add(
                    f"fields.{extra.name}",
                    f"it fills columns of a table without ids of what it follows, {extra.follows}: "
                    "add a column of them, or make the values with the rows",
                )
        for table, values in self.keep_known("fields", given, known).items():
            named = {columns.get(table, {}).get(name, name) for name in known[table]}
            for name, value in values.items():
                place = f"fields.{table}.{name}"
                if name in named:
                    self.add(
                        place,
                        f"it fills {name}, which bulkseed fills itself: "
                        f"leave that out with [columns.{table}] {name} = false, or this",
                    )
                elif self.tried(place, partial(parse_field, place, value, fakes, made_of.get(table))):
                    found.setdefault(table, {})[name] = normalised(value, place)
        return found


def leave_out(values: dict[str, Any], place: tuple[str | int, ...]) -> None:
    """Remove the smallest part of a scenario around ``place`` that later checks can do without: a name, a whole field
    or relationship, a whole section of another kind.
    """
    depth = {"tables": 2, "columns": 3, "fields": 3, "relationships": 2}.get(str(place[0]), 1)
    *around, key = place[:depth]
    for part in around:
        values = values.get(str(part), {})
    values.pop(str(key), None)
