"""The recorder: time, chance and names, as policies and readers of recordings see them."""

from __future__ import annotations

import itertools
import json
import random

from fd_router.scheduling.recording import events
from fd_router.scheduling.recording.key_mask import KeyMask
from fd_router.scheduling.recording.recorder import Recorder


def make(secret=bytes(32)):
    lines, times = [], iter(range(1, 1000))
    return Recorder(lambda: float(next(times)), lines.append, secret, 16), lines


def test_time_stands_still_within_a_step():
    recorder, _ = make()
    assert (recorder.clock(), recorder.clock()) == (1.0, 2.0)
    with recorder as now:
        with recorder as inner:
            assert now == inner == recorder.clock() == 3.0
        assert recorder.clock() == 3.0
    assert recorder.clock() == 4.0


def test_all_chance_comes_down_to_the_draws_that_are_kept():
    recorder, _ = make()
    with recorder:
        drawn = [recorder.random.random(), recorder.random.randrange(10), recorder.random.choice("abc")]
    assert recorder.draws[0] == drawn[0]
    assert len(recorder.draws) >= 3
    kept = list(recorder.draws)
    recorder.random.random()  # of nobody's decision
    assert recorder.draws == kept


def test_once_closed_nothing_is_written():
    recorder, lines = make()
    recorder.write(events.Held(1))
    recorder.is_open = False
    recorder.write(events.Held(2))
    assert [json.loads(line) for line in lines] == [{"event": "held", "request": 1}]


def test_names_tell_nothing_but_who_is_equal():
    one, other = make(random.Random(1).randbytes(32))[0], make(random.Random(2).randbytes(32))[0]
    assert one.session("alice") == one.session("alice") != one.session("bob")
    assert one.session("alice") != other.session("alice")
    assert one.session("") == ""
    assert [one.instance(url) for url in ("http://a", "http://b", "http://a")] == [0, 1, 0]


def test_a_mask_keeps_keys_apart_and_is_another_one_under_another_secret():
    keys = b"".join(number.to_bytes(8, "little") for number in range(10_000))
    one, other = KeyMask(random.Random(1).randbytes(32))(keys), KeyMask(random.Random(2).randbytes(32))(keys)
    assert len(set(one)) == len(one)
    assert not set(one) & set(other)
    assert max(one) < 1 << 48
    bits = sum((a ^ b).bit_count() for a, b in itertools.pairwise(one)) / (len(one) - 1)
    assert 23 < bits < 25  # half of them: neighbours can't be told from strangers
