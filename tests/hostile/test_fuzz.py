"""The corpora, mutated and cut at random; any JSON. ``make fuzz`` goes on for longer, guided by coverage."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile.corpus import answer_cases, request_cases
from tests.hostile.properties import check_answers, check_body, check_requests, read, summary

pytestmark = pytest.mark.unmeasured  # all of it is covered elsewhere; here it would only take time

SMALL = 2000
REQUESTS = [case.send for case in request_cases() if len(case.send) < SMALL]
ANSWERS = [case.send + case.later for case in answer_cases() if len(case.send) < SMALL]
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"0\r\n\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b";", b",",
    b"HTTP/1.0", b"HTTP/1.1 100 C\r\n\r\n", b"\xff", b"1", b"Expect: 100-continue\r\n", b"Host: y\r\n", b"chunked",
]  # fmt: skip
cuts = st.lists(st.integers(0, 2 * SMALL), max_size=4)
edits = st.lists(
    st.tuples(st.integers(0, 2 * SMALL), st.integers(0, 12), st.one_of(st.sampled_from(TOKENS), st.binary(max_size=3))),
    max_size=3,
)


def mutate(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Put bytes in the place of others."""
    for place, length, new in changes:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + length :]
    return data


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut at some places."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(ends)]


@pytest.mark.parametrize("data", REQUESTS)
def test_a_request_of_the_corpus_means_the_same_in_pieces(data: bytes) -> None:
    assert summary(read([data[i : i + 1] for i in range(len(data))])) == summary(read([data]))


@settings(max_examples=400)
@given(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3), edits, cuts)
def test_mutated_requests(parts: list[bytes], changes: list[tuple[int, int, bytes]], places: list[int]) -> None:
    pieces = cut(mutate(b"".join(parts), changes), places)
    check_requests(pieces)
    assert summary(read(pieces)) == summary(read([b"".join(pieces)]))


@settings(max_examples=400)
@given(st.sampled_from(ANSWERS), edits, cuts, st.booleans())
def test_mutated_answers(data: bytes, changes: list[tuple[int, int, bytes]], places: list[int], end: bool) -> None:
    check_answers(cut(mutate(data, changes), places), end=end)


names = st.sampled_from(
    ['"request_id"', '"stream"', '"disaggregate_info"', '"prompt"', '"a"', '"\\u0072equest_id"', '"session_id"']
)
values = st.sampled_from(
    ['""', '"x"', "null", "1", "-0.0", "1e400", "NaN", "[]", "{}", '{"request_id":1}', "[1,{}]", '"\\ud800"', '"}"',
     "123456789012345678901234567890", '"é"', "true"]
)  # fmt: skip
spaces = st.sampled_from(["", " ", "\n\t"])
member = st.builds(
    lambda a, name, b, c, value, d: f"{a}{name}{b}:{c}{value}{d}", spaces, names, spaces, spaces, values, spaces
)
objects = st.builds(lambda a, found, b: f"{a}{{{','.join(found)}}}{b}", spaces, st.lists(member, max_size=5), spaces)


@settings(max_examples=400)
@given(objects, edits)
def test_bodies(text: str, changes: list[tuple[int, int, bytes]]) -> None:
    check_body(text.encode())
    check_body(mutate(text.encode(), changes[:1]))
