"""Scenarios: what the user wrote becomes a plan; and those that ship."""
