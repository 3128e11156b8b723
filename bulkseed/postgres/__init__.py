"""Connections as users of libpq expect them: addresses, sessions, transactions, retries."""

__all__ = ["address", "connection", "driver", "transaction"]
