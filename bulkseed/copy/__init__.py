"""Batches to COPY: what a column of a batch becomes, encoders, and the writer."""

__all__ = ["column_mapping", "encoders", "writer"]
