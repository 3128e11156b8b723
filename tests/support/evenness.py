"""How far counts are from their expected values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def unevenness(observed: Sequence[int] | npt.NDArray[np.int64], shares: Sequence[float] | None = None) -> float:
    """Return by how many standard deviations Pearson's chi-square is above its mean (Wilson-Hilferty).

    ``shares`` are the expected proportions, which are equal if None. One fair sample in 30,000 is above 4.
    """
    counts = np.asarray(observed, dtype=np.float64)
    weights = np.ones(len(counts)) if shares is None else np.asarray(shares, dtype=np.float64)
    expected = counts.sum() * weights / weights.sum()
    freedom = len(counts) - 1
    statistic = float(((counts - expected) ** 2 / expected).sum())
    spread = 2 / (9 * freedom)
    return float(((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread))
