"""The page about inference endpoints, made from their table: ``python -m fd_router.openai.reference``."""

from __future__ import annotations

import sys
from typing import Final

from fd_router.openai.endpoint import Endpoint
from fd_router.openai.endpoints import BUILT_IN

_WHERE: Final = {
    "generate": "an instance; splitwise: a pair",
    "stateful": "an instance, the one that keeps the answer it goes on from; splitwise: else a pair",
    "stored": "the instance that keeps the answer; where that isn't known, one after the other",
    "any_instance": "an instance; splitwise: a prefill one, while one may be chosen",
}

_INTRODUCTION: Final = """\
# Inference endpoints

<!-- Made by `make docs` from the table in `src/fd_router/openai/endpoints.py`. Don't edit. -->

What clients send to instances through the router. Whether an instance has an endpoint is its engine's and its model's
matter: the router passes on what it answers, a 404 too. For all of them alike hold keys and their limits, the queue,
retries, metrics (by the path in the table), and the access log.

`server.open-endpoints` says which of them are open, by kind or path; another one is answered with 404. More can be
added by [`server.endpoints`](extending.md#an-endpoint): yours takes the place of one of the same path here, but for
those of kind `chat`.
"""

_NOTES: Final = """\
* **Prompt.** What scheduling and limits see of a body is its text or its tokens: messages with what tools said, system
  prompts, inputs, documents; of a form its fields, and as many tokens as its file's length speaks for. Whatever has an
  unexpected type is left to the instance to judge; only what isn't a JSON object (or a form) at all is answered with
  400.
* **Errors** that the router makes have the shape of the endpoint's clients: OpenAI's, and under `/v1/messages`
  Anthropic's (`{"type": "error", "error": {"type": "overloaded_error", "message": "…"}}`).
* **Keys.** A client's API key is taken from `Authorization: Bearer`, or, where there is none, from `x-api-key`. Both
  headers stay here where the router's own keys are asked for ([security.md](security.md#api-keys)).
* **Stored responses.** The router remembers which instance keeps which response (the last 200,000), and for which API
  key: another key's requests are answered with 404. An id that it doesn't know is asked of all instances, one after the
  other, until one knows it: that is how it works behind two routers, and after a restart. With `--splitwise` it is the
  only way.
"""


def reference() -> str:
    """Return the page, as Markdown."""
    rows = "\n".join(map(_row, BUILT_IN))
    head = "| method | path | kind | what it is | goes to |\n|---|---|---|---|---|"
    return f"{_INTRODUCTION}\n{head}\n{rows}\n\n{_NOTES}"


def _row(endpoint: Endpoint) -> str:
    cells = (
        endpoint.method,
        f"`{endpoint.path}`",
        f"`{endpoint.kind}`",
        endpoint.about,
        _WHERE[endpoint.mode],
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(reference())
