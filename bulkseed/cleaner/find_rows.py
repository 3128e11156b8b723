"""Finding the rows of runs: the keys that the generators give them, listed in temporary tables or in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import pyarrow as pa

from bulkseed.copy.column_mapping import convert_batch
from bulkseed.copy.writer import CopyPlan, copy_batches
from bulkseed.errors import InputError
from bulkseed.generators import Context, shard_tables
from bulkseed.generators.plugins import load_plugin_table
from bulkseed.ledger import Run
from bulkseed.listeners import ProgressListener
from bulkseed.plan.shards import ROWS_PER_SHARD, split_into_shards
from bulkseed.plan.tables import Model
from bulkseed.postgres.connection import Connection
from bulkseed.randomness.draws import GENERATOR_VERSION
from bulkseed.sql import SQL, compose, identifier, join, literal, trusted
from bulkseed.target.copy_plan import plan_copy, with_keys
from bulkseed.text.faker_source import make_corpus
from bulkseed.verifier.rule_sql import Scope

__all__ = [
    "Condition",
    "DeletionSet",
    "Listing",
    "find_existing_tables",
    "find_missing_code",
    "find_rows",
    "find_rows_in_memory",
    "generate_rows",
    "is_of_this_generator",
    "read_columns",
]

COLUMN_TYPE: Final = """
SELECT format_type(CASE WHEN typtype = 'd' THEN typbasetype ELSE t.oid END, NULL)
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid WHERE attrelid = $1::text::regclass AND attname = $2
"""

COLUMNS: Final = """
SELECT attname::text AS name, NOT attnotnull AS nullable, atttypid = 'json'::regtype AS is_json FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
"""

Condition = Callable[[str], SQL]
"""Returns the SQL condition on the row of an alias."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The keys of the rows that ``runs`` have loaded into a table, ``name``: ``rows`` is a FROM item with the alias k.

    ``key`` are the app's columns that identify a row, and ``marks`` those that tell it from another row with the same
    id, which an app may have made after ``TRUNCATE … RESTART IDENTITY``. ``copied`` is the plan of the temporary table,
    None for rows in memory. ``nullable`` and ``json`` are the columns that need another comparison.
    """

    name: str
    runs: tuple[Run, ...]
    table: SQL
    rows: SQL
    key: tuple[str, ...]
    marks: tuple[str, ...]
    copied: CopyPlan | None
    nullable: frozenset[str]
    json: frozenset[str]

    def same_key(self, alias: str) -> SQL:
        """Return the SQL condition that the row ``alias`` has the key of k."""
        return self.equal(alias, self.key)

    def same_marks(self, alias: str) -> SQL:
        """Return the SQL condition that the row ``alias`` has the marks of k."""
        return self.equal(alias, self.marks) if self.marks else compose("true")

    def same(self, alias: str) -> SQL:
        """Return the SQL condition that the row ``alias`` has the key and the marks of k."""
        return self.equal(alias, (*self.key, *self.marks))

    def equal(self, alias: str, columns: Sequence[str], other: str = "k") -> SQL:
        """Return the SQL condition that the rows of two aliases have the same values in ``columns``."""
        return join(
            " AND ",
            (
                compose(
                    "{other} IS NOT DISTINCT FROM {value}" if column in self.nullable else "{other} = {value}",
                    other=self.comparable(other, column),
                    value=self.comparable(alias, column),
                )
                for column in columns
            ),
        )

    def comparable(self, alias: str, column: str) -> SQL:
        """Return an expression for a column that has an equality: json has none, its text has."""
        value = identifier(alias, column)
        return compose("{value}::text", value=value) if column in self.json else value

    def describe(self, keys: Sequence[Sequence[object]]) -> str:
        """Return the keys of some rows as text, such as ``id 1, 2, 3``."""
        shown = [", ".join(map(str, key)) for key in keys]
        if len(self.key) == 1:
            return f"{self.key[0]} {', '.join(shown)}"
        return f"({', '.join(self.key)}) {', '.join(f'({values})' for values in shown)}"


@dataclass(slots=True)
class DeletionSet:
    """The rows to delete: of our tables those that are listed in ``seeded``, of any table its ``extra`` rows.

    ``extra`` are temporary tables of (relation, row): the tableoid and ctid of a row, which do not change, since these
    tables are locked.
    """

    seeded: dict[SQL, list[Listing]] = field(default_factory=dict)
    extra: dict[SQL, SQL] = field(default_factory=dict)

    def add(self, listing: Listing) -> None:
        """Add the rows of a table that are listed."""
        self.seeded.setdefault(listing.table, []).append(listing)

    @property
    def listings(self) -> list[Listing]:
        """All listings."""
        return [listing for listings in self.seeded.values() for listing in listings]

    def is_seeded(self, table: SQL, alias: str) -> SQL:
        """Return the SQL condition under which the row ``alias`` of ``table`` is a seeded one to delete."""
        if table not in self.seeded:
            return compose("false")
        return join(
            " OR ",
            (
                compose("EXISTS (SELECT FROM {rows} WHERE {same})", rows=listing.rows, same=listing.same(alias))
                for listing in self.seeded[table]
            ),
        )

    def condition(self, table: SQL, alias: str) -> SQL:
        """Return the SQL condition under which the row ``alias`` of ``table`` is to be deleted."""
        conditions = [self.is_seeded(table, alias)]
        if table in self.extra:
            conditions.append(
                compose(
                    "({alias}.tableoid, {alias}.ctid) IN (SELECT relation, row FROM {extra})",
                    alias=identifier(alias),
                    extra=self.extra[table],
                )
            )
        return compose("({conditions})", conditions=join(" OR ", conditions))


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table in the database, those that may be null, and those of type json."""

    names: frozenset[str]
    nullable: frozenset[str]
    json: frozenset[str]


async def read_columns(connection: Connection, table: SQL) -> Columns:
    """Return the columns that a table has now."""
    rows = await connection.fetch(COLUMNS, table)
    return Columns(
        frozenset(row["name"] for row in rows),
        frozenset(row["name"] for row in rows if row["nullable"]),
        frozenset(row["name"] for row in rows if row["is_json"]),
    )


async def find_existing_tables(connection: Connection, run: Run) -> list[str]:
    """Return the tables of the run that still exist, by bulkseed's names: a dropped table has no rows to remove."""
    rows = await connection.fetch(
        "SELECT relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')",
        run.schema,
    )
    existing = {row["relname"] for row in rows}
    model = run.plan.model
    return [name for name in model.names if model.name(name) in existing]


STRONG_MARKS: Final = ("created_at", "auth0_id", "updated_at")
"""A column that alone tells rows with the same id apart, the best first: apps do not change these values."""
WEAK_MARKS: Final = ("user_id", "owner_id", "name", "join_code")
"""Without any of STRONG_MARKS, these are compared together."""


def identity_columns(model: Model, name: str, existing: frozenset[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the key of a table's rows and their marks, as the app's columns by the columns of a batch.

    An id alone is not enough: ids start again after TRUNCATE … RESTART IDENTITY, or in recreated tables. The moment of
    creation, to the microsecond, is a value that apps rarely change. Rows without ids are known by the ids in their
    keys.
    """
    table = model.by_name[name]
    if table.serial is None:
        return {column: model.column(name, column) for column in table.key}, {}
    usable = [column for column in table.column_names if model.column(name, column) in existing]
    strong: Sequence[str] = [column for column in STRONG_MARKS if column in usable][:1]
    marks = strong or [column for column in WEAK_MARKS if column in usable]
    return (
        {table.serial: model.column(name, table.serial)},
        {column: model.column(name, column) for column in marks},
    )


async def find_rows(
    connection: Connection, runs: Sequence[Run], cascade: bool, listener: ProgressListener
) -> DeletionSet:
    """Put the keys and marks of the runs' rows into temporary tables; return these listings."""
    deletions = DeletionSet()
    remaining = list(runs)
    number = 0
    while remaining:
        # runs of one scenario share the temporary tables
        names = remaining[0].names
        alike = [run for run in remaining if run.names == names]
        remaining = [run for run in remaining if run.names != names]
        identities: dict[str, CopyPlan] = {}
        for name in await find_existing_tables(connection, alike[0]):
            temporary = f"bulkseed_{number}"
            number += 1
            existing = await read_columns(connection, names.sql_name(name))
            key, marks = identity_columns(names.model, name, existing.names)
            columns = key | marks
            await connection.execute(
                compose(
                    "CREATE TEMP TABLE {temporary} ON COMMIT DROP AS SELECT {columns} FROM {table} WITH NO DATA",
                    temporary=identifier(temporary),
                    columns=join(", ", map(identifier, columns.values())),
                    table=names.sql_name(name),
                )
            )
            identities[name] = await plan_copy(connection, temporary, columns)
            rows = compose("{temporary} AS k", temporary=identifier(temporary))
            deletions.add(make_listing(alike, name, rows, key, marks, identities[name], existing))
        for run in alike:
            await list_identities(connection, run, identities, cascade, listener)
        # the planner has no statistics of new tables
        for into in identities.values():
            await connection.execute(compose("ANALYZE {table}", table=identifier(into.table)))
    return deletions


def make_listing(
    runs: Sequence[Run],
    name: str,
    rows: SQL,
    key: Mapping[str, str],
    marks: Mapping[str, str],
    copied: CopyPlan | None,
    existing: Columns,
) -> Listing:
    names = runs[0].names
    # only a user's own table may have nulls in its key, but not in the first column, by which it is joined
    nullable = existing.nullable if name in names.model.extras else existing.nullable & set(marks.values())
    key_columns = tuple(key.values())
    return Listing(
        name,
        tuple(runs),
        names.sql_name(name),
        rows,
        key_columns,
        tuple(marks.values()),
        copied,
        nullable - {key_columns[0]},
        existing.json,
    )


async def list_identities(
    connection: Connection, run: Run, identities: Mapping[str, CopyPlan], cascade: bool, listener: ProgressListener
) -> None:
    """Put the identities of the run's rows into the temporary tables ``identities``, by table."""
    if is_of_this_generator(run):
        keys = Scope(run).uuids
        keyed = {name: with_keys(into, run.plan.model.by_name[name], keys) for name, into in identities.items()}
        missing_code = find_missing_code(run)
        for name, batches in generate_rows(run):
            if name in keyed and name not in missing_code:
                await copy_batches(connection, keyed[name], batches, partial(listener.rows, name))
    elif cascade:
        scope = Scope(run)
        for name, into in identities.items():
            await connection.execute(
                compose(
                    "INSERT INTO {temporary} SELECT {columns} FROM {table} AS t WHERE {condition}",
                    temporary=identifier(into.table),
                    columns=join(", ", map(identifier, into.columns)),
                    table=run.names.sql_name(name),
                    condition=scope.ours_there(name, "t"),
                )
            )
    else:
        raise other_generator_error(run)


async def find_rows_in_memory(
    connection: Connection, runs: Sequence[Run], cascade: bool, listener: ProgressListener
) -> DeletionSet:
    """Do the same as find_rows(), with settings of the session instead of tables; for runs of this generator only."""
    assert not cascade
    deletions = DeletionSet()
    for run in runs:
        if not is_of_this_generator(run):
            raise other_generator_error(run)
        existing = await find_existing_tables(connection, run)
        model, keys = run.plan.model, Scope(run).uuids
        identities: dict[str, CopyPlan] = {}
        identity: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
        columns: dict[str, Columns] = {}
        for name in existing:
            columns[name] = await read_columns(connection, run.names.sql_name(name))
            identity[name] = identity_columns(model, name, columns[name].names)
            into = await plan_copy(connection, model.name(name), identity[name][0] | identity[name][1], run.schema)
            identities[name] = with_keys(into, model.by_name[name], keys)
        lists: dict[str, list[list[str]]] = {name: [[] for _ in identities[name].columns] for name in existing}
        for name, batches in generate_rows(run):
            for batch in batches if name in existing else ():
                converted = convert_batch(batch, identities[name].mappings, name)
                for values, column in zip(lists[name], converted, strict=True):
                    values.append(",".join(map(array_element, text_values(column))))
                listener.rows(name, batch.num_rows)
        for table_number, name in enumerate(existing):
            arrays = []
            for number, (column, values) in enumerate(zip(identities[name].columns, lists[name], strict=True)):
                setting = f"bulkseed.listed_{run.number}_{table_number}_{number}"
                column_type = await connection.fetchval(COLUMN_TYPE, run.names.sql_name(name), column)
                await connection.execute(
                    "SELECT set_config($1, $2, true)", setting, f"{{{','.join(filter(None, values))}}}"
                )
                arrays.append(
                    compose("current_setting({setting})::{type}[]", setting=literal(setting), type=trusted(column_type))
                )
            rows = compose(
                "unnest({arrays}) AS k ({columns})",
                arrays=join(", ", arrays),
                columns=join(", ", map(identifier, identities[name].columns)),
            )
            deletions.add(make_listing([run], name, rows, *identity[name], None, columns[name]))
    return deletions


def text_values(column: pa.Array) -> list[str | None]:
    """Return the values of a column in the server's text format."""
    if column.type == pa.binary(16):
        return [None if octets is None else octets.hex() for octets in column.to_pylist()]
    values: list[str | None] = column.cast(pa.string()).to_pylist()
    return values


def array_element(text: str | None) -> str:
    """Return an element of an array literal (https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO)."""
    return "NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def find_missing_code(run: Run) -> dict[str, InputError]:
    """Return the user's own tables whose code, or that of a table they follow, cannot be imported, with the errors."""
    model = run.plan.model
    errors: dict[str, InputError] = {}
    for name in model.names:
        extra = model.extras.get(name)
        if extra is not None and extra.follows in errors:
            errors[name] = errors[extra.follows]
        elif extra is not None and extra.source:
            try:
                load_plugin_table(extra.source)
            except InputError as error:
                errors[name] = error
    return errors


def is_of_this_generator(run: Run) -> bool:
    return run.made_by["generator"] == str(GENERATOR_VERSION)


def other_generator_error(run: Run) -> InputError:
    return InputError(
        f"run {run.number} was generated by bulkseed {run.made_by['bulkseed']}, whose generator version "
        f"({run.made_by['generator']}) is not the one of this bulkseed ({GENERATOR_VERSION}): use that bulkseed to "
        "remove it, or give --cascade to remove all rows in its ranges of ids, with rows that an app added among them",
        code="other-generator",
    )


def generate_rows(run: Run) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    """Yield the rows of a run, generated again, table by table of each shard."""
    # values of fields identify no row, and their code may no longer exist
    plan = replace(run.plan, scenario=replace(run.plan.scenario, fields={}))
    context = Context(plan, run.placement, make_corpus(run.plan.locale))
    # a shard that is not loaded has no rows to find
    for shard in split_into_shards(run.plan, run.rows_per_shard or ROWS_PER_SHARD):
        if run.shards is None or shard.number in run.shards:
            yield from shard_tables(context, shard)
