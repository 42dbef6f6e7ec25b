"""The example that makes a trace of logged requests."""

import json
import subprocess
import sys
from pathlib import Path

from fd_router.devtools.traces.trace import read_trace

SCRIPT = Path(__file__).parents[3] / "examples" / "make_trace" / "make_trace.py"


def make(tmp_path, *entries):
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(entry if isinstance(entry, str) else json.dumps(entry) for entry in entries))
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(path)], capture_output=True, text=True, timeout=30, check=False
    )


def entry(time, *texts, output=7):
    messages = [{"role": "user", "content": text} for text in texts]
    return {"time": time, "output_tokens": output, "body": {"messages": messages}}


def test_equal_beginnings_have_equal_numbers(tmp_path):
    long = "a" * 3000
    done = make(tmp_path, entry(12.5, long, "b" * 3000), entry(10, long), entry(13, "c" * 3000))
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "trace.jsonl").write_text(done.stdout)
    first, second, third = read_trace(str(tmp_path / "trace.jsonl"))
    assert [each.at for each in (first, second, third)] == [0, 2.5, 3]
    assert [each.input_tokens for each in (first, second, third)] == [750, 1501, 750]
    assert first.output_tokens == 7
    assert first.hash_ids[0] == second.hash_ids[0]
    assert len(second.hash_ids) == 3
    assert not {*third.hash_ids} & {*first.hash_ids, *second.hash_ids}
    assert "aaa" not in done.stdout


def test_a_bad_line_is_named(tmp_path):
    done = make(tmp_path, entry(1, "x"), '{"time": 1}')
    assert done.returncode == 1
    assert "requests.jsonl:2: KeyError 'body'" in done.stderr
