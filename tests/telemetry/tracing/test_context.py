"""Trace contexts: what a client says is followed, what can't be read counts as nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.telemetry.tracing.context import Sampler, TraceContext

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def sampler(share: float = 0.0) -> Sampler:
    return Sampler(share, random.Random(1))


@pytest.mark.parametrize("flags", ["01", "03", "ff"])
def test_a_client_that_traces_has_its_trace_continued(flags: str) -> None:
    context = sampler().begin(f"00-{TRACE}-{PARENT}-{flags}".encode())
    assert context is not None
    assert (context.trace_id, context.parent_id) == (int(TRACE, 16), int(PARENT, 16))
    assert context.span_id not in {0, context.parent_id}
    assert context.traceparent == b"00-%b-%016x-01" % (TRACE.encode(), context.span_id)


def test_a_client_that_does_not_trace_is_followed_in_that() -> None:
    assert sampler(1.0).begin(f"00-{TRACE}-{PARENT}-00".encode()) is None
    assert sampler(1.0).begin(f"cc-{TRACE}-{PARENT}-01-more".encode()) is not None  # of a version to come


@pytest.mark.parametrize(
    "header",
    [
        "", "00", f"ff-{TRACE}-{PARENT}-01", f"00-{TRACE.upper()}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{PARENT}", f" 00-{TRACE}-{PARENT}-01",
    ],
)  # fmt: skip
def test_what_can_not_be_read_counts_as_nothing(header: str) -> None:
    assert sampler(0.0).begin(header.encode()) is None
    context = sampler(1.0).begin(header.encode())
    assert context is not None
    assert context.parent_id == 0


def test_a_share_of_the_others_is_traced() -> None:
    one = sampler(0.25)
    traced = [context for _ in range(4000) if (context := one.begin(b"")) is not None]
    assert 900 < len(traced) < 1100
    assert len({context.trace_id for context in traced}) == len(traced)


@given(st.binary(max_size=80))
def test_no_header_is_too_odd(header: bytes) -> None:
    sampler(0.5).begin(header)


def test_what_an_instance_is_told_can_be_read_again() -> None:
    context = TraceContext(1, 2)
    again = sampler().begin(context.traceparent)
    assert again is not None
    assert (again.trace_id, again.parent_id) == (1, 2)
