"""``fd-router simulate``: policies compared on a trace."""

from __future__ import annotations

from typing import Any

import click

from fd_router.cli.commands.trace import require_trace
from fd_router.cli.flags import flags_for, read_options
from fd_router.config.options import declared
from fd_router.devtools.simulate import run
from fd_router.devtools.simulate.options import SimulateOptions


@click.command("simulate", params=flags_for(declared(SimulateOptions)))
def command(**values: Any) -> int:
    """Compare policies on a trace.

    Its requests go through the same policies as in the router, to modelled instances, in a fraction of the time.
    """
    options = read_options(SimulateOptions, values)
    require_trace(options.trace)
    return run.run(options)
