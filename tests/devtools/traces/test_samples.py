import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fd_router.devtools.traces.samples import SAMPLES
from fd_router.devtools.traces.trace import read_trace

SCRIPT = Path(__file__).parents[3] / "examples" / "make_trace" / "make_sample.py"


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_sample_is_a_trace(kind):
    requests = SAMPLES[kind](200, 1)
    assert len(requests) == 200
    assert requests[0].at == 0
    assert all(before.at <= after.at for before, after in itertools.pairwise(requests))
    for each in requests:
        assert len(each.hash_ids) * each.block_tokens <= each.input_tokens
        assert each.output_tokens >= 1
    assert requests == SAMPLES[kind](200, 1)
    assert requests != SAMPLES[kind](200, 2)


def shared(requests):
    """Share of the prompt tokens that an earlier prompt had."""
    seen, known = set(), 0
    for each in requests:
        known += sum(block in seen for block in each.hash_ids) * each.block_tokens
        seen.update(each.hash_ids)
    return known / sum(each.input_tokens for each in requests)


def test_what_kinds_share_differs():
    assert shared(SAMPLES["strangers"](300, 1)) == 0
    assert shared(SAMPLES["chat"](300, 1)) > 0.9
    assert shared(SAMPLES["agents"](300, 1)) > 0.7
    assert 0.3 < shared(SAMPLES["documents"](300, 1)) < 0.8


def test_the_example_writes_what_simulate_reads(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "tenants", "--requests", "50"], capture_output=True, timeout=30, check=True
    )
    (tmp_path / "trace.jsonl").write_bytes(done.stdout)
    requests = read_trace(str(tmp_path / "trace.jsonl"), block_tokens=64)
    assert len(requests) == 50
    assert requests[7].session.startswith("tenant-")
    assert json.loads(done.stdout.splitlines()[0])["timestamp"] == 0
