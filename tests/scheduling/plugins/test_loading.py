"""Policies from elsewhere: found, checked, built; and every error says what to do."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from fd_router.config.loading import Config, SchedulerConfig, ServerConfig
from fd_router.config.policies import BUILT_IN
from fd_router.errors import ConfigError
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.plugins.adapter import AdaptedPolicy
from fd_router.scheduling.policies import find_policy, make_policy
from fd_router.scheduling.policies.per_role import needs_of, policies_of, problems_of, read_engine_prompt
from fd_router.scheduling.policy import Need, Policy
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


def built(name: str, folder: Path, options: dict[str, object] | None = None) -> Any:
    config = SchedulerConfig(policy_folder=str(folder))
    return make_policy(name, make_environment(), config, own_options=options or {})


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
    policy = built(f"{name}:P", tmp_path, {"long-tokens": "12"})
    assert policy.plugin.long_tokens == 12


def test_it_is_given_what_its_constructor_names(write: Write, tmp_path: Path) -> None:
    name = write("""\
        class P:
            def __init__(self, index, figures): self.given = index, figures
            def choose(self, request, candidates): return candidates[0]
        """)
    spec = f"{name}:P"
    assert find_policy(spec, str(tmp_path)).needs == {Need.PREFIX_INDEX, Need.TOKEN_IDS, Need.REPORTED_LOADS}
    index = PrefixIndex(lambda: 0.0)
    environment = Environment(lambda: 0.0, random.Random(1), index=index)
    policy = make_policy(spec, environment, SchedulerConfig(policy_folder=str(tmp_path)))
    assert isinstance(policy, AdaptedPolicy)
    assert policy.plugin.given == (index, environment.reported_loads)


def test_what_the_routers_own_policies_need() -> None:
    assert find_policy("random").needs == set()
    assert find_policy("cache_aware").needs == {Need.PREFIX_INDEX, Need.TOKEN_IDS}
    assert find_policy("fd_remote_metrics_score").needs == {Need.REPORTED_LOADS}
    assert find_policy("remote_cache_aware").needs == {Need.PREFIX_INDEX, Need.REPORTED_LOADS, Need.TOKEN_IDS}
    assert find_policy("ttft_aware").needs == {
        Need.PREFIX_INDEX, Need.TOKEN_IDS, Need.PRECEDENCE, Need.ENGINE_PROMPT
    }  # fmt: skip
    assert find_policy("ttft_aware", role="decode").needs == {Need.TOKEN_IDS}  # nothing is prefilled there
    config = Config(
        server=ServerConfig(port=1, splitwise=True),
        scheduler=SchedulerConfig(prefill_policy="fd_remote_metrics_score", decode_policy="ttft_aware"),
    )
    assert needs_of(policies_of(config)) == {Need.REPORTED_LOADS, Need.TOKEN_IDS}


@pytest.mark.parametrize(
    ("prefill", "decode", "reads"),
    [
        ("ttft_aware", "request_num", True),
        ("ttft_aware", "ttft_aware", True),
        ("ttft_aware", "cache_aware", False),  # whose tokens are of FastDeploy's prompt
        ("cache_aware", "ttft_aware", False),
        ("request_num", "request_num", False),
    ],
)
def test_whether_tokens_are_of_the_prompt_as_engines_have_it(prefill: str, decode: str, reads: bool) -> None:
    config = Config(
        server=ServerConfig(port=1, splitwise=True),
        scheduler=SchedulerConfig(prefill_policy=prefill, decode_policy=decode),
    )
    assert read_engine_prompt(policies_of(config)) is reads


def test_a_class_without_a_constructor(write: Write, tmp_path: Path) -> None:
    name = write("class P:\n    def choose(self, request, candidates): return candidates[0]\n")
    assert built(f"{name}:P", tmp_path)
    assert problems(f"{name}:P", tmp_path, {"a": 1}) == [
        f"scheduler.policy-options.a: {name}:P has no such option; it has none"
    ]


def test_a_constructor_that_takes_anything(write: Write, tmp_path: Path) -> None:
    name = write("""\
        class P:
            def __init__(self, **options): self.options = options
            def choose(self, request, candidates): return candidates[0]
        """)
    policy = built(f"{name}:P", tmp_path, {"any-thing": [1]})
    assert policy.plugin.options == {"any_thing": [1]}


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
        ("class P(:", r"SyntaxError: .* \(custom[^/ ]*\.py:1\)$"),
        ("import sys\nsys.exit(0)", r"SystemExit: 0 \(custom.*\.py:2\)"),
    ],
)
def test_a_module_whose_import_fails(write: Write, tmp_path: Path, text: str, why: str) -> None:
    name = write(text)
    with pytest.raises(ConfigError, match=rf"scheduler.policy: '{name}:P': importing {name} failed: {why}"):
        find_policy(f"{name}:P", str(tmp_path))


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
    assert problems_of(policies_of(config), scheduler, lambda: 0.0, random.Random(1)) == (
        f"scheduler.prefill-policy-options.x: {name}:Last has no such option; it has skip, share, kind, urls",
        "scheduler.decode-policy-options.y: random has no such option; it has none",
    )


DERIVED = """\
    from __future__ import annotations
    from typing import Annotated, ClassVar
    import msgspec
    from fd_router.scheduling.policy import Need, Policy

    class LastOptions(msgspec.Struct, frozen=True):
        skip: int
        share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5

        def __post_init__(self) -> None:
            if self.skip > 9: raise ValueError("skip is more than 9")

    class Last(Policy):
        needs = frozenset({Need.PREFIX_INDEX})
        Options = LastOptions

        def __init__(self, environment, options):
            self.options, self.index = options, environment.index

        def choose(self, request, candidates):
            return candidates[-1 - self.options.skip]

    class Bare(Policy):
        def choose(self, request, candidates):
            return candidates[0]

    class Nothing(Policy):
        pass

    class Wrong(Last):
        def __init__(self, skip: int): ...
    """


def test_one_that_derives_from_the_base_class(write: Write, tmp_path: Path) -> None:
    name = write(DERIVED)
    policy = built(f"{name}:Last", tmp_path, {"skip": "1"})
    candidates = fleet(0, 0, 0)
    assert policy.choose(FakeRequest(), candidates) is candidates[1]
    assert isinstance(policy, Policy)
    assert not isinstance(policy, AdaptedPolicy)
    assert (policy.options.skip, policy.options.share) == (1, 0.5)
    assert find_policy(f"{name}:Last", str(tmp_path)).needs == {Need.PREFIX_INDEX}
    assert built(f"{name}:Bare", tmp_path).choose(FakeRequest(), candidates) is candidates[0]


def test_what_is_wrong_with_the_options_of_one_that_derives(write: Write, tmp_path: Path) -> None:
    name = write(DERIVED)
    key = "scheduler.policy-options"
    assert problems(f"{name}:Last", tmp_path, {"share": 2, "shre": 1}) == [
        f"{key}.share: '2' doesn't fit: expected `float` <= 1.0",
        f"{key}.shre: {name}:Last has no such option; did you mean 'share'?",
        f"{key}: {name}:Last needs 'skip'",
    ]
    (problem,) = problems(f"{name}:Last", tmp_path, {"skip": 10})
    assert problem.startswith(f"{key}: {name}:Last can't be made of them: ValueError: skip is more than 9 ({name}.py:")
    assert problems(f"{name}:Bare", tmp_path, {"a": 1}) == [f"{key}.a: {name}:Bare has no such option; it has none"]
    (problem,) = problems(f"{name}:Nothing", tmp_path)
    assert problem.endswith("is no class with a choose(request, candidates)")
    (problem,) = problems(f"{name}:Wrong", tmp_path)
    assert problem == (
        f"scheduler.policy: '{name}:Wrong': Wrong has Options, so its constructor must take (environment, options)"
    )


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        ("def choose(self, request)", "P.choose(self, request) can't be called as choose(request, candidates): "),
        ("async def choose(self, request, candidates)", "P.choose is async; it must be a plain method that answers "),
        ("def place(self)", "P.place(self) can't be called as place(request, candidate): too many positional "),
        ("async def on_gone(self, url)", "P.on_gone is async; "),
        ("def on_instance_unavailable(self)", "P.on_instance_unavailable(self) can't be called as "),
        ("def explain(self, request, candidates, more)", "P.explain(self, request, candidates, more) can't be called"),
    ],
)
def test_a_hook_that_could_never_be_called(write: Write, tmp_path: Path, hook: str, why: str) -> None:
    choose = "" if "choose" in hook else "    def choose(self, request, candidates): return candidates[0]\n"
    name = write(f"class P:\n{choose}    {hook}: return None\n")
    (problem,) = problems(f"{name}:P", tmp_path)
    assert problem.startswith(f"scheduler.policy: '{name}:P': {why}")


def test_every_hook_that_could_never_be_called_is_told(write: Write, tmp_path: Path) -> None:
    name = write("""\
        class P:
            def choose(self, request): yield request
            explain = 7
        """)
    first, second = problems(f"{name}:P", tmp_path)
    assert "P.choose is a generator; " in first
    assert "P.explain is no method; it must be one: explain(request, candidates)" in second


def test_hooks_may_be_static_or_written_in_c(write: Write, tmp_path: Path) -> None:
    name = write("""\
        import functools
        class P:
            @staticmethod
            def choose(request, candidates): return candidates[0]
            @classmethod
            def explain(cls, *arguments): return None
            on_gone = print
        """)
    assert built(f"{name}:P", tmp_path)


class TestBuiltIn:
    def test_the_table_has_the_router_s_policies_and_their_own_options(self) -> None:
        """A class that isn't there, or an option that one side doesn't know, would only be found when it is chosen."""
        for name, entry in BUILT_IN.items():
            for role in ("mixed", "decode"):
                policy = make_policy(name, Environment(lambda: 0.0, random.Random(1), role=role))
                assert isinstance(policy, Policy)
            kind = type(make_policy(name, make_environment()))
            assert kind.Options.__struct_fields__ == tuple(entry.flat)
            assert set(entry.flat.values()) <= set(SchedulerConfig.__struct_fields__)

    def test_options_of_its_own_win_over_the_flat_ones(self) -> None:
        config = SchedulerConfig(hit_ratio_weight=3.0, load_balance_weight=4.0)
        policy: Any = make_policy(
            "cache_aware", make_environment(), config, own_options={"hit-ratio-weight": 7, "block-size": "16"}
        )
        assert (policy._options.hit_ratio_weight, policy._options.load_balance_weight) == (7.0, 4.0)
        assert policy._options.block_size == 16

    def test_what_does_not_fit_is_told(self) -> None:
        with pytest.raises(ConfigError) as caught:
            make_policy("ttft_aware", make_environment(), own_options={"feed-tokens": -1, "feeds": 1})
        assert caught.value.problems == (
            "scheduler.policy-options.feed-tokens: '-1' doesn't fit: expected `int` >= 0",
            "scheduler.policy-options.feeds: ttft_aware has no such option; did you mean 'feed-tokens'?",
        )

    def test_an_unknown_one(self) -> None:
        with pytest.raises(ConfigError, match=r"scheduler policy 'x' is not available; choose one of: cache_aware, "):
            find_policy("x")
