"""Random schedules of faults, a seed each: both modes, all policies, keys, queues, reloads, drains, role flips, aborts,
clients that leave, instances that reset, stall, answer too early or nonsense. Nothing may be left behind.

``python benchmarks/chaos_random.py [--seeds 500] [--first 1]``; ``--seed N`` plays one again and prints its schedule.
Exits with 1 at the end if a seed failed; each is printed with its schedule. The memory of the process must not grow.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import uvloop

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.support.random_faults import Schedule, play  # noqa: E402

GROWTH_KB_A_SEED = 60
"""What memory may grow by for each seed, after the first tenth of them. A whole router is built for each: what malloc
keeps of it in fragments is some 30 KB; no object stays. (What an index of prefixes holds is taken apart by hand: the
collector doesn't know its nodes.)"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=500, help="how many [500]")
    parser.add_argument("--first", type=int, default=1, help="the first of them [1]")
    parser.add_argument("--seed", type=int, help="only this one, with its schedule")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        print(Schedule(arguments.seed))
        play(Schedule(0), uvloop.run)
        return int(_fails(arguments.seed, Counter()))
    return _play_all(range(arguments.first, arguments.first + arguments.seeds))


def _play_all(seeds: range) -> int:
    play(Schedule(0), uvloop.run)  # what is opened once for all is open then
    begun, seen, failed = time.monotonic(), Counter[str](), []
    settled = 0
    for count, seed in enumerate(seeds):
        if _fails(seed, seen):
            failed.append(seed)
            print(f"{Schedule(seed)}\n", flush=True)
        if count == len(seeds) // 10:
            settled = _memory_kb()
    grown = _memory_kb() - settled
    print(f"{len(seeds)} seeds in {time.monotonic() - begun:.0f} s, {len(failed)} failed: {failed}")
    print(f"memory grew by {grown} KB; " + ", ".join(f"{what} {number}" for what, number in sorted(seen.items())))
    return int(bool(failed) or grown > GROWTH_KB_A_SEED * len(seeds) + 4096)


def _fails(seed: int, seen: Counter[str]) -> bool:
    wrongs, happened = play(Schedule(seed), uvloop.run)
    seen.update(happened)
    for wrong in wrongs[:20]:
        print(f"seed {seed}: {wrong}", flush=True)
    return bool(wrongs)


def _memory_kb() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


if __name__ == "__main__":
    sys.exit(main())
