"""Removing the rows of runs: finding them, finding the rows that reference them, and deleting all in one statement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import pyarrow as pa

from bulkseed.cleaner.references import Reference, references
from bulkseed.copy.column_mapping import convert_batch
from bulkseed.copy.writer import CopyPlan, copy_batches
from bulkseed.deferral import Deferred, find_foreign_owners
from bulkseed.errors import InputError, RunError, TargetError
from bulkseed.generators import Context, shard_tables
from bulkseed.generators.plugins import load_plugin_table
from bulkseed.ledger import Run
from bulkseed.listeners import Phase, ProgressListener
from bulkseed.plan.shards import ROWS_PER_SHARD, split_into_shards
from bulkseed.plan.tables import Model, Names
from bulkseed.postgres.connection import Connection, translate_errors
from bulkseed.postgres.optional import execute_optional
from bulkseed.randomness.draws import GENERATOR_VERSION
from bulkseed.sql import SQL, compose, identifier, join, literal, plain_names, trusted
from bulkseed.target.copy_plan import plan_copy, with_keys
from bulkseed.target.ids import check_table_privileges, check_writable
from bulkseed.text.faker_source import make_corpus
from bulkseed.verifier.rule_sql import Scope

__all__ = ["check_owner", "check_privileges", "remove_rows"]

COLUMN_TYPE: Final = """
SELECT format_type(CASE WHEN typtype = 'd' THEN typbasetype ELSE t.oid END, NULL)
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid WHERE attrelid = $1::text::regclass AND attname = $2
"""

NULLABLE: Final = """
SELECT attname, atttypid = 'json'::regtype AS is_json FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND (NOT attnotnull OR atttypid = 'json'::regtype)
"""

SETTINGS: Final = "SET LOCAL enable_nestloop = off; SET LOCAL work_mem = '128MB'"
"""All joins are by equality, over many rows: a nested loop is never right, and is chosen where statistics are wrong,
as while indexes are dropped. With the usual 4 MB, a subquery over a million rows is not hashed."""

Condition = Callable[[str], SQL]
"""Returns the SQL condition on the row of an alias."""


@dataclass(slots=True)
class DeletionSet:
    """The rows to delete: of our tables by the conditions of ``seeded``, of any table by its ``extra`` rows.

    A seeded row meets one of its table's conditions. ``extra`` are temporary tables of (relation, row): the tableoid
    and ctid of a row.
    """

    seeded: dict[SQL, list[Condition]] = field(default_factory=dict)
    extra: dict[SQL, SQL] = field(default_factory=dict)

    def add(self, table: SQL, condition: Condition) -> None:
        """Add the rows of ``table`` that meet the condition."""
        self.seeded.setdefault(table, []).append(condition)

    def is_seeded(self, table: SQL, alias: str) -> SQL:
        """Return the SQL condition under which the row ``alias`` of ``table`` is a seeded one to delete."""
        if table not in self.seeded:
            return compose("false")
        return join(" OR ", (condition(alias) for condition in self.seeded[table]))

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


async def remove_rows(
    connection: Connection,
    runs: Sequence[Run],
    absent: Iterable[Deferred],
    *,
    cascade: bool,
    listener: ProgressListener,
    diskless: bool = False,
) -> tuple[dict[str, int], dict[str, int]]:
    """Delete the rows of ``runs`` in the caller's transaction; return their number by table, and that of other rows.

    ``absent`` are the foreign keys that are dropped at the moment. Raises RunError if other rows reference the rows to
    delete, unless ``cascade`` deletes those too, and InputError for rows of another generator's. With ``diskless`` the
    list of rows to delete is in the session's memory instead of on the server's disk (not with ``cascade``).
    """
    listener.phase(Phase.FIND)
    for run in runs:
        if not cascade and (missing_code := find_missing_code(run)):
            error = next(iter(missing_code.values()))
            raise InputError(
                f"{error}\nthe rows of {', '.join(missing_code)} of run {run.number} cannot be identified without that "
                "code: restore it, or give --cascade to remove all rows that reference the run's other rows",
                code=error.code,
            )
    with translate_errors(connection, "finding the rows to remove"):
        await connection.execute(SETTINGS)
        for run in runs:
            tables = [run.names.sql_name(name) for name in await find_existing_tables(connection, run)]
            if tables and not run.is_complete and not diskless:
                # an interrupted load left no statistics; the rows are found without them too
                for table in tables:
                    await execute_optional(connection, compose("ANALYZE {table}", table=table), f"ANALYZE {table}")
    expected: Counter[str] = Counter()
    for run in runs:
        expected.update(run.rows)
    listener.expect(expected)
    with translate_errors(connection, "finding the rows to remove"):
        deletions = await (find_rows_in_memory if diskless else find_rows)(connection, runs, cascade, listener)
        known = [
            reference
            for reference in await references(connection, [run.names for run in runs], absent)
            if reference.declared or {reference.child, reference.parent} <= deletions.seeded.keys()
        ]
        counts = await count_references(connection, known, deletions)
        if counts and not cascade:
            lines = [
                f"rows that bulkseed did not load reference loaded rows, {count:,} of {plain_names(str(reference))}: "
                "remove them, or give --cascade to remove them too"
                for reference, count in counts.items()
            ]
            # a removal in batches has committed the earlier batches
            lines += [] if diskless else ["nothing was removed"]
            raise RunError("\n".join(lines), code="referenced-rows")
        if counts:
            await add_referencing_rows(connection, known, deletions)
    listener.phase(Phase.REMOVE)
    with translate_errors(connection, "removing rows"):
        return await delete_rows(connection, runs, deletions)


async def check_owner(connection: Connection, deferred: Sequence[Deferred]) -> None:
    """Raise TargetError if the user may not rebuild ``deferred``, since it does not own a table."""
    owners = await find_foreign_owners(connection, deferred)
    if owners:
        raise TargetError(
            f"indexes and keys of {plain_names(', '.join(owners))} have to be rebuilt, which only the owner of a table "
            f"may do: run this command as the user {' or '.join(sorted(set(owners.values())))}",
            code="not-owner",
        )


async def check_privileges(connection: Connection, runs: Sequence[Run]) -> None:
    """Raise TargetError if the user may not remove rows, with the GRANT statements that are missing."""
    await check_writable(connection)
    tables = [run.names.sql_name(name) for run in runs for name in await find_existing_tables(connection, run)]
    await check_table_privileges(connection, dict.fromkeys(tables), ("SELECT", "DELETE"))


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


def identity_columns(model: Model, name: str) -> dict[str, str]:
    """Return the columns that identify a row of a table as one of a run, with the app's name of each.

    An id alone is not enough: ids start again after TRUNCATE … RESTART IDENTITY, or in recreated tables. The moment of
    creation, to the microsecond, is a value that apps do not change; without that column, a unique one is used.
    """
    table = model.by_name[name]
    columns = table.key
    if table.serial is not None:
        unique = (column for together in table.unique for column in together)
        candidates = ("created_at", *unique, "updated_at", "user_id")
        columns = (table.serial, *[column for column in candidates if column in table.column_names][:1])
    return {column: model.column(name, column) for column in columns}


async def find_rows(
    connection: Connection, runs: Sequence[Run], cascade: bool, listener: ProgressListener
) -> DeletionSet:
    """Put the identities of the runs' rows into temporary tables, whose rows are the ones to delete."""
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
            columns = identity_columns(names.model, name)
            number += 1
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
            matches = await match_condition(connection, names, name, list(columns.values()))
            deletions.add(names.sql_name(name), exists_condition(rows, matches))
        for run in alike:
            await list_identities(connection, run, identities, cascade, listener)
        # the planner has no statistics of new tables
        for into in identities.values():
            await connection.execute(compose("ANALYZE {table}", table=identifier(into.table)))
    return deletions


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
        for name in existing:
            into = await plan_copy(connection, model.name(name), identity_columns(model, name), run.schema)
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
            columns = join(", ", map(identifier, identities[name].columns))
            rows = compose("unnest({arrays}) AS k ({columns})", arrays=join(", ", arrays), columns=columns)
            matches = await match_condition(connection, run.names, name, identities[name].columns)
            deletions.add(run.names.sql_name(name), exists_condition(rows, matches))
    return deletions


def exists_condition(rows: SQL, matches: Condition) -> Condition:
    """Return the condition that one of ``rows`` (a FROM item with the alias k) matches the row."""
    return lambda alias: compose("EXISTS (SELECT FROM {rows} WHERE {matches})", rows=rows, matches=matches(alias))


async def match_condition(connection: Connection, names: Names, table: str, columns: Sequence[str]) -> Condition:
    """Return the condition that the row has the identity k.

    Only a user's own table may have nulls in identity columns, but not in the first one, which is the join column.
    """
    rows = await connection.fetch(NULLABLE, names.sql_name(table)) if table in names.model.extras else []
    nullable = {row["attname"] for row in rows} - {columns[0]}
    json_columns = {row["attname"] for row in rows if row["is_json"]}

    def compared(alias: str, column: str) -> SQL:
        value = identifier(alias, column)
        # json has no equality
        return compose("{value}::text", value=value) if column in json_columns else value

    def matches(alias: str) -> SQL:
        return join(
            " AND ",
            (
                compose(
                    "{identity} IS NOT DISTINCT FROM {value}" if column in nullable else "{identity} = {value}",
                    identity=compared("k", column),
                    value=compared(alias, column),
                )
                for column in columns
            ),
        )

    return matches


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
        f"run {run.number} was loaded by bulkseed {run.made_by['bulkseed']}, whose generator has version "
        f"{run.made_by['generator']}, and this bulkseed has version {GENERATOR_VERSION}: remove the run with "
        f"bulkseed {run.made_by['bulkseed']}, or give --cascade to remove all rows in its ranges of ids, also those "
        "that an app added",
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


def referencing_rows(reference: Reference, deletions: DeletionSet) -> SQL:
    """Return FROM and WHERE clauses for the rows c that stay, and reference a row to delete."""
    return compose(
        "FROM {child} AS c WHERE EXISTS (SELECT FROM {parent} AS p WHERE {joined} AND {parent_goes}) "
        "AND NOT {child_goes}",
        child=reference.child,
        parent=reference.parent,
        joined=reference.join_condition("c", "p"),
        parent_goes=deletions.condition(reference.parent, "p"),
        child_goes=deletions.condition(reference.child, "c"),
    )


async def count_references(
    connection: Connection, known: Sequence[Reference], deletions: DeletionSet
) -> dict[Reference, int]:
    """Return the number of rows that stay and reference rows to delete, by reference; without zeros."""
    counts = {}
    for reference in known:
        if reference.parent in deletions.seeded:
            rows = referencing_rows(reference, deletions)
            count = await connection.fetchval(compose("SELECT count(*) {rows}", rows=rows))
            if count:
                counts[reference] = count
    return counts


async def add_referencing_rows(connection: Connection, known: Sequence[Reference], deletions: DeletionSet) -> None:
    """Add the rows that reference rows to delete to ``deletions``, repeatedly until none is left."""
    growing = True
    while growing:
        growing = False
        for reference in known:
            goes = reference.parent in deletions.seeded or reference.parent in deletions.extra
            if reference.on_delete_sets_null or not goes:
                continue
            if reference.child not in deletions.extra:
                temporary = identifier(f"bulkseed_extra_{len(deletions.extra)}")
                await connection.execute(
                    compose(
                        "CREATE TEMP TABLE {temporary} (relation oid, row tid, PRIMARY KEY (relation, row)) "
                        "ON COMMIT DROP",
                        temporary=temporary,
                    )
                )
                deletions.extra[reference.child] = temporary
            tag = await connection.execute(
                compose(
                    "INSERT INTO {extra} SELECT c.tableoid, c.ctid {rows}",
                    extra=deletions.extra[reference.child],
                    rows=referencing_rows(reference, deletions),
                )
            )
            growing = growing or tag != "INSERT 0 0"


async def delete_rows(
    connection: Connection, runs: Sequence[Run], deletions: DeletionSet
) -> tuple[dict[str, int], dict[str, int]]:
    """Delete all rows in one statement: foreign keys are checked at its end, so references may form a cycle."""
    names = {run.names.sql_name(name): name for run in runs for name in reversed(run.plan.model.names)}
    tables = list(dict.fromkeys([*(table for table in names if table in deletions.seeded), *deletions.extra]))
    removed = dict.fromkeys(names.values(), 0)
    others: dict[str, int] = {}
    if not tables:
        return removed, others
    deletes, counts = [], []
    for number, table in enumerate(tables):
        condition = deletions.condition(table, "t")
        # evaluated again for each deleted row only if others' rows are deleted too
        is_seeded = deletions.is_seeded(table, "t") if table in deletions.extra else compose("true")
        deletes.append(
            compose(
                "d{number} AS (DELETE FROM {table} AS t WHERE {condition} RETURNING {is_seeded} AS seeded)",
                number=number,
                table=table,
                condition=condition,
                is_seeded=is_seeded,
            )
        )
        counts.append(
            compose(
                "(SELECT count(*) FILTER (WHERE seeded) FROM d{number}), (SELECT count(*) FROM d{number}), "
                "(SELECT count(*) FROM {table} AS t WHERE {condition})",
                number=number,
                table=table,
                condition=condition,
            )
        )
    row = await connection.fetchrow(
        compose("WITH {deletes} SELECT {counts}", deletes=join(", ", deletes), counts=join(", ", counts))
    )
    for number, table in enumerate(tables):
        seeded, deleted, wanted = row[3 * number : 3 * number + 3]
        if deleted != wanted:
            raise RunError(
                f"{table} kept {wanted - deleted:,} of {wanted:,} rows: a trigger or rule of the table prevents their "
                "deletion: disable it",
                code="rows-kept",
            )
        if table in names:
            removed[names[table]] += seeded
        if deleted > seeded:
            others[table] = deleted - seeded
    return removed, others
