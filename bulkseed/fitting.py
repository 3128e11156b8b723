"""stub"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

__all__ = ["Fit", "fitted_batch"]


@dataclass(frozen=True)
class Fit:
    source: str
    column: str


def fitted_batch(batch: pa.RecordBatch, fits: Sequence[Fit], table: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([batch.column(fit.source) for fit in fits], [fit.column for fit in fits])
