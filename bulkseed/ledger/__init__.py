"""The ledger: a schema in the target that records what each run has loaded, shard by shard."""

from bulkseed.ledger.claims import (
    LOCK,
    Claim,
    acquire_load_lock,
    begin_run,
    claim_shard,
    describe_lock_holder,
    find_run_by_token,
    finish_run,
    forget_run,
    forget_shards,
    lost_run_error,
    mark_emptied,
    mark_undoing,
    record_shard,
    share_run,
    take_over,
)
from bulkseed.ledger.locks import limit_wait
from bulkseed.ledger.runs import Run, find_runs, read_runs
from bulkseed.ledger.tables import SCHEMA, Ledger, check_ledger, drop_empty_ledger, find_other_ledgers, make_ledger

__all__ = [
    "LOCK",
    "SCHEMA",
    "Claim",
    "Ledger",
    "Run",
    "acquire_load_lock",
    "begin_run",
    "check_ledger",
    "claim_shard",
    "control",
    "describe_lock_holder",
    "drop_empty_ledger",
    "find_other_ledgers",
    "find_run_by_token",
    "find_runs",
    "finish_run",
    "forget_run",
    "forget_shards",
    "limit_wait",
    "lost_run_error",
    "make_ledger",
    "mark_emptied",
    "mark_undoing",
    "read_runs",
    "record_shard",
    "runs",
    "share_run",
    "take_over",
]
