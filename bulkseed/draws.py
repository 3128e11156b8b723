"""Transforms from random bits to values, for plugins: the public names of ``bulkseed.randomness.draws``."""

from __future__ import annotations

from bulkseed.randomness.draws import Bools, Ints, below, between, binomial, chance, weighted

__all__ = ["Bools", "Ints", "below", "between", "binomial", "chance", "weighted"]
