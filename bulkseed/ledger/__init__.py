"""The ledger: a schema in the target that records what each run put in, shard by shard."""

from bulkseed.ledger.claims import (
    LOCK,
    Claim,
    acquire_load_lock,
    begin_run,
    claim_shard,
    empty_run,
    finish_run,
    forget_run,
    forget_shards,
    holder,
    mark_undoing,
    record_shard,
    run_of_token,
    share_run,
    take_over,
)
from bulkseed.ledger.runs import Run, chosen_runs, runs
from bulkseed.ledger.tables import SCHEMA, Ledger, check_ledger, exists, make_ledger, other_ledgers

__all__ = [
    "LOCK",
    "SCHEMA",
    "Claim",
    "Ledger",
    "Run",
    "acquire_load_lock",
    "begin_run",
    "check_ledger",
    "chosen_runs",
    "claim_shard",
    "control",
    "empty_run",
    "exists",
    "finish_run",
    "forget_run",
    "forget_shards",
    "holder",
    "make_ledger",
    "mark_undoing",
    "other_ledgers",
    "record_shard",
    "run_of_token",
    "runs",
    "share_run",
    "take_over",
]
