"""What a user may choose of how a load goes about it."""

from __future__ import annotations

from typing import Literal

__all__ = ["Defer", "Format", "OnError"]

Defer = Literal["auto", "always", "never"]
"""Whether indexes and keys are dropped for a load and rebuilt after it."""

Format = Literal["auto", "records", "binary"]
"""How rows are sent; ``auto`` is binary for each table that allows it."""

OnError = Literal["undo", "keep"]
"""What becomes of a run that fails."""
