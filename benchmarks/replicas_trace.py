"""How good several replicas are on a trace over HTTP: ``python benchmarks/replicas_trace.py --trace FILE``.

It needs redis-server. One router, ``--replicas`` that share what they know, and as many that don't, each before a new
fleet of mock instances in a process of its own, get the same requests, the replicas in turn. Requests of a trace that
tells whole seconds are spread evenly within those. Time can be scaled, as in ``trace_replay.py``: with ``--speed 5``
everything is five times as fast but for what routers need, so that what they tell each other is five times as old.
``--interval-ms`` is theirs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import msgspec
import uvloop
from processes import (
    FD_ROUTER,
    HERE,
    Program,
    answers,
    free_port,
    make_console,
    need_programs,
    wait_until,
    write_config,
)
from rich import box
from rich.table import Table
from trace_replay import PROBE, START_SECS, add_fleet_options, fleet_command

ROOT = HERE.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.support.redis_server import RedisServer  # noqa: E402

from fd_router.devtools.recordings.any_trace import read_any_trace  # noqa: E402
from fd_router.devtools.replay.replay import Replay, Target  # noqa: E402
from fd_router.devtools.report.outcomes import Result, Summary  # noqa: E402
from fd_router.devtools.router_address import RouterAddress  # noqa: E402
from fd_router.devtools.traces.trace import TraceRequest, at_speed, capped  # noqa: E402


def main() -> int:
    """Replay, and print a row for each; with ``--rounds`` their means."""
    arguments = _arguments()
    need_programs("redis-server")
    requests = spread(read_any_trace(str(arguments.trace), limit=arguments.limit))
    requests = at_speed(capped(requests, arguments.max_output), arguments.speed)
    kinds = {
        "one router": (1, False),
        "sharing": (arguments.replicas, True),
        "not sharing": (arguments.replicas, False),
    }
    found: dict[str, list[Summary]] = {name: [] for name in kinds}
    for _ in range(arguments.rounds):
        for name, (replicas, is_shared) in kinds.items():
            found[name].append(_run(requests, replicas, arguments, is_shared=is_shared))
    make_console().print(_table(found, arguments))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, required=True, help="a JSONL file in Mooncake's format")
    parser.add_argument("--replicas", type=int, default=4, help="[4]")
    parser.add_argument("--policy", default="ttft_aware", help="[ttft_aware]")
    add_fleet_options(parser)
    parser.add_argument("--speed", type=float, default=5.0, help="of time [5]")
    parser.add_argument("--limit", type=int, default=1000, help="requests, 0: all [1000]")
    parser.add_argument("--max-output", type=int, default=100, help="tokens a request generates at most, 0: all [100]")
    parser.add_argument("--interval-ms", type=float, default=20.0, help="between frames [20]")
    parser.add_argument("--rounds", type=int, default=1, help="of all three, in turns [1]")
    return parser.parse_args()


def spread(requests: Sequence[TraceRequest]) -> list[TraceRequest]:
    """Let requests that came within one step of the trace's clock come evenly until the next one."""
    groups = [(at, list(group)) for at, group in groupby(requests, key=lambda each: each.at)]
    ends = [at for at, _ in groups[1:]] + [groups[-1][0]]
    found = []
    for (at, group), end in zip(groups, ends, strict=True):
        for place, each in enumerate(group):
            found.append(msgspec.structs.replace(each, at=at + (end - at) * place / len(group)))
    return found


def _run(requests: Sequence[TraceRequest], replicas: int, arguments: argparse.Namespace, *, is_shared: bool) -> Summary:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fd-router-replicas-")))
        url = stack.enter_context(RedisServer()).url if is_shared else ""
        instances = [free_port() for _ in range(arguments.instances)]
        fleet = stack.enter_context(Program("fleet", fleet_command(instances, arguments), directory))
        _wait(fleet, instances)
        ports = [free_port() for _ in range(replicas)]
        for port in ports:
            _wait(stack.enter_context(_router(directory, port, instances, url, arguments)), [port])
        outcomes = uvloop.run(_replay(requests, ports))
    return Result("", outcomes, arguments.instances, 0.0).summary()


def _router(directory: Path, port: int, instances: Sequence[int], url: str, arguments: argparse.Namespace) -> Program:
    own = directory / str(port)
    own.mkdir()
    path = write_config(own, port, instances, arguments.policy)
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"state": {"url": url, "interval-ms": arguments.interval_ms}}))
    return Program("router", [*FD_ROUTER, "--config_path", str(path)], own)


def _wait(program: Program, ports: Sequence[int]) -> None:
    if not wait_until(lambda: program.has_ended or all(answers(port, PROBE) for port in ports), START_SECS):
        raise RuntimeError(f"{program.name} never answered")
    if program.has_ended:
        raise RuntimeError(program.output.read_text(errors="replace").strip()[-500:])


async def _replay(requests: Sequence[TraceRequest], ports: Sequence[int]) -> list:
    """Send each router its share of the requests; return what became of all of them."""
    replays = [
        Replay(
            requests[place :: len(ports)],
            Target(RouterAddress.parse(f"127.0.0.1:{port}"), model="mock-model", for_mocks=True),
        )
        for place, port in enumerate(ports)
    ]
    results = await asyncio.gather(*(replay.run("") for replay in replays))
    if (late := max(replay.late_secs for replay in replays)) > 0.1:
        print(f"warning: a request was sent {late:.2f} s late: this machine is too busy", file=sys.stderr)
    return [outcome for result in results for outcome in result.outcomes]


def _table(found: dict[str, list[Summary]], arguments: argparse.Namespace) -> Table:
    table = Table(
        title=f"{arguments.policy}, {arguments.replicas} replicas, time to first token in s", title_justify="left",
        box=box.SIMPLE_HEAD,
    )  # fmt: skip
    for heading in ("", "mean", "p50", "p90", "p99", "cached", "as good as one: time", "cached", "failed"):
        table.add_column(heading, justify="right" if heading else "left")
    mean, cached = (_mean(found["one router"], name) for name in ("ttft_mean", "hit_rate"))
    for name, rounds in found.items():
        times = [f"{arguments.speed * _mean(rounds, f'ttft_{which}'):.2f}" for which in ("mean", "p50", "p90", "p99")]
        own = _mean(rounds, "hit_rate")
        good = (f"{mean / _mean(rounds, 'ttft_mean'):.1%}", f"{own / cached:.1%}")
        table.add_row(name, *times, f"{own:.1%}", *good, str(sum(each.failures for each in rounds)))
    return table


def _mean(rounds: Sequence[Summary], name: str) -> float:
    return sum(getattr(each, name) for each in rounds) / len(rounds)


if __name__ == "__main__":
    sys.exit(main())
