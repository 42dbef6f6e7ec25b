"""Faults under load, each in short; ``make chaos`` does the same for longer."""

import pytest

from tests.support.chaos import TRIALS, Plan, run_trial

SHORT = Plan(before=0.2, fault=0.6, after=0.4, clients=4, instances=2)
CHOSEN = {
    "instance killed", "instance answers garbage", "port taken by a stranger", "disk full", "no open files left",
    "clock jumps", "router killed",
}  # fmt: skip


@pytest.mark.parametrize("trial", [trial for trial in TRIALS if trial.name in CHOSEN], ids=lambda trial: trial.name)
async def test_a_fault_costs_no_more_than_it_must(trial):
    report = await run_trial(trial, SHORT)
    assert report.problems == []
