"""``fd-router explain``: where a request would go now, and why."""

from __future__ import annotations

import re
from typing import Any, BinaryIO, Final

import click
import msgspec

from fd_router.cli.commands.remote import actions_of, remote_with_json

_NAME: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_VALUE: Final = re.compile(r"[\x20-\x7e\xa0-\xff]*")


@click.command("explain")
@click.argument("request_file", type=click.File("rb"), default="-", metavar="[REQUEST.json]")
@click.option("--prompt", help="Ask for a chat with this text alone, instead of reading a request.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="A header of the request, where a policy or a session goes by one; may be given often.",
)
@click.option("--path", default="", help="The endpoint that the request is for; else told by its shape.")
@remote_with_json
def command(request_file: BinaryIO, prompt: str | None, path: str, headers: tuple[str, ...], **values: Any) -> int:
    """Tell where a request would go now, and why, without sending it.

    Reads the request's body, JSON as clients send it, from a file or from standard input.
    """
    chat = {"messages": [{"role": "user", "content": prompt}]}
    if prompt is None and request_file.isatty():
        click.echo("The request's body, as JSON; Ctrl-D ends it (or give a file, or --prompt TEXT):", err=True)
    body = request_file.read() if prompt is None else msgspec.json.encode(chat)
    return actions_of(values).explain(body, path=path, headers=dict(map(_pair, headers)))


def _pair(header: str) -> tuple[str, str]:
    name, colon, value = header.partition(":")
    if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value.strip()):
        raise click.BadParameter(f"{header!r} is no 'NAME: VALUE'", click.get_current_context(), param_hint="--header")
    return name, value.strip()
