"""The name and the type of the records of what a round of chaos hit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

HIT: Final = "chaos"

Hit = Callable[[str], None]
