"""Exact removal of the rows of runs."""
