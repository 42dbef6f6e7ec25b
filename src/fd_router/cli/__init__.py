"""The command line: arguments → configuration → ``app``; ``commands/`` has a file for each sub-command."""

from fd_router.cli.program import main, run

__all__ = ["main", "run"]
