"""Exit codes that the tools share."""

INTERRUPTED = 130
"""By Ctrl-C: 128 + SIGINT, as shells count."""
