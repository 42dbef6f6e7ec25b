"""What a router, nginx and the Rust routers make of the same hostile requests, in one table.

``python benchmarks/hostile.py [--peers DIRECTORY] [--all]``. The requests are those of ``tests/hostile/requests.yaml``,
with the ``Content-Type`` that some of the routers want in the first of a connection.
A cell says how the client was answered, and how many requests the instance got: ``400``, ``200 →1``, ``200 200 →2``;
``-`` stands for no answer, ``×`` for a connection closed without one, ``+`` for one that stays open. Red: a request or
a header got through that the client hid in another one (or that another reading of the same bytes finds).
Exits with 1 unless fd-router does in all cases what the corpus expects.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE.parent)]

from contenders import OURS, Contender, contenders  # noqa: E402
from processes import Program, answers, make_console, post, wait_until  # noqa: E402
from tests.hostile.client import Outcome, listen_in  # noqa: E402
from tests.hostile.corpus import MAX_BODY_MB, MAX_HEAD_KB, RequestCase, request_cases  # noqa: E402
from tests.hostile.recorder import Received, Recorder  # noqa: E402

QUIET_SECS = 0.15
START_SECS = 60.0
READY = post("/v1/completions", b'{"model":"m","prompt":"x"}')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="the bin directory of a virtual environment with the Rust routers")
    parser.add_argument("--all", action="store_true", help="show the cases in which all do the same, too")
    arguments = parser.parse_args()
    console = make_console()
    cases = [case for case in request_cases() if not case.then]
    seen: dict[str, list[str]] = {}
    wrong: list[str] = []
    with Recorder() as recorder, tempfile.TemporaryDirectory(prefix="hostile-") as directory:
        for contender in contenders(Path(directory), [recorder.port], ["request_num"], "round_robin", arguments.peers):
            if contender.family == OURS:
                set_limits(Path(contender.command[-1]))
            with contextlib.ExitStack() as stack:
                stack.enter_context(Program(contender.name, contender.command, Path(directory)))
                if not wait_until(lambda: answers(contender.port, READY), START_SECS):  # noqa: B023
                    console.print(f"{contender.name} doesn't serve: left out")
                    continue
                seen[contender.name] = [play(contender, recorder, case, wrong) for case in cases]
    console.print(as_table(cases, seen, everything=arguments.all))
    for line in wrong:
        console.print(f"[red]{escape(line)}[/]")
    for name, cells in seen.items():
        console.print(f"{name}: {sum('red' in cell for cell in cells)} of {len(cells)} let something hidden through")
    return 1 if wrong or OURS not in seen else 0


def set_limits(path: Path) -> None:
    """Give fd-router's configuration the limits that the corpus is written for."""
    config = json.loads(path.read_text())
    config["proxy"] = {"max-head-kb": MAX_HEAD_KB, "max-body-mb": MAX_BODY_MB}
    path.write_text(json.dumps(config))


def play(contender: Contender, recorder: Recorder, case: RequestCase, wrong: list[str]) -> str:
    """Send one case and return its cell. What fd-router does otherwise than expected goes to ``wrong``."""
    recorder.take()
    data = case.send.replace(b"Host: x\r\n", b"Host: x\r\nContent-Type: application/json\r\n", 1)
    outcome = listen_in(contender.port, data, QUIET_SECS)
    received = [each for each in recorder.take() if is_of_the_case(each)]
    cell = "-" if not outcome.answers else " ".join(map(str, outcome.answers))
    cell += f" →{len(received)}" if received else ""
    cell += "" if outcome.closes or 200 in outcome.answers else "+"
    if contender.family == OURS and (outcome.answers, outcome.closes) != (case.answers, case.closes):
        wrong.append(f"{case.name}: {outcome} instead of {Outcome(case.answers, case.closes)}")
    return f"[red]{escape(cell)}[/]" if hides_something(received, case) else escape(cell)


def is_of_the_case(received: Received) -> bool:
    """Whether it isn't a health check of the router's."""
    return bool(received.error) or received.target.startswith(b"/v1/completions") or b"hidden" in received.target


def hides_something(received: list[Received], case: RequestCase) -> bool:
    """Whether the instance got a hidden request or header that the case's expected reading doesn't contain."""
    expected = b"".join(case.upstream)
    for each in received:
        if each.error or each.values(b"x-injected"):
            return True
        if b"hidden" in each.target and b"hidden" not in expected:
            return True
    return False


def as_table(cases: list[RequestCase], seen: dict[str, list[str]], *, everything: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("request")
    for name in seen:
        table.add_column(name)
    alike = 0
    for number, case in enumerate(cases):
        cells = [column[number] for column in seen.values()]
        if len(set(cells)) == 1 and not everything:
            alike += 1
        else:
            table.add_row(escape(case.name), *cells)
    if alike:
        table.add_row(f"[dim]{alike} more, in which all do the same[/]")
    return table


if __name__ == "__main__":
    sys.exit(main())
