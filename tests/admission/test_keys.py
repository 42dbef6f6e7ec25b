from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fd_router.admission.keys import ApiKey, entry, hash_key, make_key, parse_keys, read_keys
from fd_router.errors import ConfigError

PRIORITIES = ("high", "normal", "low")
SECRET = "fdr-0123456789abcdefghij"
NO_HASH = (
    "keys.yaml:1: keys[0]: sha256: 64 hex digits are needed, as 'fd-router hash-key' prints them; never the key itself"
)
HASH = hashlib.sha256(SECRET.encode()).hexdigest()


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_keys(text, PRIORITIES)
    return caught.value.problems


def test_a_new_key_and_its_entry_make_a_file() -> None:
    key = make_key()
    (read,) = parse_keys("keys:\n" + entry("team-a", hash_key(key)), PRIORITIES)
    assert read == ApiKey(name="team-a", sha256=hashlib.sha256(key.encode()).hexdigest())
    assert make_key() != key
    assert len(key) == 47


def test_all_fields() -> None:
    text = f"""
    keys:
      - name: a
        sha256: {HASH.upper()}
        models: [m1, m2]
        priority: low
        max-concurrent: 4
        requests_per_minute: 60
        tokens-per-minute: 1000
    """
    (key,) = parse_keys(text, PRIORITIES)
    assert key.digest == hashlib.sha256(SECRET.encode()).digest()
    assert (key.models, key.priority) == (("m1", "m2"), "low")
    assert (key.max_concurrent, key.requests_per_minute, key.tokens_per_minute) == (4, 60, 1000)
    assert repr(key) == "<ApiKey a>"


def test_an_empty_list_is_valid() -> None:
    assert parse_keys("keys: []", PRIORITIES) == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "keys.yaml: expected a key 'keys' with a list; an empty one ('keys: []') lets nobody in"),
        ("keys: {a: b}", "keys.yaml: expected a key 'keys' with a list; an empty one ('keys: []') lets nobody in"),
        ("keys: a: b", "keys.yaml:1: not valid YAML"),
        ("keys: [x]", "keys.yaml:1: keys[0]: expected a mapping with name and sha256"),
        ("keys: [{name: a}]", "keys.yaml:1: keys[0]: Object missing required field `sha256`"),
        (
            f"keys: [{{name: a, sha256: {SECRET}}}]",
            NO_HASH,
        ),
        (
            f"keys: [{{name: 'a b', sha256: {HASH}}}]",
            "keys.yaml:1: keys[0]: name: up to 64 letters, digits, '.', '_' and '-' are needed",
        ),
        (
            f"keys: [{{name: a, sha256: {HASH}, model: [x]}}]",
            "keys.yaml:1: keys[0]: unknown field 'model'; did you mean 'models'?",
        ),
        (
            f"keys: [{{name: a, sha256: {HASH}, priority: hgh}}]",
            "keys.yaml:1: keys[0]: priority: 'hgh' is not one of high, normal, low",
        ),
        (
            f"keys: [{{name: a, sha256: {HASH}, max-concurrent: -1}}]",
            "keys.yaml:1: keys[0]: max-concurrent: Expected `int` >= 0",
        ),
        (
            f"keys: [{{name: a, sha256: {HASH}, models: x}}]",
            "keys.yaml:1: keys[0]: models: Expected `array | null`, got `str`",
        ),
        (
            f"keys: [{{name: a, sha256: {HASH}}}, {{name: b, sha256: {HASH}}}]",
            "keys.yaml:1: keys[1]: sha256: 'a' and 'b' are the same key",
        ),
        (
            f"keys: [{{name: a, sha256: {HASH}}}, {{name: a, sha256: {HASH[::-1]}}}]",
            "keys.yaml:1: keys[1]: name: another key is called 'a' too",
        ),
    ],
)
def test_problems(text: str, problem: str) -> None:
    assert problems_of(text) == (problem,)


def test_every_entry_is_judged() -> None:
    assert len(problems_of("keys: [1, 2, {name: x}]")) == 3


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't read the API keys: no such file"):
        read_keys(tmp_path / "keys.yaml", PRIORITIES)
    (tmp_path / "latin.yaml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_keys(tmp_path / "latin.yaml", PRIORITIES)


@pytest.mark.parametrize("key", ["", "short", "with space in it 0123456789", "ümlaut-0123456789abcdefgh"])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(ConfigError, match="no API key"):
        hash_key(key)


@settings(max_examples=40)
@given(st.text())
def test_no_text_does_more_harm_than_a_problem(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_keys(text, PRIORITIES)


@given(st.lists(st.dictionaries(st.sampled_from(["name", "sha256", "models", "priority"]), st.text(min_size=9))))
def test_no_problem_repeats_a_value_that_may_be_a_key(items: list[dict[str, str]]) -> None:
    items = [{**item, "sha256": SECRET} for item in items]
    problems = problems_of(json.dumps({"keys": [*items, {}]}))
    assert SECRET not in str(problems)
