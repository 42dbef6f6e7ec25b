"""``fd-router explain``: where a request would go now, and why."""

from __future__ import annotations

from typing import Any, BinaryIO

import click
import msgspec

from fd_router.cli.commands.remote import actions_of, remote_with_json


@click.command("explain")
@click.argument("request_file", type=click.File("rb"), default="-", metavar="[REQUEST.json]")
@click.option("--prompt", help="Ask for a chat with this text alone, instead of reading a request.")
@click.option("--path", default="", help="The endpoint that the request is for; else told by its shape.")
@remote_with_json
def command(request_file: BinaryIO, prompt: str | None, path: str, **values: Any) -> int:
    """Tell where a request would go now, and why, without sending it.

    Reads the request's body, JSON as clients send it, from a file or from standard input.
    """
    chat = {"messages": [{"role": "user", "content": prompt}]}
    if prompt is None and request_file.isatty():
        click.echo("The request's body, as JSON; Ctrl-D ends it (or give a file, or --prompt TEXT):", err=True)
    body = request_file.read() if prompt is None else msgspec.json.encode(chat)
    return actions_of(values).explain(body, path=path)
