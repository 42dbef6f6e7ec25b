"""Sources of a third party, named by the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from fd_router.config.instances import InstancesConfig
from fd_router.errors import ConfigError
from fd_router.instances.sources.loading import open_sources

MODULE = """
class Good:
    def __init__(self, path: str = "x", every: float = 1.0) -> None:
        self.name = f"good {path}"
        self.every = every
    async def run(self, members): ...

class Nameless(Good):
    def __init__(self) -> None: self.name = ""

class Own(Good):
    def __init__(self) -> None: self.name = "register.yaml"

class Fails(Good):
    def __init__(self) -> None: raise OSError("no such place")

class Needs(Good):
    def __init__(self, selector: str) -> None: ...

class NotAsync:
    name = "n"
    def run(self, members): ...

class Idle:
    name = "n"

thing = Good()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_sources.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return str(tmp_path)


def test_none_is_asked_for() -> None:
    assert open_sources(InstancesConfig()) == ()


def test_a_class_with_its_options_once_or_several_times(folder: str) -> None:
    given = {"my_sources:Good": [{"path": "a", "every": "2.5"}, {"path": "b"}, None]}
    sources = open_sources(InstancesConfig(sources=given, plugin_folder=folder))
    assert [(source.name, source.every) for source in sources] == [("good a", 2.5), ("good b", 1.0), ("good x", 1.0)]  # type: ignore[attr-defined]
    (one,) = open_sources(InstancesConfig(sources={"my_sources:Good": {}}, plugin_folder=folder))
    assert one.name == "good x"


@pytest.mark.parametrize(
    ("path", "options", "problem"),
    [
        ("my_sources", {}, "instances.sources.my_sources: not the path of a class; write my_module:MySource"),
        ("my_sources:Good", 5, "instances.sources.my_sources:Good: '5' is no mapping of its options, nor a list of"),
        ("my_sources:Godo", {}, "my_sources.py has no 'Godo'"),
        ("no_such_module:Good", {}, "instances.sources: 'no_such_module:Good': there is no module 'no_such_module' in"),
        ("my_sources:thing", {}, "it is no class with an 'async def run(self, members)'"),
        ("my_sources:Idle", {}, "it is no class with an 'async def run(self, members)'"),
        ("my_sources:NotAsync", {}, "it is no class with an 'async def run(self, members)'"),
        ("my_sources:Good", {"pth": "a"}, "sources.my_sources:Good.pth: my_sources:Good has no such option; did you"),
        ("my_sources:Good", {"every": "often"}, "instances.sources.my_sources:Good.every: 'often' doesn't fit"),
        ("my_sources:Needs", {}, "instances.sources.my_sources:Needs: my_sources:Needs needs 'selector'"),
        ("my_sources:Fails", {}, "it can't be made of its options: OSError: no such place (my_sources.py:"),
        ("my_sources:Nameless", {}, "it has no name; give the class a name"),
        ("my_sources:Own", {}, "there is a source 'register.yaml' already; make its name another one"),
        ("my_sources:Good", [{}, {}], "there is a source 'good x' already; make its name another one"),
    ],
)
def test_what_is_wrong_is_told(folder: str, path: str, options: object, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        open_sources(InstancesConfig(sources={path: options}, plugin_folder=folder))
    (line,) = raised.value.problems
    assert problem in line


def test_every_problem_is_told(folder: str) -> None:
    given = {"my_sources:Idle": {}, "my_sources:Good": [{"a": 1}, {}, {"b": 2}]}
    with pytest.raises(ConfigError) as raised:
        open_sources(InstancesConfig(sources=given, plugin_folder=folder))
    assert len(raised.value.problems) == 3
