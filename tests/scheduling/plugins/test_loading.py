"""Policies from elsewhere: found, checked, built; and every error says what to do."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from fd_router.config.loading import Config, SchedulerConfig, ServerConfig
from fd_router.errors import ConfigError
from fd_router.scheduling.plugins.loading import CustomPolicy
from fd_router.scheduling.plugins.per_role import policies_of, problems_of
from fd_router.scheduling.policies import make_policy, needs
from fd_router.scheduling.prefix.index import PrefixIndex
from tests.support.scheduling_fakes import FakeRequest, fleet, make_environment

Write = Callable[[str], str]

_numbers = itertools.count()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module with a name of its own and return that name."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    written = []

    def write(text: str) -> str:
        name = f"custom_policy_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(dedent(text))
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


LAST = """\
    from __future__ import annotations
    from typing import Annotated, Literal
    import msgspec

    class Last:
        def __init__(self, environment, *, skip: int = 0, share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5,
                     kind: Literal["a", "b"] = "a", urls: dict[str, float] | None = None):
            self.skip, self.share, self.kind, self.urls, self.clock = skip, share, kind, urls, environment.clock

        def choose(self, request, candidates):
            return candidates[-1 - self.skip]
    """


def problems(name: str, folder: Path, options: dict[str, object] | None = None) -> list[str]:
    """Build it and return what is said to be wrong."""
    config = SchedulerConfig(policy_folder=str(folder))
    with pytest.raises(ConfigError) as caught:
        make_policy(name, make_environment(), config, own_options=options or {})
    return list(caught.value.problems)


def test_it_is_found_beside_the_configuration_and_gets_its_options(write: Write, tmp_path: Path) -> None:
    name = write(LAST)
    config = SchedulerConfig(policy_folder=str(tmp_path))
    options = {"skip": 1, "urls": {"http://x": "2.5"}}
    policy = make_policy(f"{name}:Last", make_environment(), config, own_options=options)
    candidates = fleet(0, 0, 0)
    assert policy.choose(FakeRequest(), candidates) is candidates[1]
    assert (policy.plugin.urls, policy.plugin.share, policy.plugin.clock()) == ({"http://x": 2.5}, 0.5, 0.0)  # type: ignore[attr-defined]


def test_keys_may_have_dashes_and_numbers_quotes(write: Write, tmp_path: Path) -> None:
    name = write("""\
        class P:
            def __init__(self, long_tokens: int): self.long_tokens = long_tokens
            def choose(self, request, candidates): return candidates[0]
        """)
    policy = CustomPolicy(f"{name}:P", str(tmp_path)).build({}, {"long-tokens": "12"})
    assert policy.long_tokens == 12  # type: ignore[attr-defined]


def test_it_is_given_what_its_constructor_names(write: Write, tmp_path: Path) -> None:
    name = write("""\
        class P:
            def __init__(self, index, figures): self.given = index, figures
            def choose(self, request, candidates): return candidates[0]
        """)
    spec = f"{name}:P"
    assert needs([spec, "random"], str(tmp_path)) == {"index", "figures"}
    index = PrefixIndex(lambda: 0.0)
    policy = make_policy(spec, make_environment(), SchedulerConfig(policy_folder=str(tmp_path)), index=index)
    assert policy.plugin.given[0] is index  # type: ignore[attr-defined]
    assert needs(["cache_aware"]) == {"index"}
    assert needs(["fd_remote_metrics_score"]) == {"figures"}
    assert needs(["remote_cache_aware", "random"]) == {"index", "figures"}


def test_a_class_without_a_constructor(write: Write, tmp_path: Path) -> None:
    name = write("class P:\n    def choose(self, request, candidates): return candidates[0]\n")
    assert CustomPolicy(f"{name}:P", str(tmp_path)).build({}, {})
    assert problems(f"{name}:P", tmp_path, {"a": 1}) == [
        f"scheduler.policy-options.a: {name}:P has no such option; it has none"
    ]


def test_a_constructor_that_takes_anything(write: Write, tmp_path: Path) -> None:
    name = write("""\
        class P:
            def __init__(self, **options): self.options = options
            def choose(self, request, candidates): return candidates[0]
        """)
    policy = CustomPolicy(f"{name}:P", str(tmp_path)).build({}, {"any-thing": [1]})
    assert policy.options == {"any_thing": [1]}  # type: ignore[attr-defined]


def test_a_module_or_class_that_is_not_there(write: Write, tmp_path: Path) -> None:
    (problem,) = problems("nowhere_to_be_found:P", tmp_path)
    assert problem.startswith("scheduler.policy: 'nowhere_to_be_found:P': there is no module 'nowhere_to_be_found' in ")
    assert str(tmp_path) in problem
    name = write(LAST)
    (problem,) = problems(f"{name}:Lasst", tmp_path)
    assert problem.endswith(f"{name}.py has no 'Lasst'; did you mean 'Last'?")
    (problem,) = problems(f"{name}.more:Last", tmp_path)
    assert "importing" in problem or "there is no module" in problem
    (problem,) = problems(f"{name}:Literal", tmp_path)
    assert problem.endswith("is no class with a choose(request, candidates)")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import nothing_like_this", r"ModuleNotFoundError: No module named 'nothing_like_this' \(custom.*\.py:1\)"),
        ("a = 1\nb = a.c", r"AttributeError: .* \(custom.*\.py:2\)"),
        ("class P(:", r"SyntaxError: "),
        ("import sys\nsys.exit(0)", r"SystemExit: 0 \(custom.*\.py:2\)"),
    ],
)
def test_a_module_whose_import_fails(write: Write, tmp_path: Path, text: str, why: str) -> None:
    name = write(text)
    with pytest.raises(ConfigError, match=rf"scheduler.policy: '{name}:P': importing {name} failed: {why}"):
        CustomPolicy(f"{name}:P", str(tmp_path))


def test_every_wrong_option_is_told(write: Write, tmp_path: Path) -> None:
    name = write(LAST)
    options = {"skip": "many", "share": 2, "kind": "c", "shre": 1, "urls": {"x": "y"}}
    assert problems(f"{name}:Last", tmp_path, options) == [
        "scheduler.policy-options.skip: 'many' doesn't fit: expected `int`, got `str`",
        "scheduler.policy-options.share: '2' doesn't fit: expected `float` <= 1.0",
        "scheduler.policy-options.kind: 'c' doesn't fit: invalid enum value 'c'",
        f"scheduler.policy-options.shre: {name}:Last has no such option; did you mean 'share'?",
        "scheduler.policy-options.urls: \"{'x': 'y'}\" doesn't fit: expected `float`, got `str` - at `$[...]`",
    ]


def test_a_missing_option_and_one_that_the_class_refuses(write: Write, tmp_path: Path) -> None:
    name = write("""\
        class P:
            def __init__(self, long_tokens: int):
                if long_tokens < 0: raise ValueError("long-tokens must be 0 or more")
            def choose(self, request, candidates): return candidates[0]
        """)
    assert problems(f"{name}:P", tmp_path) == [f"scheduler.policy-options: {name}:P needs 'long-tokens'"]
    (problem,) = problems(f"{name}:P", tmp_path, {"long-tokens": -1})
    assert problem.startswith(f"scheduler.policy-options: {name}:P can't be made of them: ValueError: long-tokens must")
    assert problem.endswith(f"({name}.py:3)")


def test_a_file_beside_the_configuration_takes_no_modules_place(write: Write, tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("class P:\n    def choose(self, request, candidates): ...\n")
    sys.modules.pop("colorsys", None)
    (problem,) = problems("colorsys:P", tmp_path)
    assert problem.endswith("colorsys.py has no 'P'")
    assert str(tmp_path) not in problem


def test_every_roles_problems_name_its_own_option(write: Write, tmp_path: Path) -> None:
    name = write(LAST)
    scheduler = SchedulerConfig(
        prefill_policy=f"{name}:Last", prefill_policy_options={"x": 1}, policy_folder=str(tmp_path),
        decode_policy="random", decode_policy_options={"y": 1}, policy_options={"z": 1},
    )  # fmt: skip
    config = Config(server=ServerConfig(port=1, splitwise=True), scheduler=scheduler)
    assert problems_of(policies_of(config), scheduler, make_environment()) == (
        f"scheduler.prefill-policy-options.x: {name}:Last has no such option; it has skip, share, kind, urls",
        "scheduler.decode-policy-options: random takes none; they are for a policy of your own",
    )
