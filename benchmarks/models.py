"""Two models, ten aliases and splits: 10,000 requests by all names, and how many reached a wrong model (none may).

``python benchmarks/models.py [requests [clients]]``. The instances refuse what they don't serve. Exits with 1 if a
request had no right answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.support.fleet import QUICK, chat, eventually  # noqa: E402
from tests.support.mock_process import MockProcess, RouterProcess  # noqa: E402

MODELS = ("big", "small")
ALIASES = {
    **{f"big-{n}": "big" for n in range(4)},
    **{f"small-{n}": "small" for n in range(4)},
    "half": {"big": 50, "small": 50},
    "canary": {"big": 90, "small": 10},
}
NAMES = (*MODELS, *ALIASES)
SESSIONS = 500


async def ask(port: int, numbers: list[int], endings: Counter[str], served: Counter[tuple[str, str]]) -> None:
    """Send requests over one connection as long as there are numbers left."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        while numbers:
            number = numbers.pop()
            name = NAMES[number % len(NAMES)]
            session = {"session_id": f"s{number % SESSIONS}"} if number % 7 < 4 else {}
            body = json.dumps({**chat(max_tokens=1, **session), "model": name}).encode()
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
            writer.write(head + body)
            answer_head = await reader.readuntil(b"\r\n\r\n")
            length = int(answer_head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            answer = json.loads(await reader.readexactly(length))
            status = answer_head.split()[1].decode()
            model = answer.get("model", "")
            is_right = model == ALIASES.get(name, name) or (name in ("half", "canary") and model in MODELS)
            endings[status if status != "200" or is_right else "a wrong model"] += 1
            served[name, model] += 1


async def run(port: int, requests: int, clients: int) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Send so many requests by so many clients."""
    endings: Counter[str] = Counter()
    served: Counter[tuple[str, str]] = Counter()
    numbers = list(range(requests))
    random.Random(1).shuffle(numbers)
    await asyncio.gather(*(ask(port, numbers, endings, served) for _ in range(clients)))
    return endings, served


def main(arguments: list[str]) -> int:
    """Start two instances of each model and a router, and ask."""
    requests = int(arguments[0]) if arguments else 10_000
    clients = int(arguments[1]) if len(arguments) > 1 else 64
    with contextlib.ExitStack() as stack:
        mocks = [MockProcess(model=model, only_model=True, **QUICK) for model in MODELS for _ in range(2)]
        for mock in mocks:
            stack.callback(mock.end)
            mock.wait_until_up()
        entries = [{"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port} for mock in mocks]
        router = RouterProcess({"models": {"aliases": ALIASES}, "log": {"output": "file"}}, instances=entries)
        stack.callback(router.end)
        router.wait_until_up()
        eventually(lambda: router.call("GET", "/registered_number")[1]["mixed"] == len(mocks))
        eventually(lambda: len(router.call("GET", "/v1/models")[1]["data"]) == len(NAMES))
        begun = time.monotonic()
        endings, served = uvloop.run(run(router.port, requests, clients))
        seconds = time.monotonic() - begun
    Console(highlight=False).print(as_table(endings, served, seconds))
    return 0 if endings["200"] == requests else 1


def as_table(endings: Counter[str], served: Counter[tuple[str, str]], seconds: float) -> Table:
    """Show how requests ended, and which half of the splits they went to."""
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row(f"requests, in {seconds:.0f} s", f"{endings.total():,}")
    for ending, number in endings.most_common():
        table.add_row(f"  {ending}", f"{number:,}")
    for name in ("half", "canary"):
        for model in MODELS:
            table.add_row(f"{name} → {model}", f"{served[name, model]:,}")
    table.add_row("at a wrong model", f"{endings['a wrong model']:,}")
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
