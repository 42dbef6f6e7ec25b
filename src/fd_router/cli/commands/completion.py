"""``fd-router completion``: completion of commands and options for a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_FD_ROUTER_COMPLETE"
"""What a shell's completion sets to ask; the name that click gives it."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion of commands and options for SHELL.

    For bash: fd-router completion bash > ~/.local/share/bash-completion/completions/fd-router
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "fd-router", VARIABLE).source())
