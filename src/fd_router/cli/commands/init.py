"""``fd-router init``: a configuration to begin with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import click

from fd_router.admin.starter import (
    CHOICES,
    Answers,
    Member,
    files_of,
    next_steps,
    parse_instances,
    require_policy,
    write,
)
from fd_router.errors import ConfigError

_MOST = 65535

T = TypeVar("T")


@click.command("init")
@click.argument("directory", default=".", type=click.Path(path_type=Path, file_okay=False))
@click.option("--port", type=click.IntRange(1, _MOST), help="The router's port.")
@click.option("--splitwise/--no-splitwise", default=None, help="Prefill and decode instances in pairs, or mixed ones.")
@click.option("--instances", metavar="LIST", help="10.0.0.1:8000,…; in pairs prefill=10.0.0.1:8000,decode=…")
@click.option("--policy", help="How instances are chosen.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing: the defaults for what isn't given.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def command(
    directory: Path, port: int | None, splitwise: bool | None, instances: str | None, policy: str | None, yes: bool,
    force: bool,
) -> int:  # fmt: skip
    """Write a commented configuration, and say how to run it.

    Asks four questions, unless they are answered by options; without a terminal it asks nothing.
    """
    asks = not yes and sys.stdin.isatty()
    port = port or (_ask_port() if asks else Answers().port)
    if splitwise is None:
        splitwise = asks and click.confirm("Prefill and decode instances, in pairs (--splitwise)?", default=False)
    members = _members(instances, splitwise=splitwise, asks=asks)
    policy = require_policy(policy or (_ask_policy() if asks else Answers().policy))
    answers = Answers(port, splitwise, policy, members)
    for path in write(files_of(answers), directory, force=force):
        click.echo(f"wrote {path}")
    click.echo("\nNow:")
    for step in next_steps(answers, directory):
        click.echo(f"  {step}")
    return 0


def _ask_port() -> int:
    port: int = click.prompt("Which port?", default=Answers().port, type=click.IntRange(1, _MOST))
    return port


def _members(given: str | None, *, splitwise: bool, asks: bool) -> tuple[Member, ...]:
    if given is None and asks:
        form = "prefill=10.0.0.1:8000,decode=10.0.0.2:8000" if splitwise else "10.0.0.1:8000,10.0.0.2:8000"
        question = f"Instances that don't register themselves ({form}; empty: none)"
        read = _read_by(partial(parse_instances, splitwise=splitwise))
        members: tuple[Member, ...] = click.prompt(question, default="", show_default=False, value_proc=read)
        return members
    return parse_instances(given or "", splitwise=splitwise)


def _ask_policy() -> str:
    for name, why in CHOICES.items():
        click.echo(f"  {name}: {why}")
    read = _read_by(require_policy)
    policy: str = click.prompt("How are instances chosen?", default=Answers().policy, value_proc=read)
    return policy


def _read_by(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return what reads an answer as ``parse`` does, and has it asked for again where that finds it wrong."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ConfigError as error:
            raise click.UsageError("; ".join(line.partition(": ")[2] for line in error.problems)) from None

    return read
