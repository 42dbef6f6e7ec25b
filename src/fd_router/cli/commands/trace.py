"""The option that commands with a trace can't do without."""

from __future__ import annotations

import click


def require_trace(trace: str) -> None:
    """Raise click.UsageError when there is none."""
    if not trace:
        raise click.UsageError(
            "--trace: give the trace, a JSONL file in Mooncake's format", click.get_current_context()
        )
