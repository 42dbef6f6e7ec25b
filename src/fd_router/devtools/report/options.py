"""The options of a run over a trace, simulated or replayed: each declared once."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from fd_router.config.options import Option
from fd_router.devtools.report.outcomes import Limits
from fd_router.devtools.traces.trace import BLOCK_TOKENS


class RunOptions(msgspec.Struct, frozen=True):
    """Which trace, what of it, what is good, and where the results go."""

    trace: Annotated[str, Option(help="The trace: a JSONL file in Mooncake's format. Needed.")] = ""
    speed: Annotated[
        float, Option(help="The requests come so many times as fast as in the trace.", minimum=0.000001)
    ] = 1.0
    max_output: Annotated[
        int, Option(help="No request gets more tokens than this; 0: as many as the trace says.", minimum=0)
    ] = 0
    limit: Annotated[int, Option(help="Take only so many requests, the first ones; 0: all.", minimum=0)] = 0
    block_tokens: Annotated[
        int, Option(help="Tokens that a hash id of the trace stands for.", unit="tokens", minimum=1)
    ] = BLOCK_TOKENS
    ttft_limit_secs: Annotated[
        float, Option(help="A request is good when its first token comes within this; 0: any.", unit="s", minimum=0)
    ] = 0.0
    tpot_limit_ms: Annotated[
        float, Option(help="… and each further token takes no more than this on average; 0: any.", unit="ms", minimum=0)
    ] = 0.0
    out: Annotated[
        str,
        Option(
            help="Directory for results.json, and for the plot as plot.png and plot.html, which need one more package: "
            "pip install 'matplotlib>=3.9'."
        ),
    ] = ""
    json: Annotated[bool, Option(help="Print the results as JSON instead of a table.")] = False

    @property
    def limits(self) -> Limits:
        """What a good request keeps."""
        return Limits(self.ttft_limit_secs or math.inf, self.tpot_limit_ms / 1000 or math.inf)
