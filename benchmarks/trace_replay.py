"""Time to first token on a trace: our policies and other routers over HTTP before the same mock fleet.

Time can be scaled: with --speed 10 the requests come 10 times as fast and the instances are 10 times as fast, so every
time is a tenth; what is printed is scaled back. Each contender meets a new fleet with empty caches. With --simulate
each of our policies is simulated too, which should agree. --max-output makes it cheap, but then running requests, by
which some policies go, are few.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from contenders import Contender, contenders
from processes import FD_ROUTER, HERE, Program, answers, free_port, make_console, post, wait_until
from rich.table import Table

START_SECS = 60.0
PROBE = post(
    "/v1/chat/completions", b'{"model":"mock-model","messages":[{"role":"user","content":"hello"}],"max_tokens":1}'
)
COLUMNS = ("ttft_mean", "ttft_p50", "ttft_p90", "ttft_p99", "hit_rate", "spread", "requests", "failures")


def main() -> int:
    arguments = _arguments()
    console = make_console()
    table = Table(
        title=f"{arguments.trace.name}, {arguments.instances} instances: time to first token, s", title_justify="left"
    )
    for name in ("", "mean", "p50", "p90", "p99", "cached", "spread", "requests", "failed"):
        table.add_column(name, justify="right" if name else "left")
    with tempfile.TemporaryDirectory(prefix="fd-router-replay-") as name:
        directory = Path(name)
        ports = [free_port() for _ in range(arguments.instances)]
        wanted = tuple(arguments.only.split(","))
        policies = arguments.policies.split(",")
        for contender in contenders(directory, ports, policies, arguments.peer_policy, arguments.peers):
            if contender.family == "nginx" or not contender.name.startswith(wanted):
                continue
            with console.status(contender.name):
                result = _replay(contender, ports, directory, arguments)
            if isinstance(result, str):
                console.print(f"{contender.name} never answered: {result}", markup=False)
            else:
                _add(table, contender.name, result, arguments.speed)
        if arguments.simulate:
            for policy in policies:
                _add(table, f"{policy}, simulated", _simulate(policy, directory, arguments), arguments.speed)
    console.print(table)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, required=True, help="a JSONL file in Mooncake's format")
    parser.add_argument("--peers", type=Path, help="bin folder of a venv with vllm-router, sglang-router, smg")
    parser.add_argument("--peer-policy", default="cache_aware", help="[cache_aware]")
    parser.add_argument("--policies", default="process_tokens,cache_aware", help="of ours [process_tokens,cache_aware]")
    parser.add_argument("--only", default="", help="contenders to measure, by the beginning of their names")
    add_fleet_options(parser)
    parser.add_argument("--speed", type=float, default=10.0, help="of time [10]")
    parser.add_argument("--limit", type=int, default=1500, help="requests, 0: all [1500]")
    parser.add_argument("--max-output", type=int, default=0, help="tokens a request generates at most, 0: all [0]")
    parser.add_argument("--simulate", action="store_true")
    return parser.parse_args()


def add_fleet_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``fleet_command`` reads, but for ``--speed``."""
    parser.add_argument("--instances", type=int, default=8, help="[8]")
    parser.add_argument("--prefill", type=float, default=5386.0, help="tokens/s of an instance [5386]")
    parser.add_argument("--decode-ms", type=float, default=10.0, help="a token [10]")
    parser.add_argument("--cache-tokens", type=int, default=1_000_000, help="of an instance [1000000]")


def fleet_command(ports: Sequence[int], arguments: argparse.Namespace) -> list[str]:
    """Return the command of mock instances at ``ports``, as fast as ``arguments`` says."""
    return [
        sys.executable, str(HERE / "mock_fleet.py"), ",".join(map(str, ports)), *_engine(arguments), "--record", "0"
    ]  # fmt: skip


def _engine(arguments: argparse.Namespace) -> list[str]:
    """Return the flags of the engine model, which are the same for mock and simulation."""
    values = {
        "--prefill-tokens-per-sec": arguments.prefill * arguments.speed,
        "--decode-ms-per-token": arguments.decode_ms / arguments.speed,
        "--decode-ms-per-running": 0.0,
        "--cache-tokens": arguments.cache_tokens,
    }
    return [word for name, value in values.items() for word in (name, str(value))]


def _traffic(arguments: argparse.Namespace) -> list[str]:
    values = {
        "--trace": arguments.trace.resolve(),
        "--speed": arguments.speed,
        "--limit": arguments.limit,
        "--max-output": arguments.max_output,
    }
    return [word for name, value in values.items() for word in (name, str(value))] + ["--json"]


def _replay(contender: Contender, ports: list[int], directory: Path, arguments: argparse.Namespace) -> dict | str:
    url = f"http://127.0.0.1:{contender.port}"
    command = [*FD_ROUTER, "replay", *_traffic(arguments), "--router", url, "--prompts", "ids", "--model", "mock-model"]
    name = contender.name.replace(" ", "-")
    with Program("fleet", fleet_command(ports, arguments), directory) as mocks:
        wait_until(lambda: mocks.has_ended or all(answers(port, PROBE) for port in ports), START_SECS)
        with Program(name, contender.command, directory) as router:
            wait_until(lambda: router.has_ended or answers(contender.port, PROBE), START_SECS)
            if not answers(contender.port, PROBE):
                return router.output.read_text(errors="replace").strip()[-300:]
            with Program(f"{name}-replay", command, directory) as client:
                said = client.result(3600.0)
    if "warning:" in said:
        print(f"{contender.name}: {said[said.index('warning:') :].strip()}", file=sys.stderr)
    return _first(said)


def _simulate(policy: str, directory: Path, arguments: argparse.Namespace) -> dict:
    command = [*FD_ROUTER, "simulate", *_traffic(arguments), *_engine(arguments), "--policy", policy]
    with Program(f"{policy}-simulated", [*command, "--instances", str(arguments.instances)], directory) as program:
        return _first(program.result(600.0))


def _first(said: str) -> dict:
    return msgspec.json.decode(said[said.index("{") : said.rindex("}") + 1])["results"][0]


def _add(table: Table, name: str, result: dict, speed: float) -> None:
    cells = []
    for column in COLUMNS:
        value = result[column]
        if column.startswith("ttft"):
            cells.append(f"{value * speed:.2f}" if value is not None else "–")
        elif column == "hit_rate":
            cells.append(f"{value:.1%}" if value is not None else "–")
        else:
            cells.append(f"{value:.2f}" if isinstance(value, float) else str(value))
    table.add_row(name, *cells)


if __name__ == "__main__":
    sys.exit(main())
