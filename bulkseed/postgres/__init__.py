"""Connections as users of libpq expect them: addresses, sessions, transactions, retries."""
