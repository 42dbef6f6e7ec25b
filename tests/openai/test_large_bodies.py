"""Large bodies that break JSON's rules: in slices they become what they become in one go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.http.pace import Pace
from fd_router.openai import large_bodies
from fd_router.openai.large_bodies import UnusualBodyError, as_json, as_json_in_slices

PIECES = st.sampled_from(
    [b"\\ud800", b"\\uDFFF", b"NaN", b"Infinity", b"-Infinity", b"N", b"Inf", b"\\", b"\\u", b"a" * 9,
     b"\xe4\xbd\xa0", b"\xff", b"\xe4\xbd", b'"']
)  # fmt: skip


@given(st.lists(PIECES, max_size=30).map(b"".join), st.integers(1, 20))
async def test_slices_make_no_difference(body: bytes, size: int) -> None:
    before, large_bodies.SLICE = large_bodies.SLICE, size
    try:
        assert await as_json_in_slices(body, Pace().breathe) == as_json(body)
    finally:
        large_bodies.SLICE = before


def test_a_very_large_one_is_not_done_in_one_go() -> None:
    with pytest.raises(UnusualBodyError):
        as_json(b"a" * (large_bodies.VERY_LARGE + 1))
