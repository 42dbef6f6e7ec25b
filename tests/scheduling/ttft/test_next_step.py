"""An engine's next step: who waits for it, and whether engines share steps, in worked examples."""

from __future__ import annotations

import pytest

from fd_router.scheduling.ttft.next_step import MEMORY, STEP, NextStep, StepSharing


@pytest.fixture
def sharing() -> StepSharing:
    return StepSharing()


@pytest.fixture
def step(sharing: StepSharing) -> NextStep:
    return NextStep(sharing)


def test_all_that_fit_wait_for_it(step: NextStep) -> None:
    assert step.held_up == 0
    for count in range(1, 5):
        step.join(2000)
        assert step.held_up == count
    assert repr(step) == "<NextStep of 4 prompts, 8000 tokens>"


def test_one_that_does_not_fit_ends_in_the_step_after(step: NextStep) -> None:
    for _ in range(4):
        step.join(2000)
    step.join(2000)  # with the others the step is full, so they don't wait for one more
    assert step.held_up == 1
    assert repr(step) == f"<NextStep of 1 prompts, {10_000 - STEP} tokens>"
    step.join(3 * STEP)
    assert step.held_up == 1


def test_one_that_leaves_is_not_held_up(step: NextStep) -> None:
    for _ in range(3):
        step.join(100)
    step.leave(3)  # another one is being computed
    assert step.held_up == 2
    step.leave(1)
    assert step.held_up == 0
    step.leave(0)
    step.join(STEP)  # there is all the room
    assert step.held_up == 1
    step.join(100)
    assert step.held_up == 1


def test_when_it_begins_nobody_waits_for_it(step: NextStep) -> None:
    step.join(1000)
    step.join(1000)
    step.begin(STEP + 1)  # more than one step's are left: these aren't in it
    assert step.held_up == 2
    step.begin(2000)
    assert step.held_up == 0
    step.join(500)
    assert step.held_up == 1


def test_first_tokens_one_by_one_tell_that_steps_are_not_shared(sharing: StepSharing, step: NextStep) -> None:
    for number in range(int(MEMORY) * 5):
        step.on_first_token(100, 0.0, float(number), is_new=True)
    assert sharing.share < 0.01
    step.join(100)
    assert step.held_up == sharing.share
    assert repr(sharing) == "<StepSharing 0.00>"


def test_first_tokens_that_come_together_tell_that_they_are(sharing: StepSharing, step: NextStep) -> None:
    sharing.share = 0.0
    step.on_first_token(100, 0.0, 1.0, is_new=True)
    for _ in range(int(MEMORY) * 5):
        step.on_first_token(100, 0.0, 1.0, is_new=False)
    assert sharing.share > 0.99


@pytest.mark.parametrize(("tokens", "sent_at"), [(STEP, 0.0), (100, 1.5)], ids=["too-long", "came-later"])
def test_what_could_not_have_been_computed_together_tells_nothing(
    sharing: StepSharing, step: NextStep, tokens: float, sent_at: float
) -> None:
    step.on_first_token(100, 0.0, 1.0, is_new=True)
    step.on_first_token(tokens, sent_at, 2.0, is_new=True)
    assert sharing.share == 1.0


def test_the_first_observations_count_most(sharing: StepSharing) -> None:
    for _ in range(3):
        sharing.observe(is_shared=False)
    assert sharing.share == pytest.approx(1 / 4)
    for _ in range(int(MEMORY) * 5):
        sharing.observe(is_shared=True)
    known = sharing.share
    sharing.observe(is_shared=False)
    assert sharing.share == pytest.approx(known * (1 - 1 / MEMORY))


def test_what_one_instance_shows_holds_for_all(sharing: StepSharing, step: NextStep) -> None:
    other = NextStep(sharing)
    other.join(100)
    step.on_first_token(100, 0.0, 1.0, is_new=True)
    step.on_first_token(100, 0.0, 2.0, is_new=True)
    assert other.held_up == pytest.approx(1 / 2)
