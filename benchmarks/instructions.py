"""Instructions of one tree of the router against another: what a request or chunk takes, on a busy machine as well.

``python benchmarks/instructions.py --against ../other-tree`` runs this tree's router (A) and the other's (B) under
valgrind, and counts from when all is warm; what the router does by itself meanwhile is taken off. Of user space only:
what the kernel does isn't in it. But a step of one per cent shows, which CPU time on a shared machine hides.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare import PROBE
from lockstep import Lockstep
from processes import (
    FD_ROUTER,
    SOURCES,
    Program,
    answers,
    free_port,
    make_console,
    need_programs,
    wait_until,
    write_config,
)
from rich.table import Table
from works import Work, all_works

CONNECTIONS = 16
WARM_UP = 48
"""Rounds before, so that all bodies of ``long`` have come thrice, and a policy that remembers them knows them."""
START_SECS = 120.0

_VALGRIND = ("valgrind", "--tool=callgrind", "--instr-atstart=no")
_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)


def main() -> int:
    """Count, and print one row for each work and policy."""
    arguments = _arguments()
    need_programs("valgrind")
    os.environ["PYTHONHASHSEED"] = "0"  # the routers': what hashes lay out is laid out alike
    works = all_works()
    trees = (SOURCES, arguments.against.resolve() / "src")
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("work", "A", "B", "A / B"):
        table.add_column(heading, justify="left" if heading == "work" else "right", no_wrap=True)
    console = make_console()
    for work in [works[name] for name in arguments.what.split(",")]:
        for policy in work.policies:
            name = work.name if len(work.policies) == 1 else f"{work.name} {policy}"
            with console.status(name):
                ours, theirs = (asyncio.run(_count(work, policy, tree, arguments)) for tree in trees)
            table.add_row(name, f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.3f}")
    console.print(table)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="the other tree: a checkout of this repository")
    parser.add_argument("--what", default="short,stream,long,pd-short,pd-long", help="works to count [all five]")
    parser.add_argument(
        "--rounds", type=int, default=128, help=f"counted, of {CONNECTIONS} requests or chunks each [128]"
    )
    parser.add_argument(
        "--keep", type=Path, help="a directory for the profiles, for callgrind_annotate [none are kept]"
    )
    return parser.parse_args()


async def _count(work: Work, policy: str, tree: Path, arguments: argparse.Namespace) -> float:
    """Return the instructions of the router of ``tree`` for one request or chunk."""
    load = Lockstep(work.bodies)
    with tempfile.TemporaryDirectory(prefix="fd-router-instructions-") as name:
        directory, port = Path(name), free_port()
        config = write_config(directory, port, await load.listen(), policy, pairs=work.pairs)
        profile = (arguments.keep or directory).absolute() / f"{work.name}-{policy}-{'a' if tree == SOURCES else 'b'}"
        command = (*_VALGRIND, f"--callgrind-out-file={profile}", *FD_ROUTER, "--config_path", str(config))
        with Program("router", command, directory, sources=tree) as router:
            await _until_it_answers(router, port)
            await load.connect(port, CONNECTIONS)
            await load.rounds(WARM_UP)
            _control(router, "--instr=on")
            await load.rounds(2)
            _control(router, "--zero")
            began = time.monotonic()
            await load.rounds(arguments.rounds)
            took = time.monotonic() - began
            _control(router, "--dump")
            counted = _total(profile.with_name(f"{profile.name}.1"))
            idle = await _count_idle(router, profile.with_name(f"{profile.name}.2"), took)
            load.close()
    return (counted - idle) / (arguments.rounds * CONNECTIONS)


async def _count_idle(router: Program, dump: Path, seconds: float) -> int:
    """Return the instructions of so many seconds without load: timers, probes. A busy machine makes them many."""
    _control(router, "--zero")
    await asyncio.sleep(seconds)
    _control(router, "--dump")
    return _total(dump)


def _total(dump: Path) -> int:
    """Return the instructions that a dump tells, once it is written: it ends with them."""
    if not wait_until(lambda: dump.exists() and _TOTALS.search(dump.read_text()) is not None, START_SECS):
        raise RuntimeError(f"valgrind didn't write {dump}")
    return int(_TOTALS.findall(dump.read_text())[0])


def _control(router: Program, order: str) -> None:
    subprocess.run(("callgrind_control", order, str(router.pid)), check=True, capture_output=True, timeout=START_SECS)


async def _until_it_answers(router: Program, port: int) -> None:
    async with asyncio.timeout(START_SECS):
        while not await asyncio.to_thread(answers, port, PROBE):
            if router.has_ended:
                raise RuntimeError(router.output.read_text(errors="replace").strip()[-500:])
            await asyncio.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
