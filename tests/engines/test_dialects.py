"""The table of dialects, and what is the same for all of them."""

import pytest

from fd_router.engines.dialect import Dialect, Verdict
from fd_router.engines.dialects import Dialects, UnknownDialectError
from fd_router.errors import ConfigError

SOURCE = """
from fd_router.engines.dialect import Dialect

class Mine(Dialect):
    name = "mine"
    busy_statuses = frozenset({503})

class Same(Dialect):
    name = "openai"

class Nameless(Dialect):
    pass

class Broken(Dialect):
    name = "broken"
    def __init__(self):
        raise KeyError("x")

def not_a_class(): ...
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_dialects.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return str(tmp_path)


def test_who_tells_none_speaks_fastdeploys():
    dialects = Dialects()
    assert dialects.named("") is dialects.named("fastdeploy")
    assert dialects.named("openai").name == "openai"


def test_one_of_a_third_party(folder):
    dialect = Dialects(("my_dialects:Mine",), folder).named("mine")
    assert dialect.judge("mixed", 503, b"", True) is Verdict.BUSY
    assert dialect.judge("mixed", 500, b"", True) is Verdict.ERROR


def test_an_unknown_one_is_named_with_the_nearest():
    with pytest.raises(UnknownDialectError, match=r"dialect 'fastdeply' isn't known; did you mean 'fastdeploy'\?"):
        Dialects().named("fastdeply")
    with pytest.raises(UnknownDialectError, match="known are fastdeploy, openai"):
        Dialects().named("zzz")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("my_dialects:Lost", "has no 'Lost'"),
        ("my_dialects:Same", "there is a dialect 'openai' already"),
        ("my_dialects:Nameless", "its name is empty"),
        ("my_dialects:Broken", r"it can't be made: KeyError: 'x' \(my_dialects.py:\d+\)"),
        ("my_dialects:not_a_class", "it is no subclass of fd_router.engines.dialect.Dialect"),
        ("lost_module:Mine", "there is no module 'lost_module' in"),
    ],
)
def test_one_that_can_not_be_used(folder, path, why):
    with pytest.raises(ConfigError, match=f"instances.dialects: '{path}': .*{why}"):
        Dialects((path,), folder)


def test_what_every_engine_does_alike():
    dialect = Dialects().named("openai")
    assert type(dialect).can_pair is Dialect.can_pair
    assert not dialect.can_pair(None, None)
    assert dialect.abort(["a"]) == ()
    assert dialect.judge("mixed", 200, b'{"error":{}}', True) is Verdict.ERROR
    assert dialect.judge("mixed", 429, b"", True) is Verdict.BUSY
    assert dialect.read_load(b"vllm:num_requests_running 5\nvllm:num_requests_waiting 1\n").running == 5
