import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.devtools.engine_model.engine import Engine
from fd_router.devtools.engine_model.prompts import Prompt
from fd_router.devtools.engine_model.runs import EngineSettings, RunState

SETTINGS = EngineSettings(prefill_tokens_per_sec=100, decode_secs=1, cache_tokens=1000, max_running=4)


def prompt(tokens, blocks=(), block_tokens=10):
    return Prompt(tokens, list(blocks), block_tokens)


def test_prefill_then_one_token_a_step():
    engine = Engine(SETTINGS)
    run = engine.submit(prompt(200), 3, 10.0)
    assert engine.next_event_at() == 12.0
    assert engine.advance(11.9) == []
    tokens = engine.advance(100)
    assert [(token.at, token.number, token.is_last) for token in tokens] == [
        (12, 1, False),
        (13, 2, False),
        (14, 3, True),
    ]
    assert (run.prefill_at, run.first_token_at, run.finished_at) == (10, 12, 14)
    assert run.state is RunState.FINISHED
    assert engine.next_event_at() == math.inf
    assert (engine.running, engine.waiting) == (0, 0)


def test_one_token_comes_from_the_prefill_alone():
    engine = Engine(SETTINGS)
    engine.submit(prompt(100), 1, 0)
    assert [(token.at, token.is_last) for token in engine.advance(10)] == [(1, True)]


def test_prefills_are_first_come_first_served():
    engine = Engine(SETTINGS)
    runs = [engine.submit(prompt(tokens), 1, 0) for tokens in (300, 100, 200)]
    assert (engine.running, engine.waiting) == (1, 2)
    engine.advance(100)
    assert [run.first_token_at for run in runs] == [3, 4, 6]


def test_tokens_come_in_the_order_of_time_across_runs():
    engine = Engine(SETTINGS)
    one = engine.submit(prompt(100), 3, 0)
    other = engine.submit(prompt(150), 2, 0)
    tokens = engine.advance(100)
    # The other joins the batch at the step that begins at 3.
    assert [(token.at, token.run) for token in tokens] == [(1, one), (2, one), (2.5, other), (3, one), (4, other)]


def test_a_larger_batch_is_slower():
    engine = Engine(
        EngineSettings(prefill_tokens_per_sec=1e9, decode_secs=1, decode_secs_per_running=0.5, max_running=9)
    )
    alone = engine.submit(prompt(1), 2, 0)
    engine.advance(2)
    assert alone.finished_at == pytest.approx(1.5)
    both = [engine.submit(prompt(1), 3, 10) for _ in range(2)]
    engine.advance(100)
    # The first step has the first alone (1.5 s), the next two have both (2 s each), until the first is done.
    assert both[0].finished_at == pytest.approx(10 + 1.5 + 2, abs=1e-6)
    assert both[1].finished_at == pytest.approx(10 + 1.5 + 2 + 1.5, abs=1e-6)


def test_no_more_than_max_running_at_once():
    engine = Engine(EngineSettings(prefill_tokens_per_sec=100, decode_secs=1, max_running=1))
    first = engine.submit(prompt(100), 3, 0)
    second = engine.submit(prompt(100), 1, 0)
    engine.advance(2.5)
    assert (engine.running, engine.waiting) == (1, 1)
    engine.advance(100)
    assert first.finished_at == 3
    assert (second.prefill_at, second.first_token_at) == (3, 4)


def test_a_prefix_hit_shortens_the_prefill():
    engine = Engine(SETTINGS)
    engine.submit(prompt(25, [1, 2]), 1, 0)
    engine.advance(1)
    again = engine.submit(prompt(35, [1, 2, 3]), 1, 10)
    assert again.cached_tokens == 20
    engine.advance(100)
    assert again.first_token_at == pytest.approx(10.15)


def test_a_hit_is_looked_up_when_the_prefill_begins():
    engine = Engine(SETTINGS)
    engine.submit(prompt(100, range(10)), 1, 0)
    twin = engine.submit(prompt(100, range(10)), 1, 0)
    assert twin.cached_tokens == 0
    engine.advance(1)
    assert twin.cached_tokens == 99  # the last token is always computed


def test_an_evicted_prefix_is_computed_again():
    engine = Engine(EngineSettings(prefill_tokens_per_sec=100, cache_tokens=20))
    engine.submit(prompt(20, [1, 2]), 1, 0)
    engine.submit(prompt(20, [3, 4]), 1, 0)
    engine.advance(10)
    assert engine.submit(prompt(21, [1, 2]), 1, 10).cached_tokens == 0


@pytest.mark.parametrize("at", [0.0, 0.5, 1.5])
def test_abort_frees_the_place_at_once(at):
    engine = Engine(EngineSettings(prefill_tokens_per_sec=100, decode_secs=1, max_running=1))
    run = engine.submit(prompt(100), 10, 0)
    following = engine.submit(prompt(100), 1, 0)
    engine.advance(at)
    assert engine.abort(run, at)
    assert run.state is RunState.ABORTED
    tokens = engine.advance(100)
    assert [token.run for token in tokens] == [following]
    assert following.prefill_at == at
    assert not engine.abort(run, 100)
    assert not engine.abort(following, 100)


def test_an_aborted_waiting_request_never_runs():
    engine = Engine(SETTINGS)
    engine.submit(prompt(100), 1, 0)
    waiting = engine.submit(prompt(100), 1, 0)
    assert engine.abort(waiting, 0)
    assert engine.waiting == 0
    engine.advance(100)
    assert waiting.produced == 0
    assert math.isnan(waiting.first_token_at)


def test_a_late_advance_starts_nothing_before_it_was_submitted():
    engine = Engine(EngineSettings(prefill_tokens_per_sec=100, decode_secs=1, max_running=1))
    engine.submit(prompt(100), 1, 0)
    late = engine.submit(prompt(100), 1, 50)  # nobody has advanced since 0: the first still holds the place
    engine.advance(100)
    assert late.prefill_at == 50
    assert late.first_token_at == 51


def test_zero_decode_time_ends():
    engine = Engine(EngineSettings(prefill_tokens_per_sec=100, decode_secs=0, max_running=4))
    engine.submit(prompt(100), 1000, 0)
    assert len(engine.advance(1)) == 1000


def test_running_tokens_and_repr():
    engine = Engine(SETTINGS)
    run = engine.submit(prompt(100), 5, 0, owner="me")
    assert engine.running_tokens == 100
    engine.advance(2)
    assert engine.running_tokens == 102
    assert run.owner == "me"
    assert repr(run) == "<Run decoding 100 tokens (0 cached), 2/5>"
    assert repr(engine) == "<Engine running=1 waiting=0 <PrefixCache 0 blocks, 0/1000 tokens>>"


def test_at_least_one_token_must_be_wanted():
    with pytest.raises(ValueError, match="at least 1"):
        Engine(SETTINGS).submit(prompt(1), 0, 0)


EVENTS = st.lists(
    st.tuples(st.floats(0, 3), st.integers(1, 500), st.integers(1, 6), st.integers(0, 3), st.booleans()), max_size=25
)


@given(EVENTS, st.integers(1, 3))
def test_whatever_happens_every_request_ends_and_time_goes_forward(events, max_running):
    engine = Engine(
        EngineSettings(prefill_tokens_per_sec=100, decode_secs=0.3, cache_tokens=50, max_running=max_running)
    )
    now, runs, tokens = 0.0, [], []
    for wait, length, wanted, blocks, abort in events:
        now += wait
        tokens += engine.advance(now)
        assert engine.running <= max_running
        runs.append(engine.submit(prompt(length, range(blocks)), wanted, now))
        if abort:
            engine.abort(runs[len(runs) // 2], now)
    tokens += engine.advance(1e9)
    assert [token.at for token in tokens] == sorted(token.at for token in tokens)
    assert (engine.running, engine.waiting) == (0, 0)
    for run in runs:
        assert not run.is_live
        assert run.state is RunState.ABORTED or run.produced == run.max_new_tokens
        assert [token.number for token in tokens if token.run is run] == list(range(1, run.produced + 1))
        assert run.cached_tokens < run.prompt.tokens


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 40), st.integers(1, 30), st.one_of(st.none(), st.integers(0, 90))),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([0.0, 0.2517]),
    st.integers(1, 4),
)
def test_first_and_last_tokens_alone_come_at_the_same_times(arrivals, per_running, max_running):
    # Odd speeds, so that no prefill ends together with a step: which is first would be a matter of rounding.
    settings = EngineSettings(
        prefill_tokens_per_sec=7, decode_secs=0.49937, decode_secs_per_running=per_running, max_running=max_running
    )
    runs = {True: [], False: []}
    for every_token, found in runs.items():
        engine = Engine(settings, every_token=every_token)
        tokens, aborts = [], []
        for at, length, new, abort_after in sorted(arrivals, key=lambda each: each[0]):
            for due, run in sorted(aborts, key=lambda each: each[0]):
                if due <= at:
                    tokens += engine.advance(due)
                    engine.abort(run, due)
            aborts = [each for each in aborts if each[0] > at]
            tokens += engine.advance(at)
            found.append(engine.submit(prompt(length), new, at))
            if abort_after is not None:
                aborts.append((at + abort_after + 0.1, found[-1]))
        tokens += engine.advance(1e6)
        wanted = [token for token in tokens if token.number == 1 or token.is_last]
        found.append([(token.number, token.is_last) for token in wanted])
        if not every_token:
            assert wanted == tokens
    for one, other in zip(runs[True][:-1], runs[False][:-1], strict=True):
        assert one.state is other.state
        assert one.first_token_at == pytest.approx(other.first_token_at, nan_ok=True)
        assert one.finished_at == pytest.approx(other.finished_at, nan_ok=True)
    assert sorted(runs[True][-1]) == sorted(runs[False][-1])
