import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.devtools.traces.trace import TraceError, TraceRequest, at_speed, read_trace, speed_for_load
from fd_router.devtools.traces.trace_text import text_of

GOOD = '{"timestamp": 27482, "input_length": 600, "output_length": 50, "hash_ids": [1, 2]}'


def write(tmp_path, *lines):
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(lines))
    return str(path)


def request(tokens, ids=(), *, number=1, at=0.0, size=512):
    return TraceRequest(number, at, tokens, 1, list(ids), size)


def test_reads_requests_from_the_first_one_on(tmp_path):
    later = GOOD.replace("27482", "30482").replace("[1, 2]", "[1]")
    first, second = read_trace(write(tmp_path, GOOD, "", later))
    assert first == TraceRequest(1, 0.0, 600, 50, [1, 2], 512)
    assert (second.number, second.at, second.hash_ids) == (3, 3.0, [1])
    assert first.prompt.tokens == 600
    assert list(first.prompt.blocks) == [1, 2]


def test_orders_by_time_and_stops_at_the_limit(tmp_path):
    path = write(tmp_path, GOOD, GOOD.replace("27482", "482"), "nonsense")
    assert [each.number for each in read_trace(path, limit=2)] == [2, 1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nonsense", "malformed"),
        ('{"timestamp": 1}', "input_length"),
        (GOOD.replace("600", "0"), "$.input_length"),
        (GOOD.replace("27482", "-1"), "$.timestamp"),
        (GOOD.replace("[1, 2]", '["a"]'), "$.hash_ids[0]"),
        (GOOD.replace("[1, 2]", "[1, 2, 3]"), "--block-tokens"),
        ("[]", "object"),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_a_remedy(tmp_path, line, reason):
    with pytest.raises(TraceError) as caught:
        read_trace(write(tmp_path, GOOD, line))
    message = str(caught.value)
    assert "trace.jsonl:2: " in message
    assert reason in message


def test_an_empty_trace_is_none(tmp_path):
    with pytest.raises(TraceError, match="no requests; a trace has a line like"):
        read_trace(write(tmp_path, ""))


def test_speed_and_load():
    requests = [request(1000), request(3000, at=10)]
    assert [each.at for each in at_speed(requests, 4)] == [0, 2.5]
    # 4,000 tokens in 10 s are 400/s; half of 2,000/s needs 2.5 times that.
    assert speed_for_load(requests, 0.5, 2000) == 2.5
    with pytest.raises(TraceError, match="at one time"):
        speed_for_load([request(1)], 0.5, 2000)


def test_a_token_is_four_characters():
    assert len(text_of(request(700, [1, 2]))) == 700 * 4 - 1
    assert text_of(request(3, [1])).count(" ") == 2


def test_what_the_trace_does_not_name_is_shared_with_nobody():
    one, other = (text_of(request(1030, [7], number=number)) for number in (1, 2))
    assert one[:2048] == other[:2048]
    assert one[2048:2100] != other[2048:2100]
    assert len(one) == 1030 * 4 - 1


@given(st.lists(st.integers(0, 40), max_size=5), st.lists(st.integers(0, 40), max_size=5))
def test_texts_are_equal_as_far_as_the_ids_are(one, other):
    common = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    texts = [
        text_of(request(16 * len(ids) + 1, ids, number=number, size=16)) for number, ids in enumerate((one, other))
    ]
    assert texts[0][: common * 64] == texts[1][: common * 64]
    if common < min(len(one), len(other)):
        assert texts[0][common * 64 : common * 64 + 32] != texts[1][common * 64 : common * 64 + 32]
