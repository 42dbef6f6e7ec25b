"""Run the router before real engines: ``make engines``, or ``python benchmarks/engines/run.py [SCENARIO …]``.

vLLM for the CPU (``--folder``: where it is, or is installed) serves a model of two layers with random weights. Not a
part of CI: minutes, and gigabytes. Prints a line for each finding; exits with 1 if one doesn't hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from anthropic_sdk import anthropic_sdk
from bench import ROOT, Bench, Finding
from faults import faults
from install import install
from load_tools import load_tools
from openai_sdk import openai_sdk
from pairs import pairs
from prefix_hits import prefix_hits
from smoke import smoke
from streams import streams
from told_cache import told_cache

SCENARIOS: dict[str, Callable[[Bench], Iterator[Finding]]] = {
    "smoke": smoke,
    "faults": faults,
    "pairs": pairs,
    "openai-sdk": openai_sdk,
    "anthropic-sdk": anthropic_sdk,
    "load-tools": load_tools,
    "streams": streams,
    "prefix-hits": prefix_hits,
    "told-cache": told_cache,
}
"""All there are, in the order in which they run. Each starts what it needs; the two plain servers are shared."""


def play(name: str, bench: Bench) -> bool:
    """Run one scenario, print what it finds; say whether all of it holds."""
    began = time.monotonic()
    good = True
    try:
        for finding in SCENARIOS[name](bench):
            good &= finding.holds
            seen = f": {finding.seen}" if finding.seen else ""
            print(f"  {'holds' if finding.holds else 'FAILS'}  {finding.what}{seen}", flush=True)
    except Exception as error:  # noqa: BLE001 — whatever a scenario meets is a finding, and the next one is run
        good = False
        print(f"  FAILS  {error!r}", flush=True)
    print(f"{name}: {'holds' if good else 'FAILS'} ({time.monotonic() - began:.0f} s)", flush=True)
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", choices=[[], *SCENARIOS], help="which ones; all without any")
    parser.add_argument("--folder", type=Path, default=ROOT / ".engines", help="vLLM and the model (%(default)s)")
    parser.add_argument("--output", type=Path, help="a folder for what the programs say; kept")
    parser.add_argument("--ports", type=int, nargs=2, default=[], help="two plain servers that run there already")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    install(folder)
    with tempfile.TemporaryDirectory() as temporary:
        output = arguments.output or Path(temporary)
        output.mkdir(parents=True, exist_ok=True)
        with Bench(folder, output.resolve(), arguments.ports) as bench:
            failed = [name for name in arguments.scenarios or SCENARIOS if not play(name, bench)]
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
