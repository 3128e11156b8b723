"""COPY of batches: the conversion of columns, the encoders, and the writer."""

__all__ = ["column_mapping", "encoders", "writer"]
