"""What ``fd-router mock --help`` tells beside the options: the endpoints, and the faults that can be turned on."""

from __future__ import annotations

from collections.abc import Iterable

from fd_router.devtools.mock.engines import ADMIN_PATHS
from fd_router.devtools.mock.faults import KINDS, PARAMETERS, PER_REQUEST
from fd_router.devtools.mock.kinds.reading import READERS

ENDPOINTS = {
    "POST /v1/chat/completions": "an answer of words, streamed or whole",
    "POST /v1/completions": "the same for a plain prompt",
    "POST /v1/responses": "the same as a response, which is kept",
    "GET /v1/responses/{id}": "one that was made here",
    "DELETE /v1/responses/{id}": "forget it",
    "POST /v1/responses/{id}/cancel": "say that it is cancelled",
    "POST /v1/messages": "the same in Anthropic's shape",
    "POST /generate": "the same in SGLang's shape",
    **{f"POST {path}": "an answer at once, made of the request's text" for path in READERS},
    "POST /v1/abort_requests": "end requests by id, as FastDeploy does",
    "GET /v1/models": "the model it was started with",
    "GET /health": "200, or 503 while unhealthy",
    "GET /metrics": "the gauges that load-aware policies read, under the engine's names (not sglang, openai)",
    "POST /mock/kv": "a KV cache handed over by a prefill mock instance (FastDeploy)",
    "POST /mock/kv/take": "a KV cache fetched by a decode mock instance (vLLM, SGLang)",
    "GET /query": "the engine of a prefill mock instance (vLLM with MooncakeConnector)",
    "GET /mock/requests": "what came, oldest first (see --record)",
    "DELETE /mock/requests": "forget it",
    "GET /mock/faults": "the faults that are on, and how many requests they struck",
    "POST /mock/faults": "replace them by others; an empty list turns all off",
    "GET /mock/state": "counts: running, waiting, finished, connections, cache …",
}

OF_DIALECTS = {
    "GET /version": "vllm: by which it is detected",
    "GET /ping": "vllm: 200",
    "POST /ping": "vllm: the same",
    "POST /inference/v1/abort_requests": "vllm: end requests by id",
    "GET /kv_event_sources": "vllm: where KV events are published (--kv-events-port)",
    "GET /server_info": "sglang: by which it is detected",
    "GET /model_info": "sglang: a few settings",
    "GET /ready": "sglang: 200, or 503 while unhealthy",
    "GET /v1/loads": "sglang: what runs and waits",
    "POST /abort_request": "sglang: end requests by rid, or all",
    **{
        f"{method} {path}": f"{dialect}: does nothing, for admins' scripts"
        for dialect, paths in ADMIN_PATHS.items()
        for path in paths
        for method in ("GET", "POST")
    },
}
"""What there is only with another ``--dialect`` than FastDeploy's."""

EXAMPLES = (
    "fd-router mock --fault slow:head_secs=2 --fault status:status=503,probability=0.1",
    """curl http://127.0.0.1:PORT/mock/faults -d '{"faults": ["cut_mid_body:after_tokens=5,count=1"]}'""",
)

Rows = list[tuple[str, str]]


def sections() -> Iterable[tuple[str, Rows]]:
    """Return the help's sections: a title, and rows of a term and what it is."""
    yield "Endpoints", list(ENDPOINTS.items())
    yield "Endpoints with --dialect vllm, sglang", list(OF_DIALECTS.items())
    yield "Faults (KIND of --fault)  [parameters of its own]", [(name, _does(name)) for name in KINDS]
    yield "Parameters of all faults but refuse and unhealthy", [(name, PARAMETERS[name]) for name in PER_REQUEST]
    yield (
        "Parameters of those that name them",
        [(name, meaning) for name, meaning in PARAMETERS.items() if name not in PER_REQUEST],
    )
    yield "Examples", [(example, "") for example in EXAMPLES]


def _does(name: str) -> str:
    kind = KINDS[name]
    own = [parameter for parameter in kind.parameters if parameter not in PER_REQUEST]
    return f"{kind.does} [{', '.join(own)}]" if own else kind.does
