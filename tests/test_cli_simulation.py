"""The commands ``simulate`` and ``replay``, as far as the command line goes."""

import json

import pytest

from fd_router.cli import run

LINE = '{"timestamp": %d, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n'


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(LINE % (n * 100) for n in range(20)))
    return str(path)


def test_a_table_with_a_row_for_each_policy(trace, capsys):
    assert (
        run(["simulate", "--trace", trace, "--policy", "random,cache_aware:hit-ratio-weight=2", "--load", "0.5"]) == 0
    )
    said = capsys.readouterr().out
    assert "20 requests" in said
    assert "a load of 0.50" in said
    assert {line.split()[0] for line in said.splitlines()} >= {"random", "cache_aware:hit-ratio-weight=2"}


def test_json_is_all_that_is_printed(trace, capsys):
    assert run(["simulate", "--trace", trace, "--policy", "request_num", "--json", "--instances", "2"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["conditions"]["instances"] == 2
    (result,) = document["results"]
    assert (result["name"], result["requests"], result["failures"]) == ("request_num", 20, 0)


@pytest.mark.parametrize("command", ["simulate", "replay"])
def test_a_trace_is_needed(command, capsys):
    assert run([command]) == 2
    assert "--trace: give the trace" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["simulate", "--trace", "TRACE", "--policy", "nonsense"], "'nonsense'"),
        (["simulate", "--trace", "TRACE", "--set", "x"], "--set: 'x' is not KEY=VALUE"),
        (["simulate", "--trace", "missing.jsonl"], "missing.jsonl: No such file"),
        (["replay", "--trace", "TRACE", "--router", "ftp://x"], "--router: 'ftp://x' is not HOST:PORT"),
        (["replay", "--trace", "TRACE", "--extra-body", "[1]"], "--extra-body: Expected `object`"),
        (["replay", "--trace", "TRACE", "--header", "x"], "--header: 'x' is not 'Name: value'"),
    ],
)
def test_faults_are_one_line(arguments, complaint, trace, capsys):
    assert run([trace if each == "TRACE" else each for each in arguments]) in {1, 2}
    said = capsys.readouterr()
    assert complaint in said.err
    assert len(said.err.splitlines()) == 1
