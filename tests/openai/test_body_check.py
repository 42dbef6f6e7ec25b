"""The check of large bodies: what would hold the loop is refused, what any client sends is not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.errors import BadRequestError
from fd_router.http.pace import Pace
from fd_router.openai import body_check
from fd_router.openai.body_check import CONTAINER, MAX_ESCAPES, MAX_WEIGHT, STRING, check_body

MB = 1 << 20


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt": "%b"}' % (b"word, [word] {word} " * (MB // 4)),
        b'{"prompt": "%b"}' % ("你好, " * MB).encode(),
        b'{"messages": [{"content": [{"image_url": {"url": "data:%b"}}]}]}' % (b"QUJD" * (4 * MB)),
        b'{"prompt": "%b"}' % (b'a line of text with \\"quotes\\"\\n' * 150_000),
        b'{"prompt": [%b1]}' % (b"12345," * (MAX_WEIGHT // 2)),
        b'{"messages": [%b{}]}' % (b'{"content": "a"},' * 20_000),
        b"--form\r\n" + b"[{,\\" * MB,
        b"",
    ],
)
async def test_what_clients_send_passes(body: bytes) -> None:
    await check_body(body, Pace().breathe)


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt": [%b1]}' % (b"1," * (MAX_WEIGHT + 1)),
        b'{"a": [%b0]}' % (b"[]," * (MAX_WEIGHT // CONTAINER)),
        b'{"a": %b' % (b"[" * (MAX_WEIGHT // CONTAINER + 1)),
        b'{"messages": [%b{}]}' % (b'{"content":"a"},' * (MAX_WEIGHT // CONTAINER)),
        b'{"prompt": ["%ba"]}' % (b'a","' * MAX_WEIGHT),
        b'  {%b"b":1}' % (b'"a":1,' * MAX_WEIGHT),
        b'{"prompt": "%b"}' % (b"\\n" * (MAX_ESCAPES + 1)),
        b'{"prompt": "%b"}' % (b"\\u4f60" * (MAX_ESCAPES + 1)),
    ],
    ids=["numbers", "lists", "open lists", "messages", "strings", "members", "escapes", "Unicode escapes"],
)
async def test_what_takes_a_decoder_too_long_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequestError) as caught:
        await check_body(body, Pace().breathe)
    assert (caught.value.status, caught.value.code) == (413, "body_too_complex")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('ab"\\\n,[{é你😀'), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('k"\\,', max_size=3), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


def weight(value: object, *, text: int = STRING) -> int:
    """Weigh as the check does, but by what a decoder found."""
    if isinstance(value, str):
        return text
    if isinstance(value, dict):
        return CONTAINER + max(0, len(value) - 1) + sum(text + weight(item) for item in value.values())
    if isinstance(value, list):
        return CONTAINER + max(0, len(value) - 1) + sum(weight(item) for item in value)
    return 0


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.booleans(), st.integers(1, 40))
def test_it_weighs_what_stands_outside_of_strings(value: dict[str, object], ascii_only: bool, slice_size: int) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    before, body_check.SLICE = body_check.SLICE, slice_size
    try:
        scan = body_check._Scan(body, lambda *_: None)
        while not scan.is_over:
            scan.look_on()
    finally:
        body_check.SLICE = before
    assert scan._weight == weight(value)
    assert not scan._in_string
