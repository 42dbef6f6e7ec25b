"""``fd-router hash-key``: the hash of an API key."""

from __future__ import annotations

import sys

import click

from fd_router.admission import keys


@click.command("hash-key")
def command() -> int:
    """Read an API key from standard input and print its hash."""
    click.echo(keys.hash_key(sys.stdin.readline().strip()))
    return 0
