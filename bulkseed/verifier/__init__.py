"""Every rule, proven by SQL over the loaded tables."""

__all__ = ["rule_sql", "verify"]
