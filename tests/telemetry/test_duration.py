from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.telemetry.duration import go_duration, go_duration_ns

UNITS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "µs": 10**3, "ns": 1}
PART = re.compile(r"(\d+(?:\.\d+)?)(h|m(?!s)|s|ms|[µu]s|ns)")
NANOSECONDS = st.one_of(
    st.integers(0, 10**3),
    st.integers(0, 10**6),
    st.integers(0, 10**9),
    st.integers(0, 4 * 10**12),
    st.integers(0, 10**17),
)


def naive_go_duration(ns: int) -> str:
    """What Go's Duration.String documents, with exact fractions and no speed."""

    def number(value: Fraction) -> str:
        whole, rest = divmod(value, 1)
        digits = ""
        while rest:
            digit, rest = divmod(rest * 10, 1)
            digits += str(digit)
        return f"{whole}.{digits}" if digits else str(whole)

    if ns == 0:
        return "0s"
    for unit in ("ns", "µs", "ms"):
        if ns < UNITS[unit] * 1000:
            return number(Fraction(ns, UNITS[unit])) + unit
    hours, rest = divmod(ns, UNITS["h"])
    minutes, rest = divmod(rest, UNITS["m"])
    text = number(Fraction(rest, UNITS["s"])) + "s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"), (1, "1ns"), (999, "999ns"), (1_000, "1µs"), (500_000, "500µs"), (1_100, "1.1µs"),
        (2_798_235, "2.798235ms"), (150_500_000, "150.5ms"), (1_000_000, "1ms"), (10_000_000, "10ms"),
        (999_999_999, "999.999999ms"), (1_000_000_000, "1s"), (1_500_000_000, "1.5s"), (1_000_000_001, "1.000000001s"),
        (60_000_000_000, "1m0s"), (90_500_000_000, "1m30.5s"), (3_600_000_000_000, "1h0m0s"),
        (3_661_000_000_000, "1h1m1s"), (90_000_000_000, "1m30s"),
    ],
)  # fmt: skip
def test_is_written_as_go_writes_it(ns: int, text: str) -> None:
    assert go_duration_ns(ns) == text
    assert go_duration(ns / 1e9) == text


@given(NANOSECONDS)
def test_agrees_with_the_definition(ns: int) -> None:
    assert go_duration_ns(ns) == naive_go_duration(ns)


@given(st.integers(0, 10**13))
def test_seconds_are_rounded_to_the_nanosecond(ns: int) -> None:
    assert go_duration(ns / 1e9) == naive_go_duration(ns)


@given(NANOSECONDS)
def test_the_log_scripts_can_add_its_parts_up(ns: int) -> None:
    parts = PART.findall(go_duration_ns(ns))
    assert "".join(number + unit for number, unit in parts) == go_duration_ns(ns)
    assert sum(Fraction(number) * UNITS[unit] for number, unit in parts) == ns


def test_a_negative_duration_has_a_sign() -> None:
    assert go_duration(-1.5) == "-1.5s"
