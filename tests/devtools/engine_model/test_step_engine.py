import math
import random

import pytest

from fd_router.devtools.engine_model.prompts import Prompt
from fd_router.devtools.engine_model.runs import EngineSettings, RunState
from fd_router.devtools.engine_model.step_engine import StepEngine

SETTINGS = EngineSettings(
    prefill_tokens_per_sec=100, decode_secs=1, cache_tokens=1000, max_running=4, chunk_tokens=200, kv_tokens=0
)


def prompt(tokens, blocks=(), block_tokens=10):
    return Prompt(tokens, list(blocks), block_tokens)


def with_memory(tokens, **other):
    return EngineSettings(
        prefill_tokens_per_sec=1000, decode_secs=1, max_running=8, chunk_tokens=1000, kv_tokens=tokens, **other
    )


def test_alone_it_is_as_fast_as_the_plain_engine():
    engine = StepEngine(SETTINGS)
    run = engine.submit(prompt(200), 3, 10.0)
    assert [(token.at, token.number) for token in engine.advance(100)] == [(12, 1), (13, 2), (14, 3)]
    assert (run.prefill_at, run.first_token_at, run.finished_at) == (10, 12, 14)
    assert engine.next_event_at() == math.inf


def test_a_chunk_slows_those_that_decode():
    engine = StepEngine(SETTINGS)
    one = engine.submit(prompt(100), 4, 0)
    engine.submit(prompt(300), 1, 0.5)
    times = [token.at for token in engine.advance(100) if token.run is one]
    # Its first token at 1; then a step with 199 tokens of the other's prompt, one with the rest, one of a second.
    assert times == [1, pytest.approx(2.99), pytest.approx(4.0), pytest.approx(5.0)]


def test_short_prompts_share_a_step():
    engine = StepEngine(SETTINGS)
    runs = [engine.submit(prompt(tokens), 1, 0) for tokens in (100, 60, 50)]
    engine.advance(100)
    # The first was begun when there was no other; the step behind it has both.
    assert [run.first_token_at for run in runs] == [1, pytest.approx(2.1), pytest.approx(2.1)]


def test_slots_are_not_exceeded():
    engine = StepEngine(SETTINGS)
    for _ in range(6):
        engine.submit(prompt(10), 50, 0)
    engine.advance(10)
    assert (engine.running, engine.waiting) == (4, 2)


def test_without_memory_for_more_tokens_the_last_one_is_preempted_and_ends_later():
    engine = StepEngine(with_memory(100))
    first, second = (engine.submit(prompt(40), 30, 0) for _ in range(2))
    engine.advance(1000)
    assert engine.preempted > 0
    assert first.finished_at < second.finished_at
    assert (first.produced, second.produced) == (30, 30)
    assert (first.state, second.state) == (RunState.FINISHED, RunState.FINISHED)
    assert engine.cache.free == 100


def test_a_prompt_waits_for_memory():
    engine = StepEngine(with_memory(100))
    engine.submit(prompt(60), 10, 0)
    late = engine.submit(prompt(60), 1, 0.01)
    engine.advance(5)
    assert (engine.running, engine.waiting) == (1, 1)
    engine.advance(100)
    assert late.first_token_at > 9


def test_an_aborted_request_gives_back_what_it_had():
    engine = StepEngine(with_memory(1000))
    runs = [engine.submit(prompt(100), 50, 0) for _ in range(3)]
    engine.advance(2)
    assert [engine.abort(run, 2.5) for run in runs] == [True, True, True]
    assert not engine.abort(runs[0], 2.6)
    engine.advance(10)
    assert (engine.running, engine.waiting, engine.cache.free) == (0, 0, 1000)


def test_one_prefilled_elsewhere_has_its_first_token_at_once():
    engine = StepEngine(SETTINGS)
    run = engine.submit(prompt(500), 2, 1.0, prefilled=100)
    engine.advance(1.0)
    assert (run.first_token_at, run.cached_tokens) == (1.0, 100)


@pytest.mark.parametrize("kv_tokens", [0, 400])
@pytest.mark.parametrize("seed", range(5))
def test_steps_taken_in_one_give_the_same_times(seed, kv_tokens):
    settings = EngineSettings(500, 0.01, 0.001, 200, 5, chunk_tokens=64, kv_tokens=kv_tokens)
    ends = []
    for every_token in (True, False):
        rng = random.Random(seed)
        engine, at, runs = StepEngine(settings, every_token=every_token), 0.0, []
        for _ in range(60):
            at += rng.expovariate(5)
            engine.advance(at)
            first = rng.randrange(3) * 10
            blocks = list(range(first, first + rng.randrange(6)))
            runs.append(
                engine.submit(prompt(len(blocks) * 10 + rng.randrange(1, 10), blocks), rng.randrange(1, 60), at)
            )
        engine.advance(1e6)
        ends.append([(run.first_token_at, run.finished_at, run.cached_tokens) for run in runs])
    for one, other in zip(*ends, strict=True):
        assert one == pytest.approx(other)
