"""Exact removal of the rows of runs."""

__all__ = ["cleanup", "compare_rows", "count_rows", "delete_rows", "removal_checks", "removal_trial"]
