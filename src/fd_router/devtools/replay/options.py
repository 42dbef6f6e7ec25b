"""The options of ``fd-router replay``, each declared once."""

from __future__ import annotations

from typing import Annotated

from fd_router.config.loading import Option
from fd_router.devtools.report.options import RunOptions
from fd_router.devtools.router_address import FORM, PATTERN


class ReplayOptions(RunOptions, frozen=True):
    """Which trace, which router, what the bodies look like."""

    router: Annotated[
        str,
        Option(
            help="The router (or any OpenAI-compatible server), as HOST:PORT or http://HOST:PORT; any:KEY@HOST:PORT "
            "shows an API key.",
            pattern=PATTERN,
            form=FORM,
        ),
    ] = "http://127.0.0.1:30000"
    name: Annotated[str, Option(help="What the table calls it. Default: the router's address.")] = ""
    prompts: Annotated[
        str,
        Option(
            help="text: words, about as many tokens as the trace says. ids: beside the text the trace's block ids, for "
            "mock instances.",
            choices=("text", "ids"),
        ),
    ] = "text"
    path: Annotated[
        str,
        Option(help="Where to send.", choices=("/v1/chat/completions", "/v1/completions")),
    ] = "/v1/chat/completions"
    model: Annotated[str, Option(help="The model that the requests ask for.")] = "default"
    header: Annotated[
        tuple[str, ...],
        Option(
            help="A header of every request, as 'Name: value'; may be given often.",
            pattern=r"[!-9;-~]+:[ -~]*",
            form="'Name: value'",
        ),
    ] = ()
    extra_body: Annotated[
        str, Option(help='JSON object with further keys of every body, like {"ignore_eos": true}.')
    ] = ""
    timeout_secs: Annotated[float, Option(help="Give up on a request after so long.", unit="s", minimum=0.001)] = 600.0
