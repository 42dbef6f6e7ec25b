"""Scenario: the usual load generators and Open WebUI's first calls, unchanged, against the router."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from bench import MODEL, Bench, Finding, Router
from install import install_tool

REQUESTS = 20
TOOL_SECS = 900.0


def _run(bench: Bench, command: Sequence[str | Path], result: Path, without: Sequence[str] = ()) -> Any:
    """Run a tool and read the report that it writes. Raises ValueError with what it said when it writes none.

    ``without``: names in the environment that it isn't given.
    """
    environment = {name: value for name, value in bench.client_environment().items() if name not in without}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TOOL_SECS, check=False,
        cwd=bench.output, env=environment,
    )  # fmt: skip
    if not result.exists():
        raise ValueError(f"{Path(command[0]).name} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return json.loads(result.read_text())


def _vllm(bench: Bench, router: Router, backend: str, path: str) -> tuple[bool, str]:
    """``vllm bench serve`` asks ``/v1/models`` which model there is."""
    result = bench.output / f"{backend}.json"
    told = _run(
        bench,
        [
            *(bench.folder / "venv" / "bin" / "vllm", "bench", "serve", "--backend", backend, "--endpoint", path),
            *("--base-url", router.url, "--tokenizer", bench.folder / "model", "--dataset-name", "random"),
            *("--random-input-len", "100", "--random-output-len", "16", "--num-prompts", str(REQUESTS)),
            *("--max-concurrency", "4", "--disable-tqdm"),
            *("--save-result", "--result-dir", bench.output, "--result-filename", result.name),
        ],
        result,
    )
    return told["completed"] == REQUESTS, f"{told['completed']} completed, {told['failed']} failed"


def _guidellm(bench: Bench, router: Router) -> tuple[bool, str]:
    result = bench.output / "guidellm.json"
    told = _run(
        bench,
        [
            *(install_tool(bench.folder, "guidellm"), "run", "--disable-console"),
            *("--backend", f"kind=openai_http,target={router.url}", "--profile", "kind=concurrent,streams=4"),
            *("--constraint", f"kind=max_requests,count={REQUESTS}"),
            *("--tokenizer", f"kind=hf_auto,model={bench.folder / 'model'}"),
            *("--data", "kind=synthetic_text,prompt_tokens=64,output_tokens=16"),
            *("--output", f"kind=json,path={result}"),
        ],
        result,
    )
    totals = told["benchmarks"][0]["metrics"]["request_totals"]
    return totals["successful"] >= REQUESTS and not totals["errored"], f"{totals}"


def _aiperf(bench: Bench, router: Router) -> tuple[bool, str]:
    folder = bench.output / "aiperf"
    told = _run(
        bench,
        [
            *(install_tool(bench.folder, "aiperf"), "profile", "--model", MODEL, "--url", router.url),
            *("--endpoint-type", "chat", "--streaming", "--tokenizer", bench.folder / "model"),
            *("--request-count", str(REQUESTS), "--concurrency", "4", "--ui", "none"),
            *("--synthetic-input-tokens-mean", "64", "--output-tokens-mean", "16", "--output-artifact-dir", folder),
        ],
        folder / "profile_export_aiperf.json",
        without=("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),  # with them it takes a folder for a name in its cache
    )
    count, errors = told["request_count"]["avg"], (told.get("error_request_count") or {}).get("avg", 0)
    return count == REQUESTS and not errors, f"{count:.0f} completed, {errors:.0f} failed"


def _open_webui(_: Bench, router: Router) -> tuple[bool, str]:
    """What Open WebUI's backend sends for a new connection and a first chat, after its source (routers/openai.py)."""
    user = {"X-OpenWebUI-User-Name": "Jo%20Doe", "X-OpenWebUI-User-Id": "1", "X-OpenWebUI-User-Role": "admin"}
    head = {"Authorization": "Bearer sk-none", "Content-Type": "application/json", "Accept": "*/*", **user}
    with httpx.Client(base_url=f"{router.url}/v1", headers=head, timeout=60) as client:
        listed = client.get("/models").json()  # to verify the connection, and for the list
        model = listed["data"][0]["id"]
        chat: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
        options = {"stream": True, "stream_options": {"include_usage": True}}
        with client.stream("POST", "/chat/completions", json={**chat, **options}) as answer:
            lines = [line for line in answer.iter_lines() if line]
        title = client.post("/chat/completions", json={**chat, "stream": False, "max_completion_tokens": 8})
        good = lines[-1] == "data: [DONE]" and title.status_code == 200 and listed["object"] == "list"
        return good, f"model {model}, {len(lines)} events, a title"


TOOLS: dict[str, Callable[[Bench, Router], tuple[bool, str]]] = {
    "vllm bench serve, chat": lambda bench, router: _vllm(bench, router, "openai-chat", "/v1/chat/completions"),
    "vllm bench serve, completions": lambda bench, router: _vllm(bench, router, "vllm", "/v1/completions"),
    "vllm bench serve, responses": lambda bench, router: _vllm(bench, router, "openai-responses", "/v1/responses"),
    "guidellm": _guidellm,
    "aiperf": _aiperf,
    "Open WebUI's first calls": _open_webui,
}


def load_tools(bench: Bench) -> Iterator[Finding]:
    """Each before a router of its own with the two plain servers behind it, by two policies in turn."""
    for number, (name, tool) in enumerate(TOOLS.items()):
        policy = ("request_num", "cache_aware")[number % 2]
        router = bench.router(scheduler={"policy": policy})
        try:
            yield Finding(name, *tool(bench, router))
        except (ValueError, KeyError, subprocess.SubprocessError, httpx.HTTPError) as error:
            yield Finding(name, False, repr(error))
        router.end()
