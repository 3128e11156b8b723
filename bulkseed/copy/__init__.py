"""Batches to COPY: encoders, what a column of a batch becomes, and the writer."""
