"""The command `skmars`: fit a model to files, and predict from files."""

from skmars.cli._command_line import main

__all__ = ["main"]
