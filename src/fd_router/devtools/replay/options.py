"""The options of ``fd-router replay``, each declared once."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fd_router.config.loading import Option
from fd_router.devtools.router_address import FORM, PATTERN
from fd_router.devtools.traces.trace import BLOCK_TOKENS


class ReplayOptions(msgspec.Struct, frozen=True):
    """Which trace, which router, what the bodies look like."""

    trace: Annotated[str, Option(help="The trace: a JSONL file in Mooncake's format. Needed.")] = ""
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
    speed: Annotated[
        float, Option(help="Send the requests so many times as fast as in the trace.", minimum=0.000001)
    ] = 1.0
    max_output: Annotated[
        int, Option(help="Ask for no more tokens than this; 0: for as many as the trace says.", minimum=0)
    ] = 0
    limit: Annotated[int, Option(help="Take only so many requests, the first ones; 0: all.", minimum=0)] = 0
    block_tokens: Annotated[
        int, Option(help="Tokens that a hash id of the trace stands for.", unit="tokens", minimum=1)
    ] = BLOCK_TOKENS
    timeout_secs: Annotated[float, Option(help="Give up on a request after so long.", unit="s", minimum=0.001)] = 600.0
    ttft_limit_secs: Annotated[
        float, Option(help="A request is good when its first token comes within this; 0: any.", unit="s", minimum=0)
    ] = 0.0
    tpot_limit_ms: Annotated[
        float, Option(help="… and each further token takes no more than this on average; 0: any.", unit="ms", minimum=0)
    ] = 0.0
    out: Annotated[str, Option(help="Directory for results.json, and for the plot as plot.png and plot.html.")] = ""
    json: Annotated[bool, Option(help="Print the results as JSON instead of a table.")] = False
