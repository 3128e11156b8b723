"""The checks before a load, which ``bulkseed check`` runs alone: all that a target refuses, reported together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from bulkseed.cleaner.removal_checks import find_removal_problems
from bulkseed.cleaner.removal_trial import find_trigger_problems
from bulkseed.copy.writer import CopyPlan
from bulkseed.deferral import Deferred, find_unfinished_runs
from bulkseed.errors import ConnectError, InputError, TargetError, common_code
from bulkseed.ledger import Ledger, check_ledger, find_other_ledgers, limit_read, read_records, try_ledger
from bulkseed.load_options import Format
from bulkseed.loader.first_ids import read_highest_ids
from bulkseed.plan.activity import expected_bytes
from bulkseed.plan.plan import Plan
from bulkseed.plan.shards import shard_counts
from bulkseed.postgres.address import Address
from bulkseed.postgres.connection import Connection, check_errors
from bulkseed.target.copy_plan import plan_copies
from bulkseed.target.guard import Disk, check_disks, folders, read_disks
from bulkseed.target.ids import check_ids, check_privileges, check_writable
from bulkseed.target.scenario_rules import find_rule_problems
from bulkseed.target.target import Target, raise_problems, read_target
from bulkseed.target.trial_load import TrialResult, run_trial
from bulkseed.text.names import Corpus

__all__ = ["Preflight", "check_ledgers", "run_preflight"]


@dataclass(frozen=True, slots=True)
class Preflight:
    """What the checks before a load have found: the tables, how each is copied, the disks seen from here, the trial."""

    target: Target
    copy_plans: Mapping[str, CopyPlan]
    disks: tuple[Disk, ...]
    trial: TrialResult

    def check_order(self, deferred: Iterable[Deferred], plan: Plan, rows_per_shard: int) -> None:
        """Raise TargetError if a foreign key that is not ``deferred`` refuses rows since others are loaded later."""
        dropped = {(each.relation, each.name) for each in deferred if each.kind == "foreign key"}
        shards = shard_counts(plan, rows_per_shard)
        raise_problems(
            [
                key.problem
                for key in self.trial.waiting
                if (key.table, key.name) not in dropped and not (key.in_parts and shards[key.stage] == 1)
            ]
        )


class Refusals:
    """The errors of several checks, which are raised as one."""

    def __init__(self) -> None:
        self.errors: list[InputError] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keep the InputError that the block raises, so that the next checks are run as well."""
        try:
            yield
        except ConnectError:
            raise
        except InputError as error:
            self.errors.append(error)

    def raise_all(self) -> None:
        """Raise the errors as one, with the lines of all; do nothing without errors."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            code = common_code((error.code for error in self.errors), "unfit-target")
            raise TargetError("\n".join(map(str, self.errors)), code=code)


async def run_preflight(
    connection: Connection,
    address: Address,
    plan: Plan,
    corpus: Corpus,
    ledger: Ledger,
    format: Format,
    *,
    busy: bool = False,
) -> Preflight:
    """Check all that a load needs, before its first write: nothing remains of it, and no sequence is moved.

    Unfinished runs are no problem while another command is loading (``busy``), as a load waits for it.

    Raises TargetError and InputError with a line for each problem: a server that only allows reading, tables and
    columns that do not fit, missing privileges, what would prevent the removal of the rows, a ledger where the user
    cannot record runs, an unfinished run, values that the tables refuse, ids, rules of the scenario with wrong SQL,
    disks that are too small. Its code is that of the problems, or ``unfit-target`` if they have several. Raises
    RunError for faults of the server and lost connections.
    """
    refusals = Refusals()
    target: Target | None = None
    copy_plans: Mapping[str, CopyPlan] = {}
    disks: tuple[Disk, ...] = ()
    trial = TrialResult()
    with check_errors(connection, "checking the target"):
        with refusals.collect():
            await check_writable(connection)
        is_writable = not refusals.errors
        with refusals.collect():
            target = await read_target(connection, plan.model)
        if target is not None:
            with refusals.collect():
                raise_problems(await find_rule_problems(connection, target.schema, plan.scenario.rules, ledger))
            with refusals.collect():
                copy_plans = await plan_copies(connection, target, format)
        may_try = copy_plans and is_writable
        if target is not None and is_writable:
            before = len(refusals.errors)
            with refusals.collect():
                await check_privileges(connection, target)
            with refusals.collect():
                raise_problems(await find_removal_problems(connection, target.sql_tables()))
            # the errors of a trial would hide a missing privilege
            may_try = may_try and len(refusals.errors) == before
        last_ids: dict[str, int] = {}
        if is_writable:
            with refusals.collect():
                await check_ledgers(connection, ledger, busy=busy)
                await try_ledger(connection, ledger)
                last_ids = await read_highest_ids(connection, ledger)
        if target is not None and may_try:
            before = len(refusals.errors)
            with refusals.collect():
                await check_ids(connection, target, plan)
            if len(refusals.errors) == before:
                with refusals.collect():
                    trial = await run_trial(connection, target, copy_plans, plan, corpus, last_ids)
            if len(refusals.errors) == before:
                with refusals.collect():
                    trial = await try_removal(connection, target, copy_plans, plan, corpus, trial)
        if address.is_local:
            tables = plan.model.sql_names
            expected: dict[str, float] = {tables[name]: size for name, size in expected_bytes(plan).items()}
            with refusals.collect():
                disks = tuple(read_disks(await folders(connection, address, expected)))
                check_disks(disks)
    refusals.raise_all()
    assert target is not None
    return Preflight(target, copy_plans, disks, trial)


async def try_removal(
    connection: Connection,
    target: Target,
    copy_plans: Mapping[str, CopyPlan],
    plan: Plan,
    corpus: Corpus,
    trial: TrialResult,
) -> TrialResult:
    """Return ``trial`` with a note if triggers on DELETE could not be tried. Raises TargetError if they keep rows."""
    problems, note = await find_trigger_problems(connection, target, copy_plans, plan, corpus)
    raise_problems(problems)
    return trial._replace(notes=(*trial.notes, note)) if note else trial


async def check_ledgers(connection: Connection, ledger: Ledger, *, busy: bool = False) -> None:
    """Raise TargetError if the user may not record a run, or a run was interrupted in any ledger of the database."""
    async with limit_read(connection, ledger):
        await check_ledger(connection, ledger)
    if not busy:
        for other in (ledger, *await find_other_ledgers(connection, ledger)):
            await check_unfinished(connection, other)


async def check_unfinished(connection: Connection, ledger: Ledger) -> None:
    """Raise TargetError if a run was interrupted: the catalogue does not show the indexes and keys it has dropped."""
    async with limit_read(connection, ledger):
        records = {record.number: record for record in await read_records(connection, ledger)}
        unfinished = await find_unfinished_runs(connection, ledger.deferred)
    interrupted = {number for number, record in records.items() if record.state != "whole"} | unfinished
    if interrupted:
        number = min(interrupted)
        record = records.get(number)
        if record is not None and record.problem:
            raise TargetError(
                f"run {number} was interrupted, and its rows, indexes and keys are incomplete\n{record.problem}",
                code="incomplete-run",
            )
        is_loading = record is not None and record.state == "loading"
        finish = f"finish it with {ledger.command(f'resume {number}')}, or " if is_loading else ""
        raise TargetError(
            f"run {number} was interrupted, and its rows, indexes and keys are incomplete: "
            f"{finish}undo it with {ledger.command(f'cleanup {number}')}",
            code="incomplete-run",
        )
