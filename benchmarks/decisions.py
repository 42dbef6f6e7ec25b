"""What a decision costs: every policy among 8, 100 and 1,000 instances; the prefix index, its memory and a match.

In this process, without a network. A decision is a choice and its counting; every instance gives back what it was sent
some decisions later, as in a fleet at work.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Sequence

from processes import make_console
from rich.table import Table

from fd_router.config.loading import POLICIES, SchedulerConfig
from fd_router.instances.group_key import ANY_MODEL, GroupKey
from fd_router.instances.groups import Group
from fd_router.instances.instance import Health, Instance
from fd_router.instances.registration import parse_registration
from fd_router.openai.completion import Completion
from fd_router.scheduling.environment import Choice, Environment
from fd_router.scheduling.load_table import LoadTable
from fd_router.scheduling.loads import ReportedLoads
from fd_router.scheduling.policies import make_index, make_policy
from fd_router.scheduling.prefix.block_hashes import BlockHasher
from fd_router.scheduling.prefix.index import PrefixIndex
from fd_router.scheduling.request_view import RequestView
from fd_router.scheduling.scheduler import Scheduler

SIZES = (8, 100, 1000)
PROMPT_CHARACTERS = 200
PROMPTS = 500
"""Different ones: the index knows most of them after a while."""

UNDER_WAY = 3
"""Requests at an instance at a time, on average."""


class _Fleet:
    """Instances with requests under way, and a scheduler over them. ``skew`` is added to one instance's requests."""

    def __init__(self, policy: str, size: int, skew: int = 0) -> None:
        rng = random.Random(1)
        # Cache-aware policies call a fleet imbalanced when one of many instances has two requests more than another.
        options = SchedulerConfig(balance_abs_threshold=1.0 if skew else 1e9)
        figures = ReportedLoads(time.monotonic, 1e9)
        environment = Environment(
            time.monotonic,
            rng,
            self._on_choice,
            index=make_index(time.monotonic, options),
            reported_loads=figures,
            load_table=LoadTable(),
        )
        self.instances = tuple(_instance(number) for number in range(size))
        for instance in self.instances:
            figures.report(instance.url, rng.randrange(4), rng.randrange(2), 0)
        for _ in range(skew):
            self.instances[0].acquire(1000)
        chooser = make_policy(policy, environment, options)
        self._scheduler = Scheduler(self._group(), chooser, str)
        self._under_way: deque[Callable[[], object]] = deque()
        self._most = UNDER_WAY * size
        self.reasons: set[str] = set()

    def _group(self) -> Group:
        group = Group(GroupKey(ANY_MODEL, "mixed"))
        for instance in self.instances:
            instance.health = Health.HEALTHY
            group.join(instance)
        return group

    def _on_choice(self, _request: RequestView, choice: Choice) -> None:
        self.reasons.add(choice.reason)

    def decide(self, request: RequestView) -> None:
        """Choose, count, and let the oldest request end."""
        decision = self._scheduler.select(request)
        self._under_way.append(decision.prefill_done)
        self._under_way.append(decision.release)
        while len(self._under_way) > 2 * self._most:
            self._under_way.popleft()()


def _instance(number: int) -> Instance:
    host = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
    return Instance(parse_registration({"role": "mixed", "host_ip": host, "port": 8000}))


def _prompts(count: int, characters: int) -> list[Completion]:
    rng = random.Random(2)
    return [Completion(b'{"prompt": "%x"}' % rng.getrandbits(4 * characters)) for _ in range(count)]


def _decision_micros(policy: str, size: int, rounds: int, *, skew: int = 0) -> tuple[float, set[str]]:
    """Return µs of CPU a decision, the least of five runs, and why the prefix didn't decide."""
    fleet, requests = _Fleet(policy, size, skew), _prompts(PROMPTS, PROMPT_CHARACTERS)
    for number in range(UNDER_WAY * size + 200):
        fleet.decide(requests[number % PROMPTS])
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for number in range(rounds):
            fleet.decide(requests[number % PROMPTS])
        best = min(best, (time.process_time() - began) / rounds * 1e6)
    return best, fleet.reasons


def _decisions(policies: Sequence[str], sizes: Sequence[int], rounds: int) -> None:
    table = Table("policy", *(f"{size} instances" for size in sizes), title="µs a decision", title_justify="left")
    for policy in policies:
        table.add_row(policy, *(f"{_decision_micros(policy, size, rounds)[0]:.1f}" for size in sizes))
        if "cache_aware" in policy:
            cells = []
            for size in sizes:
                micros, reasons = _decision_micros(policy, size, rounds, skew=20)
                cells.append(f"{micros:.1f}" if reasons == {"load imbalanced"} else f"{micros:.1f} ?")
            table.add_row("  … imbalanced loads", *cells)
    make_console().print(table)


def _index(blocks: int) -> None:
    """Fill an index to its limit with prompts of several lengths."""
    table = Table("prompts of", "blocks", "MB", "MB as it says itself", "µs a match", title_justify="left")
    table.title = f"prefix index of at most {blocks:,} blocks"
    for length in (750, 50, 8, 1):
        rng = random.Random(3)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        index = PrefixIndex(time.monotonic, max_blocks=blocks)
        names = [f"http://10.0.0.{number}:8000" for number in range(8)]
        keys = b""
        for number in range(blocks // length + 100):
            keys = rng.randbytes(8 * length)
            index.insert(index.match(keys), names[number % 8])
        gc.collect()
        size = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        micros = _best_of(lambda keys=keys, index=index: index.match(keys))  # type: ignore[misc]
        cells = (f"{index.blocks:,}", f"{size / 1e6:.0f}", f"{index.bytes_estimate / 1e6:.0f}", f"{micros:.2f}")
        table.add_row(f"{length} blocks", *cells)
    make_console().print(table)
    text = "".join(random.Random(4).choices("abcdefghij ", k=750 * 64))
    hasher = BlockHasher(64)
    make_console().print(
        f"hashes of a 750-block prompt (48,000 characters): {_best_of(lambda: hasher.of_text(text)):.1f} µs"
    )


def _best_of(work: Callable[[], object], times: int = 2000) -> float:
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(times):
            work()
        best = min(best, (time.process_time() - began) / times * 1e6)
    return best


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000, help="decisions a run, of which there are five [1000]")
    parser.add_argument("--blocks", type=int, default=1_000_000, help="limit of the prefix index [1000000]")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="of the fleets [8 100 1000]")
    parser.add_argument("--policies", default=",".join(POLICIES), help="[all]")
    arguments = parser.parse_args()
    gc.set_threshold(50_000, 20, 20)  # as in the router
    _decisions(arguments.policies.split(","), arguments.sizes, arguments.rounds)
    _index(arguments.blocks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
