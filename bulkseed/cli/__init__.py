"""The command line: commands, options, progress and reports."""

__all__ = ["completion", "main", "output", "runner"]
