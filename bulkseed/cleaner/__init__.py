"""Exact removal of the rows of runs."""

__all__ = ["cleanup", "delete_rows"]
