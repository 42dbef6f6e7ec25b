"""The demo: a router, a few mock instances, real requests, and an instance killed in the middle of them."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fd_router.devtools.demo.client import PATH, DemoClient, FailedError, Served
from fd_router.devtools.demo.fleet import Fleet
from fd_router.devtools.exit_codes import INTERRUPTED
from fd_router.devtools.mock.completions import STORY_TOKENS
from fd_router.http.client import HttpClient

PROMPTS = ("What is a prefix cache?", "Why is prefill faster than decode?", "Write a haiku about queues.")
DECODE_MS = 20.0
CONCURRENT = 24
FLOWING = 60
"""Requests sent while an instance is killed, one every ``GAP_SECS``; after the first third it dies."""

GAP_SECS = 0.03

STREAMS = 6
STREAM_TOKENS = 80
"""Streams that are under way when it dies, and how long they are."""

WIDEST = 100


def run(*, keep: bool, instances: int | None, port: int, splitwise: bool = False) -> int:
    """Show it all; return 0, or 1 if a request was lost, or 130 after Ctrl-C. With ``keep``, stay up until that.

    ``port`` 0: a free one. ``splitwise``: with pairs, and so many ``instances`` of each role. Raises DemoError when a
    process can't be started, UpstreamError when the router doesn't answer.
    """
    console = Console(highlight=False)
    console.width = min(console.width, WIDEST)
    try:
        return asyncio.run(_main(console, keep=keep, instances=instances, port=port, splitwise=splitwise))
    except asyncio.CancelledError:
        return INTERRUPTED


async def _main(console: Console, *, keep: bool, instances: int | None, port: int, splitwise: bool) -> int:
    me = asyncio.current_task()
    if me is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, me.cancel)
    client = HttpClient()
    with Fleet(client, port) as fleet:
        requests = DemoClient(client, fleet.port)
        demo = (PairDemo if splitwise else Demo)(console, fleet, requests)
        await demo.show(instances)
        if keep:
            demo.tell_what_to_try()
            await asyncio.Event().wait()  # until it is cancelled
        return 1 if demo.lost else 0


class Demo:
    """The acts, one after the other. ``lost`` counts the requests without a good answer."""

    _ROLES: tuple[str, ...] = ("mixed",)
    _USUAL = 3  # instances of each role
    _VICTIMS: tuple[str, ...] = ("mock-2",)
    _PREFIXES: Mapping[str, str] = {"mixed": "mock"}  # role → what its instances' names begin with

    def __init__(self, console: Console, fleet: Fleet, requests: DemoClient) -> None:
        self._requests = requests
        self._console = console
        self._fleet = fleet
        self._sent = 0
        self.lost = 0

    async def show(self, instances: int | None) -> None:
        """Play them all."""
        started = time.monotonic()
        await self._start(instances or self._USUAL)
        await self._ask_one_by_one()
        await self._stream()
        await self._ask_at_once()
        for victim in self._VICTIMS:
            await self._kill(victim)
        good = "[bold green]nothing was lost[/]" if not self.lost else f"[bold red]{self.lost} were lost[/]"
        seconds = time.monotonic() - started
        self._console.print(f"\n[bold]{self._sent} requests sent, {good}[/bold], in {seconds:.1f} s.")

    async def _start(self, number: int) -> None:
        self._title("A router and its instances")
        roles = {
            f"{self._PREFIXES.get(role, role)}-{index + 1}": role for role in self._ROLES for index in range(number)
        }
        await self._fleet.start_router(splitwise="mixed" not in self._ROLES)
        await asyncio.gather(*[self._fleet.start_instance(name, DECODE_MS, role) for name, role in roles.items()])
        await self._fleet.wait_until_registered(len(roles))
        table = _table("process", "serves at")
        table.add_row("router", self._fleet.url)
        for name in roles:
            table.add_row(f"[cyan]{name}[/]", self._fleet.urls[name])
        self._console.print(table)
        self._console.print("The instances have registered themselves. They have no GPU, but speak real HTTP.")

    async def _ask_one_by_one(self) -> None:
        self._title("One request after the other")
        table = _table("prompt", "served by", "answer", "took")
        for prompt in PROMPTS:
            served = await self._try(prompt, 10)
            if served is not None:
                took = f"{served.seconds * 1000:.0f} ms"
                table.add_row(prompt, f"[cyan]{self._who(served)}[/]", escape(served.text), took)
        self._console.print(table)

    def _who(self, served: Served) -> str:
        return served.instance

    def _shares(self, answers: Iterable[Served | None]) -> Counter[str]:
        """Count who served how many."""
        return Counter(served.instance for served in answers if served is not None)

    async def _stream(self) -> None:
        self._title("A stream, as it arrives")
        self._sent += 1
        try:
            async for text in self._requests.stream("Tell me what you do.", STORY_TOKENS):
                self._console.print(text, end="", style="green", markup=False, soft_wrap=True)
        except FailedError as error:
            self._lose(error)
        self._console.print()

    async def _ask_at_once(self) -> None:
        self._title(f"{CONCURRENT} requests at once")
        answers = await asyncio.gather(*[self._try(PROMPTS[index % 3], 24) for index in range(CONCURRENT)])
        self._show_shares([("answered", self._shares(answers))])

    async def _kill(self, victim: str) -> None:
        self._title(f"{victim} is killed while {FLOWING} requests and {STREAMS} streams flow")
        retries = await self._requests.metric("retries")
        moved = await self._requests.metric("stream_continuations")
        streams = [asyncio.create_task(self._whole_stream()) for _ in range(STREAMS)]
        flowing = []
        for number in range(FLOWING):
            if number == FLOWING // 3:
                self._fleet.kill(victim)
            flowing.append(asyncio.create_task(self._try(PROMPTS[number % 3], 16)))
            await asyncio.sleep(GAP_SECS)
        answers = await asyncio.gather(*flowing)
        before, after = answers[: FLOWING // 3], answers[FLOWING // 3 :]
        self._show_shares(
            [("of those sent before", self._shares(before)), ("of those sent after", self._shares(after))]
        )
        whole = sum(await asyncio.gather(*streams))
        moved = await self._requests.metric("stream_continuations") - moved
        again = await self._requests.metric("retries") - retries
        answered = sum(served is not None for served in answers)
        self._console.print(
            f"SIGKILL, no good-bye: {answered} of {FLOWING} were answered. {again:.0f} under way at {victim} "
            "had no answer yet, so the router sent them to another instance."
        )
        self._console.print(
            f"Of {STREAMS} streams, {whole} ended whole: {moved:.0f} went on at another instance, behind the tokens "
            "that they had."
        )

    async def _whole_stream(self) -> bool:
        """Read a stream to its end. Returns whether it has one."""
        self._sent += 1
        try:
            texts = [text async for text in self._requests.stream("Tell me all.", STREAM_TOKENS)]
        except FailedError as error:
            self._lose(error)
            return False
        return len("".join(texts).split()) > STREAM_TOKENS // 2

    async def _try(self, prompt: str, max_tokens: int) -> Served | None:
        self._sent += 1
        try:
            return await self._requests.ask(prompt, max_tokens)
        except FailedError as error:
            self._lose(error)
            return None

    def _lose(self, error: FailedError) -> None:
        self.lost += 1
        self._console.print(f"[red]lost:[/] {escape(str(error))}")

    def _show_shares(self, columns: list[tuple[str, Counter[str]]]) -> None:
        table = _table("instance", *[title for title, _ in columns])
        for name in sorted(self._fleet.urls):
            table.add_row(f"[cyan]{name}[/]", *[str(shares[name]) for _, shares in columns])
        self._console.print(table)

    def _title(self, text: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{text}", align="left", style="dim")

    def tell_what_to_try(self) -> None:
        """Print the commands for a look around while everything stays up."""
        url = self._fleet.url
        body = '{"messages": [{"role": "user", "content": "hello"}], "stream": true}'
        lines = (
            f"curl -N {url}{PATH} -d '{body}'",
            f"curl {url}/registered",
            f"curl {url}/health_generate",
            f"curl {url}/metrics",
            f"tail -f {self._fleet.log_path}",
        )
        self._title("Still up; end it with Ctrl-C. Try")
        for line in lines:
            self._console.print(line, markup=False, soft_wrap=True)


class PairDemo(Demo):
    """The same acts with prefill and decode instances: each request is served by two, and one of each role dies."""

    _ROLES = ("prefill", "decode")
    _USUAL = 2
    _VICTIMS = ("prefill-2", "decode-2")

    def _who(self, served: Served) -> str:
        names = [self._fleet.name_of(url) or "?" for url in (served.prefill_url, served.decode_url)]
        return " + ".join(names)

    def _shares(self, answers: Iterable[Served | None]) -> Counter[str]:
        pairs = [(served.prefill_url, served.decode_url) for served in answers if served is not None]
        return Counter(self._fleet.name_of(url) for pair in pairs for url in pair)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column)
    return table
