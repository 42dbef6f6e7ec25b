"""``fd-router make-key``: a new API key, and its entry for the file of keys."""

from __future__ import annotations

import sys

import click

from fd_router.admission import keys


@click.command("make-key")
@click.argument("name")
def command(name: str) -> int:
    """Make an API key called NAME.

    The key, which is kept nowhere, goes to standard error; its entry for the file of access.keys-path, which holds a
    hash, to standard output: fd-router make-key team-a >> keys.yaml
    """
    key = keys.make_key()
    lines = keys.entry(name, keys.hash_key(key), begins_file=keys.is_new_file(sys.stdout))
    click.echo(key, err=True)
    click.echo(lines, nl=False)
    return 0
