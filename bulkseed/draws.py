"""Transforms from random bits to values, for plugins: ``bulkseed.randomness.draws`` under its public name."""

from __future__ import annotations

from bulkseed.randomness.draws import Bools, Ints, below, between, binomial, chance, weighted

__all__ = ["Bools", "Ints", "below", "between", "binomial", "chance", "weighted"]
