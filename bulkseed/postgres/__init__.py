"""Connections that behave as users of libpq expect: addresses, sessions, transactions, retries."""

__all__ = ["address", "connection", "driver", "optional", "row_security", "transaction"]
