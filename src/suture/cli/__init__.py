"""Floor 8: the command line, a thin client of the public API. Nothing heavy is imported before a command needs it."""

from suture.cli.entry import main

__all__ = ["main"]
