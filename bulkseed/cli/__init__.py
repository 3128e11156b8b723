"""The command line: commands, options, progress and reports."""
