"""``fd-router demo``: a router with mock instances, and what it does."""

from __future__ import annotations

import click

from fd_router.devtools.demo import demo


@click.command("demo")
@click.option("--keep", is_flag=True, help="Stay up afterwards, until Ctrl-C.")
@click.option(
    "--instances",
    type=click.IntRange(2, 64),
    help="Mock instances to start; of each role with --splitwise.  [default: 3, with --splitwise 2]",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="The router's port; 0: a free one."
)
@click.option("--splitwise", is_flag=True, help="Show a PD-disaggregated fleet: prefill and decode instances in pairs.")
def command(keep: bool, instances: int | None, port: int, splitwise: bool) -> int:
    """Show a router with mock instances.

    Starts them, sends requests, kills an instance (one of each role with --splitwise), and shows that nothing is lost.
    """
    return demo.run(keep=keep, instances=instances, port=port, splitwise=splitwise)
