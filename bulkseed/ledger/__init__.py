"""The ledger: a schema ``bulkseed`` in the target that records what each run put in, shard by shard."""

from bulkseed.ledger.locks import LOCK, take_turn
from bulkseed.ledger.runs import (
    Claim,
    Run,
    begin_run,
    chosen_runs,
    empty_run,
    finish_run,
    forget_run,
    mark_undoing,
    record_shard,
    runs,
    share_run,
)
from bulkseed.ledger.tables import SCHEMA, check_ledger

__all__ = [
    "LOCK",
    "SCHEMA",
    "Claim",
    "Run",
    "begin_run",
    "check_ledger",
    "chosen_runs",
    "empty_run",
    "finish_run",
    "forget_run",
    "mark_undoing",
    "record_shard",
    "runs",
    "share_run",
    "take_turn",
]
