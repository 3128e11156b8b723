"""The command line: commands, options, progress and reports."""

__all__ = ["main", "output", "runner"]
