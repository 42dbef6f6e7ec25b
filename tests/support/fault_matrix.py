"""The fault matrix of disaggregated serving: every fault of either role, streamed or not, the client there or not.

Each case has a router and two instances a role of its own, on one loop, over real sockets. The fault strikes the
pair chosen first; the other two instances are well, so that the right answer to most faults is a good one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from fd_router.devtools.mock.instance import MockInstance
from tests.support.pd_fleet import PdFleet, Streaming, ask

ROLES = ("prefill", "decode")
FAULTS = {
    "refused": "refuse:secs=30",
    "reset before head": "reset_before_head",
    "500": "status:status=500",
    "400": "status:status=400",
    "hang before head": "hang_before_head",
    "cut mid-body": "cut_mid_body",
    "slow": "slow:head_secs=0.3",
}
"""What the matrix calls a fault → what a mock instance calls it."""

TOKENS = 25
"""Of every answer, 10 ms each: a slow prefill has answered before decode is done."""

LEAVERS_TOKENS = 500
"""The answer that a client doesn't wait for must not be over when it leaves, however busy the machine is."""

LIMIT_SECS = 2.0
LEFT_SECS = 0.2
"""How long a leg may stay open when all is over for the client."""

_ACCESS_LINE = "[POST] /v1/chat/completions "
# Decode waits for its prefill: with equal limits either leg could be the one that is found too slow.
PROXY = {"first_byte_timeout_secs": 2 * LIMIT_SECS, "prefill_timeout_secs": LIMIT_SECS}


class Case(NamedTuple):
    """One field of the matrix."""

    role: str
    fault: str
    stream: bool
    leaves: bool

    @property
    def name(self) -> str:
        """Its name in test reports."""
        words = (self.role, self.fault, "stream" if self.stream else "whole", "leaves" if self.leaves else "stays")
        return "-".join(words).replace(" ", "_")


class Outcome(NamedTuple):
    """What came of a case. ``problems`` is empty when all was right."""

    case: Case
    answer: str
    attempts: int
    clean_ms: float
    problems: list[str]


CASES = [Case(*case) for case in itertools.product(ROLES, FAULTS, (True, False), (False, True))]


async def run_case(case: Case) -> Outcome:
    """Play one case."""
    async with PdFleet(proxy=PROXY, mock={"kv_wait_secs": 10.0}) as fleet:
        target = fleet.mocks[f"{case.role}-1"]
        target.set_faults(FAULTS[case.fault])
        await asyncio.sleep(0.01)  # until nobody listens
        client = await ask(fleet.port, stream=case.stream, max_tokens=LEAVERS_TOKENS if case.leaves else TOKENS)
        if case.leaves:
            await _until_struck(case, target)
        else:
            await client.read()
        client.leave()
        left, clean_ms = await _until_clean(fleet)
        await _until_logged(fleet)
        problems = [*left, *_wrong_ending(case, fleet)]
        if not case.leaves:
            problems += _wrong_answer(case, client, fleet)
        return Outcome(case, _said(case, client), _attempts(fleet), clean_ms, problems)


async def run_all(cases: Iterable[Case] = CASES, at_once: int = 8) -> list[Outcome]:
    """Play the cases, some at a time; return their outcomes in order."""
    places = asyncio.Semaphore(at_once)

    async def play(case: Case) -> Outcome:
        async with places:
            try:
                return await run_case(case)
            except (OSError, TimeoutError, RuntimeError) as error:
                return Outcome(case, "none", 0, 0.0, [f"{type(error).__name__}: {error}"])

    return await asyncio.gather(*map(play, cases))


async def _until_struck(case: Case, target: MockInstance) -> None:
    """Wait until the client has a reason to leave: the fault has struck and its consequences are under way."""
    for _ in range(100):
        if case.fault == "refused" or target.state()["struck"]:
            break
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)


async def _until_clean(fleet: PdFleet) -> tuple[list[str], float]:
    """Return what is left after ``LEFT_SECS``, and the milliseconds until nothing was.

    Counted in naps: what a busy machine adds to them isn't the router's fault.
    """
    start, nap = time.monotonic(), 0.01
    left = await fleet.leftovers()
    for _ in range(round(LEFT_SECS / nap)):
        if not left:
            break
        await asyncio.sleep(nap)
        left = await fleet.leftovers()
    return left, (time.monotonic() - start) * 1000


async def _until_logged(fleet: PdFleet) -> None:
    """Wait for the access line: the log writes in batches."""
    for _ in range(100):
        if _ACCESS_LINE in fleet.log:
            return
        await asyncio.sleep(0.01)


def _attempts(fleet: PdFleet) -> int:
    """Return how many pairs were chosen."""
    return fleet.log.count("select worker (decode)")


def _wrong_ending(case: Case, fleet: PdFleet) -> list[str]:
    problems, log = [], fleet.log
    if log.count(_ACCESS_LINE) != 1:
        problems.append("not exactly one access line")
    for name, mock in fleet.mocks.items():
        state = mock.state()
        problems += [f"{name} {key} {state[key]}" for key in ("duplicates", "refused_pairs") if state[key]]
    if case.leaves and case.fault not in {"400", "cut mid-body"} and "outcome=client_gone" not in log:
        problems.append("the log knows nothing of the client's leaving")
    return problems


def _wrong_answer(case: Case, client: Streaming, fleet: PdFleet) -> list[str]:
    if case.fault == "400":
        return _wrong_refusal(client, fleet)
    if case.fault == "cut mid-body" and case.role == "decode" and case.stream:
        return _wrong_break(client, fleet)
    problems = []
    if client.status != 200 or not client.is_whole:
        problems.append(f"answered {client.status} {client.body[:200]!r} {client.error or ''}")
    elif _tokens(client.body, stream=case.stream) != TOKENS:
        problems.append(f"{_tokens(client.body, stream=case.stream)} tokens instead of {TOKENS}")
    return problems + _wrong_pair(case, client, fleet)


def _wrong_pair(case: Case, client: Streaming, fleet: PdFleet) -> list[str]:
    """Check who answered: a spare instance, unless the fault was one to live with."""
    attempts = _attempts(fleet)
    told = client.headers.get(f"x-router-{case.role}-url", "")
    spare, guilty = fleet.mocks[f"{case.role}-2"].url, fleet.mocks[f"{case.role}-1"].url
    if case.fault == "slow" or (case.fault == "cut mid-body" and case.role == "prefill"):
        # A prefill that is cut off has handed its cache over: decode may have been faster, or not.
        if attempts > 1 and case.fault == "slow":
            return [f"{attempts} attempts for an instance that is merely slow"]
        return [] if told in {spare, guilty} else [f"the answer names {told!r}"]
    problems = [] if told == spare else [f"the answer names {told!r} instead of {spare}"]
    if attempts != 2:
        problems.append(f"{attempts} attempts instead of 2")
    if f"{case.role.capitalize()} request failed for {guilty}" not in fleet.log:
        problems.append("the log doesn't name the guilty instance")
    return problems


def _wrong_refusal(client: Streaming, fleet: PdFleet) -> list[str]:
    """Check a 400: as the instance said it, once, without a retry."""
    problems = []
    if client.status != 400 or b'"injected_fault"' not in client.body or not client.is_whole:
        problems.append(f"answered {client.status} {client.body[:200]!r}")
    received = {name: _completions(mock) for name, mock in fleet.mocks.items()}
    if any(number > (name[-1] == "1") for name, number in received.items()) or _attempts(fleet) != 1:
        problems.append(f"tried again: {received}")
    return problems


def _wrong_break(client: Streaming, fleet: PdFleet) -> list[str]:
    """Check a stream that broke after its first bytes: the client sees it, the log says whose fault it was."""
    problems = []
    if client.is_whole or b"[DONE]" in client.body:
        problems.append("the client can't see that its stream broke off")
    if not 1 <= _tokens(client.body, stream=True) < TOKENS:
        problems.append(f"{_tokens(client.body, stream=True)} tokens came")
    if f"scanner error: {fleet.mocks['decode-1'].url}" not in fleet.log:
        problems.append("the log doesn't name the guilty instance")
    if _attempts(fleet) != 1:
        problems.append("tried again after bytes had gone to the client")
    return problems


def _completions(mock: MockInstance) -> int:
    return sum(entry["path"].endswith("completions") for entry in mock.requests())


def _tokens(body: bytes, *, stream: bool) -> int:
    if stream:
        return max(0, body.count(b'"content":"') - 1)  # without the role's event
    usage: dict[str, Any] = json.loads(body)["usage"]
    return int(usage["completion_tokens"])


def _said(case: Case, client: Streaming) -> str:
    if case.leaves:
        return "left"
    if not client.status:
        return "nothing"
    return f"{client.status}{'' if client.is_whole else ', then broke off'}"
