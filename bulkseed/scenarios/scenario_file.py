"""Scenario files: TOML files of the user's, and the shipped ones, with all problems reported at once."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

import pyarrow as pa

from bulkseed.errors import InputError, common_code, suggestion
from bulkseed.fields import normalise, parse_field, uses_faker
from bulkseed.generators.plugins import describe_plugin_table
from bulkseed.plan.plan import Probabilities
from bulkseed.plan.scenario import PluginTable, Rule, Scenario, Shape
from bulkseed.plan.tables import CATALOGUE, TABLES
from bulkseed.scenarios import shipped
from bulkseed.scenarios.plugin_tables import arrange_tables, find_contradictions, has_order, make_relationship_table
from bulkseed.target.target import ARROW_TYPES
from bulkseed.text.fakes import Fakes, share_faker

if TYPE_CHECKING:
    from bulkseed.scenarios.file_schema import ScenarioValues

__all__ = ["ScenarioFile", "read_scenario"]

NEEDED: Final = {"users": ("id",), "channels": ("id",), "messages": ("id",)}
"""Columns that an app must have, by table: rows are identified by them."""
OPTIONAL: Final = {(table.name, column.name) for table in TABLES for column in table.columns if column.optional}
"""Columns that are filled only where a scenario names them."""
NEEDED_TABLES: Final = ("users", "channels")

WRONG: Final = "wrong-scenario"
"""The code of problems of the file itself, and of an error that reports problems with several codes."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """The content of a scenario: the plan's part of it, and the counts and probabilities that options may override."""

    scenario: Scenario
    counts: Mapping[str, int]
    probabilities: Probabilities


def read_scenario(named: str, fakes: Fakes, *, schema: str | None = None, plugins: Iterable[str] = ()) -> ScenarioFile:
    """Return the shipped scenario called ``named``, or the scenario in the TOML file of that path.

    ``schema`` takes precedence over the scenario's own, and ``plugins`` are added before its own. ``fakes`` makes the
    trial values of its Faker fields. Raises InputError with a line for each problem: the key in the file, the problem
    and the fix. Its code is that of the problems, or ``wrong-scenario`` if they have several.
    """
    given = read_values(named)
    with share_faker() as process:
        if any(uses_faker(field) for field in each_field(given)):
            with suppress(OSError):  # which the first value reports
                process.start()  # early: it takes a moment until it answers
        return check_scenario(named, given, fakes, schema, plugins)


def each_field(given: Mapping[str, Any]) -> Iterator[object]:
    """Yield the fields of a scenario whose structure may be wrong."""
    tables = given.get("fields")
    for columns in tables.values() if isinstance(tables, Mapping) else ():
        yield from columns.values() if isinstance(columns, Mapping) else ()


def check_scenario(
    named: str, given: dict[str, Any], fakes: Fakes, schema: str | None, plugins: Iterable[str]
) -> ScenarioFile:
    """Return the scenario that :func:`read_values` has read."""
    problems = Problems(named, [*given])
    values = cast("ScenarioValues", given) if named in shipped() else problems.keep_valid(problems.add_base(given))
    fakes = replace(fakes, providers=tuple(values.get("providers", ())))
    problems.check_providers(fakes)
    relationships = values.get("relationships", {})
    sources = dict.fromkeys(plugins, "") | dict.fromkeys(values.get("plugins", ()), "plugins")
    extras = [*problems.check_plugins(sources), *problems.check_relationships(relationships)]
    known = {table.name: table.column_names for table in (*TABLES, CATALOGUE)} | {
        extra.name: extra.columns for extra in extras
    }
    tables = problems.check_tables(values.get("tables", {}), known)
    arranged = problems.check_order(extras, tables, sources)
    columns = problems.check_columns(values.get("columns", {}), known, arranged)
    filled = problems.check_fields(values.get("fields", {}), known, columns, arranged, fakes)
    shape = problems.attempt("shape", lambda: Shape(**values.get("shape", {})))
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
        extras=arranged,
        rules=tuple(Rule(**rule) for rule in values.get("rules", ())),
    )
    problems.check_names(scenario, sources)
    counts = cast("dict[str, int]", values.get("counts", {}))
    probabilities = Probabilities(**values.get("probabilities", {}))
    problems.refuse()
    return ScenarioFile(scenario, counts, probabilities)


def read_values(named: str) -> dict[str, Any]:
    """Return the values of a scenario, as tomllib reads them. Raises InputError if it cannot be found or read."""
    if named in shipped():
        return tomllib.loads((resources.files("bulkseed") / "scenarios" / f"{named}.toml").read_text("utf-8"))
    path = Path(named)
    if not path.suffix and not path.exists():
        fix = suggestion(named, shipped(), f"give --scenario one of {', '.join(shipped())}, or a TOML file")
        raise InputError(f"there is no scenario {named!r}: {fix}", code="unknown-scenario")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"the scenario {named} cannot be read ({error.strerror}): give --scenario a TOML file, or one of "
            f"{', '.join(shipped())}",
            code="unreadable-scenario",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"the scenario {named} is not TOML ({error}): correct the file there", code="not-toml"
        ) from error


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``under`` with the values of ``over`` in place of its own; tables are merged key by key."""
    merged = dict(under)
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = merge(merged[name], value) if both else value
    return merged


class Problems:
    """All problems of a scenario. Each check returns the part of the scenario that has no problems.

    ``named`` is the file; ``sections`` are its sections in their order.
    """

    def __init__(self, named: str, sections: Iterable[str]) -> None:
        self.named = named
        self.sections = list(sections)
        self.noted: list[tuple[str, str, str]] = []
        """The dotted key, the problem and the code of each."""
        self.places: dict[str, str] = {}
        """What is shown instead of a dotted key with the index of a rule."""
        self.wrong_relationships: set[str] = set()
        """Relationships with problems. A table of this name in another section is not one problem more."""
        self.are_plugins_wrong = False
        """Whether the table of a plugin is unknown, which a name in another section may mean."""
        self.are_providers_wrong = False
        """Whether the methods of the user's providers are unknown, so that Faker fields cannot be tried."""

    def add(self, key: str, problem: str, code: str = WRONG) -> None:
        """Note a problem, with its fix. ``key`` is the dotted key in the file; empty for options."""
        self.noted.append((key, " ".join(problem.removeprefix(f"{key}: ").split()), code))

    def refuse(self) -> None:
        """Raise InputError if there are problems, with a line for each, in the order of the file's sections."""

        def section_index(noted: tuple[str, str, str]) -> int:
            section = noted[0].split(".")[0]
            return self.sections.index(section) if section in self.sections else -1

        if self.noted:
            lines = sorted(dict.fromkeys(self.noted), key=section_index)
            code = common_code((code for *_, code in lines), WRONG)
            raise InputError(
                "\n".join(
                    f"{self.named}: {self.places.get(key, key)}: {problem}" if key else problem
                    for key, problem, _ in lines
                ),
                code=code,
            )

    def add_base(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return ``values`` merged over those of the shipped scenario that they name as ``base``."""
        base = values.get("base", "default")
        if base in shipped():
            return merge(read_values(base), values) if "base" in values else values
        fix = suggestion(str(base), shipped(), f"give one of {', '.join(shipped())}")
        self.add("base", f"{base!r} is not a shipped scenario: {fix}")
        return {key: value for key, value in values.items() if key != "base"}

    def keep_valid(self, values: Mapping[str, Any]) -> ScenarioValues:
        """Return the parts of ``values`` whose structure is right."""
        # only here: pydantic takes 60 ms to import
        from bulkseed.scenarios.file_schema import check_structure  # noqa: PLC0415

        valid: dict[str, Any] = deepcopy(dict(values))
        for keys, problem in check_structure(values):
            key = ".".join(map(str, keys))
            if keys[0] == "rules" and len(keys) > 1:
                self.places[key] = describe_rule(values["rules"], int(keys[1]), keys[2:])
            self.add(key, problem)
            leave_out(valid, keys)
            if keys[0] == "relationships":
                self.wrong_relationships.update(map(str, keys[1:2]))
        return cast("ScenarioValues", valid)

    def attempt(self, key: str, make: Callable[[], T]) -> T | None:
        """Return the result of ``make``; note the problem at ``key`` and return None if it raises InputError."""
        try:
            return make()
        except InputError as error:
            self.add(key, str(error), error.code)
            return None

    def keep_known(self, section: str, given: Mapping[str, T], known: Collection[str]) -> dict[str, T]:
        """Return those of ``given`` whose names are ``known``: of columns in [columns.…], else of tables."""
        noun = "column" if "." in section else "table"
        for name in given:
            if name not in known and not (noun == "table" and name in self.wrong_relationships):
                fix = suggestion(name, known, "")
                if fix or noun == "column" or not self.are_plugins_wrong:
                    fix = fix or f"there are {', '.join(known)}"
                    self.add(f"{section}.{name}", f"bulkseed has no such {noun}: {fix}")
        return {name: value for name, value in given.items() if name in known}

    def check_providers(self, fakes: Fakes) -> None:
        """Check the user's providers for Faker, whether a field uses them or not."""
        if fakes.providers:
            try:
                fakes.check_providers()
            except InputError as error:
                self.are_providers_wrong = True
                self.add("providers", str(error), error.code)

    def check_names(self, scenario: Scenario, sources: Mapping[str, str]) -> None:
        """Check that PostgreSQL can have all names of the scenario; ``sources`` has the keys of the plugins."""
        names = [("schema" if "schema" in self.sections else "", scenario.schema)]
        names += [(f"tables.{table}", name) for table, name in scenario.tables.items()]
        names += [
            (f"columns.{table}.{column}", name)
            for table, columns in scenario.columns.items()
            for column, name in columns.items()
        ]
        names += [
            (f"fields.{table}.{column}", column) for table, fields in scenario.fields.items() for column in fields
        ]
        for extra in scenario.extras:
            key = sources[extra.source] if extra.source else f"relationships.{extra.name}"
            names += [(key, name) for name in (extra.name, *extra.columns)]
        for key, name in names:
            if name is not None and not is_name(name):
                self.add(
                    key,
                    f"{name!r} cannot be a name in PostgreSQL: leave NUL, and bytes that are not UTF-8, out of it",
                    "invalid-name",
                )

    def check_plugins(self, sources: Mapping[str, str]) -> Iterable[PluginTable]:
        """Yield the tables of plugins; ``sources`` has the key that names each, empty for options."""
        for source, key in sources.items():
            extra = self.attempt(key, partial(describe_plugin_table, source))
            if extra is None:
                self.are_plugins_wrong = True
            else:
                yield extra

    def check_relationships(self, given: Mapping[str, Mapping[str, Any]]) -> Iterable[PluginTable]:
        """Yield the tables of relationships."""
        for name, declared in given.items():
            problems = list(find_contradictions(declared))
            for problem in problems:
                self.add(f"relationships.{name}", problem)
            if problems:
                self.wrong_relationships.add(name)
            else:
                yield make_relationship_table(name, declared)

    def check_tables(self, given: Mapping[str, str | Literal[False]], known: Collection[str]) -> dict[str, str | None]:
        """Return the app's names of tables, None for tables that it does not have."""
        names: dict[str, str | None] = {}
        for name, value in self.keep_known("tables", given, known).items():
            names[name] = value or None
            if value is False and name in NEEDED_TABLES:
                self.add(f"tables.{name}", "every workspace needs this table: name the app's table")
        if names.get("messages", "") is None or names.get("reactions", "") is None:
            names["message_reactions"] = None
        counts = Counter(names.get(name, name) for name in known)
        for name, table in names.items():
            if table is not None and counts[table] > 1:
                self.add(f"tables.{name}", f"{table} is the name of two tables: leave one of them out")
        return names

    def check_order(
        self, extras: Iterable[PluginTable], tables: Mapping[str, str | None], sources: Mapping[str, str]
    ) -> tuple[PluginTable, ...]:
        """Return the tables of plugins and relationships that the app has, arranged by the tables that they follow."""
        absent = {name for name, app_name in tables.items() if app_name is None}
        present = [extra for extra in extras if extra.name not in absent]
        keys = {
            extra.name: sources[extra.source] if extra.source else f"relationships.{extra.name}" for extra in present
        }
        arranged, problems = arrange_tables(present, absent)
        for name, problem in problems:
            self.add(keys[name], problem)
        return arranged

    def check_columns(
        self,
        given: Mapping[str, Mapping[str, str | Literal[False]]],
        known: Mapping[str, Collection[str]],
        extras: Iterable[PluginTable],
    ) -> dict[str, dict[str, str | None]]:
        """Return the app's names of the columns of each table, None for columns that it does not have."""
        checked: dict[str, dict[str, str | None]] = {}
        needed = NEEDED | {extra.name: (*extra.key, *dict(extra.references)) for extra in extras}
        for table, names in self.keep_known("columns", given, known).items():
            references = {column for built_in in TABLES if built_in.name == table for column, _ in built_in.references}
            kept = {*needed.get(table, ()), *(references - {"owner_id", "parent_id"})}
            checked[table] = {}
            for name, value in self.keep_known(f"columns.{table}", names, known[table]).items():
                checked[table][name] = value or None
                if value is False and name in kept:
                    self.add(
                        f"columns.{table}.{name}", "bulkseed identifies rows by this column: name the app's column"
                    )
            app_names = [checked[table].get(name, name) for name in known[table]]
            for name, app_name in checked[table].items():
                if app_name is not None and app_names.count(app_name) > 1:
                    self.add(
                        f"columns.{table}.{name}",
                        f"{app_name} is the name of two columns: leave one of them out with false, or correct the name",
                    )
        return checked

    def check_fields(
        self,
        given: Mapping[str, Mapping[str, Any]],
        known: Mapping[str, Collection[str]],
        columns: Mapping[str, Mapping[str, str | None]],
        extras: Collection[PluginTable],
        fakes: Fakes,
    ) -> dict[str, dict[str, Any]]:
        """Return the fields of the app's other columns, by table and column, as JSON values."""
        checked: dict[str, dict[str, Any]] = {}
        # the types of a plugin's columns are known only to its code
        schemas = {
            table.name: pa.schema([(column.name, ARROW_TYPES[column.kind]) for column in table.columns])
            for table in TABLES
        }
        for extra in extras:
            if extra.name in given and not has_order(extra, extras):
                self.add(
                    f"fields.{extra.name}",
                    f"fields need a table with ids of {extra.follows}, which it follows: "
                    "add a column of these ids, or make the values with the rows",
                )
        for table, values in self.keep_known("fields", given, known).items():
            named = columns.get(table, {})
            filled = (column for column in known[table] if column in named or (table, column) not in OPTIONAL)
            built_in = {named.get(column, column): column for column in filled}
            for name, value in values.items():
                key = f"fields.{table}.{name}"
                if name in built_in:
                    self.add(
                        key,
                        f"bulkseed itself fills {name}: remove this field, or set "
                        f"[columns.{table}] {built_in[name]} = false",
                    )
                elif self.are_providers_wrong and "faker" in repr(value):
                    continue
                elif self.attempt(key, partial(parse_field, key, value, fakes, schemas.get(table))):
                    checked.setdefault(table, {})[name] = normalise(value, key)
        return checked


def is_name(text: str) -> bool:
    """Return whether a name in PostgreSQL can be ``text``: Unicode without NUL."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def describe_rule(rules: Sequence[Any], index: int, keys: tuple[str | int, ...]) -> str:
    """Return the place of a value in [[rules]] as text: the number of the rule in the file, its name, and the key."""
    rule = rules[index]
    name = rule.get("name") if isinstance(rule, dict) else None
    title = f"rule {index + 1} ({name!r})" if isinstance(name, str) else f"rule {index + 1}"
    return ": ".join([title, *map(str, keys)])


def leave_out(values: dict[str, Any], keys: tuple[str | int, ...]) -> None:
    """Remove the smallest part of a scenario around ``keys`` that later checks can do without: a name, a complete field
    or relationship, or a complete section of another kind.
    """
    depth = {"tables": 2, "columns": 3, "fields": 3, "relationships": 2}.get(str(keys[0]), 1)
    *parents, last = keys[:depth]
    for key in parents:
        values = values.get(str(key), {})
    values.pop(str(last), None)
