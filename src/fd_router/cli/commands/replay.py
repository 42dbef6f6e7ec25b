"""``fd-router replay``: a trace's requests sent to a running router."""

from __future__ import annotations

from typing import Any

import click

from fd_router.cli.commands.trace import require_trace
from fd_router.cli.flags import flags_for, read_options
from fd_router.config.options import declared
from fd_router.devtools.replay import run
from fd_router.devtools.replay.options import ReplayOptions


@click.command("replay", params=flags_for(declared(ReplayOptions)))
def command(**values: Any) -> int:
    """Send a trace's requests to a running router.

    They go over HTTP when they are due, whether or not earlier ones are done, as users' requests do. Ctrl-C ends it
    with a table of what there is.
    """
    options = read_options(ReplayOptions, values)
    require_trace(options.trace)
    return run.run(options)
