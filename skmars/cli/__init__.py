"""The command `skmars`: from files to predictions."""

from skmars.cli._command_line import main

__all__ = ["main"]
