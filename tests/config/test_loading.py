from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fd_router.config.loading import (
    OPTIONS,
    POLICIES,
    SECTIONS,
    Config,
    Declared,
    Option,
    declared,
    examine,
    from_texts,
    load,
)
from fd_router.config.reference import in_force, reference
from fd_router.errors import ConfigError
from fd_router.scheduling import policies as scheduling

GO_SECTIONS = frozenset({"server", "scheduler", "manager", "log"})
"""Those of FastDeploy's own router."""

REPOSITORY = Path(__file__).parents[2]
PORT = {"server.port": 30000}

FITTING = {
    "dialects": "a.b:C, d:E",
    "record_sinks": "a.b:C, d:E",
    "endpoints": "a.b:C",
    "health_check_endpoint": "/x",
    "priorities": "normal=2 low=1",
    "key_prefix": "x",
    "shadow_policy": "random",
    "priority_header": "x-p",
    "url": "redis://x",
    "workers": "2",
    "admin_token": "x" * 16,
    "register_token": "y" * 16,
}
"""What fits the pattern of an option that isn't a URL."""

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> str:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write_file


def problems_of(path: str | None, flags: dict[str, object] | None = None, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, PORT if flags is None else flags, environ)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def by_key(key: str) -> Declared:
    return next(option for option in OPTIONS if option.key == key)


def value_of(config: Config, option: Declared) -> Any:
    return getattr(getattr(config, option.section), option.attribute)


# What everybody relies on


def test_defaults_are_those_of_fastdeploy() -> None:
    config = load(None, PORT, {}).config
    assert config == Config(server=config.server)
    assert (config.server.port, config.server.host, config.server.splitwise) == (30000, "0.0.0.0", False)
    scheduler, manager, log = config.scheduler, config.manager, config.log
    assert (scheduler.policy, scheduler.prefill_policy, scheduler.decode_policy) == (
        "request_num", "process_tokens", "request_num",
    )  # fmt: skip
    assert (scheduler.cache_block_size, scheduler.load_balance_weight, scheduler.waiting_weight) == (64, 1, 1)
    assert (scheduler.balance_abs_threshold, scheduler.balance_rel_threshold) == (1, 0.2)
    assert (scheduler.eviction_interval_secs, scheduler.eviction_duration_mins) == (60, 30)
    assert (manager.health_failure_threshold, manager.health_success_threshold) == (1, 1)
    assert (manager.health_check_timeout_secs, manager.health_check_interval_secs) == (5, 5)
    assert (manager.health_check_endpoint, manager.register_path) == ("/health", "")
    assert (log.level, log.output, log.max_age_days, log.max_total_size_mb) == ("info", "stdout", 7, 500)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_every_option_has_a_valid_default_and_help(option: Declared) -> None:
    assert option.option.help
    assert type(option.default) is option.kind
    if option.key != "server.port":
        text = json.dumps(option.default) if option.kind is dict else str(option.default)
        assert option.parse(text) == option.default


def test_every_policy_that_may_be_named_is_there() -> None:
    assert set(POLICIES) == set(scheduling.POLICIES)
    assert len(POLICIES) == 10


# Precedence


def test_a_flag_wins_over_the_environment_and_that_over_the_file(write: Write) -> None:
    path = write("server: {port: 1, host: h1, name: n1, mode: debug}")
    environ = {"FD_ROUTER_SERVER_PORT": "2", "FD_ROUTER_SERVER_HOST": "h2", "FD_ROUTER_SERVER_NAME": "n2"}
    report = examine(path, {"server.port": "3", "server.host": None}, environ)
    server = report.config.server
    assert (server.port, server.host, server.name, server.mode, server.splitwise) == (3, "h2", "n2", "debug", False)
    assert report.origins == {
        "server.port": "--port",
        "server.host": "FD_ROUTER_SERVER_HOST",
        "server.name": "FD_ROUTER_SERVER_NAME",
        "server.mode": f"{path}:1",
    }
    assert not report.warnings


@pytest.mark.parametrize(("flag", "expected"), [(True, True), (False, False), (None, True)])
def test_the_splitwise_flag_wins_over_the_file(write: Write, flag: bool | None, expected: bool) -> None:
    config = load(write("server: {splitwise: true}"), PORT | {"server.splitwise": flag}, {}).config
    assert config.server.splitwise is expected


def test_an_empty_environment_variable_gives_nothing(write: Write) -> None:
    assert load(write("server: {port: 1}"), {}, {"FD_ROUTER_SERVER_PORT": ""}).config.server.port == 1


def test_a_wrong_value_that_is_overridden_is_only_a_warning(write: Write) -> None:
    path = write("server:\n  port: ${PORT}\n")
    loaded = load(path, PORT, {})
    assert loaded.config.server.port == 30000
    assert loaded.warnings == (
        f"{path}:2: server.port: '${{PORT}}' is not a whole number from 1 to 65535 (not used, --port wins)",
    )


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_every_option_is_read_from_the_environment_and_from_both_spellings_in_a_file(
    option: Declared, write: Write
) -> None:
    examples = {bool: ("true", True), int: ("2", 2), float: ("2.5", 2.5), str: ("x", "x"), dict: ('{"a": 1}', {"a": 1})}
    text, expected = examples[option.kind]
    if option.option.choices:
        text = expected = option.option.choices[-1]
    elif option.option.pattern:
        text = expected = FITTING.get(option.attribute, "http://x:1")
    flags = {} if option.key == "server.port" else PORT
    key = option.key.rpartition(".")[2]
    assert value_of(load(None, flags, {option.environment: text}).config, option) == expected
    for spelling in (key, key.replace("-", "_")):
        loaded = load(write(f"{option.section}:\n  {spelling}: {text}\n"), flags, {})
        assert value_of(loaded.config, option) == expected
        assert not loaded.warnings


# The port


@pytest.mark.parametrize(
    "text", ["", "server:\n", "server: {port: }", 'server: {port: ""}', "server: {port: 0}", "# nothing"]
)
def test_without_a_port_the_refusal_of_the_go_program(write: Write, text: str) -> None:
    (problem,) = problems_of(write(text), {})
    assert problem.startswith("Failed to load config: failed to set router listen port")
    for remedy in ("--port", "server.port", "FD_ROUTER_SERVER_PORT"):
        assert remedy in problem


@pytest.mark.parametrize("text", ["abc", "65536", "-1", "80.5", "[80]", "nan", "8" * 5000])
def test_a_wrong_port_is_one_problem_and_not_also_a_missing_one(write: Write, text: str) -> None:
    (problem,) = problems_of(write(f"server:\n  port: {text}\n"), {})
    assert problem.startswith("2: server.port: ")
    assert "a whole number from 1 to 65535" in problem
    assert len(problem) < 200


# Values as Go and YAML write them


@pytest.mark.parametrize("text", ["8080", '"8080"', "'8080'", "8080.0", "08080", '" 8080 "'])
def test_numbers_may_be_quoted(write: Write, text: str) -> None:
    assert load(write(f"server: {{port: {text}}}"), {}, {}).config.server.port == 8080


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ('"true"', True),
        ("True", True),
        ("on", True),
        ("1", True),
        ("false", False),
        ("no", False),
        ("", False),
    ],
)
def test_truth_values(write: Write, text: str, expected: bool) -> None:
    assert load(write(f"server: {{splitwise: {text}}}"), PORT, {}).config.server.splitwise is expected


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.option.zero_is_default], ids=lambda o: o.key)
def test_zero_means_the_default_where_it_does_in_go(option: Declared, write: Write) -> None:
    if option.key == "server.port":
        return
    key = option.key.rpartition(".")[2]
    for zero in ("0", "0.0", '"0"'):
        config = load(write(f"{option.section}: {{{key}: {zero}}}"), PORT, {option.environment: ""}).config
        assert value_of(config, option) == option.default
    assert value_of(load(None, PORT, {option.environment: "0"}).config, option) == option.default


def test_the_zeros_that_mean_the_default_are_all_of_gos_numbers() -> None:
    ours = {  # where 0 has a meaning of its own
        "manager.instance-expiry-secs",
        "scheduler.cache-instance-max-blocks",
        "scheduler.decode-alone-below-tokens",
        "scheduler.ttft-decode-weight-ms",
        "scheduler.ttft-feed-tokens",
        "scheduler.ttft-recompute-weight",
        "server.drain-delay-secs",
        "server.drain-timeout-secs",
    }
    for option in OPTIONS:
        numeric = option.kind in (int, float)
        assert option.option.zero_is_default == (numeric and option.section in GO_SECTIONS and option.key not in ours)


def test_zero_is_an_error_where_it_would_mean_nothing(write: Write) -> None:
    (problem,) = problems_of(write("proxy: {max-attempts: 0}"))
    assert problem == "1: proxy.max-attempts: '0' is not a whole number from 1 to 100"


def test_a_policy_of_ones_own_and_its_options(write: Write) -> None:
    path = write(
        "scheduler:\n"
        "  policy: my.module:MyPolicy\n"
        "  policy-options: {a_b: 1, 'c': {d: [x, 2.5, true, null]}, when: 2026-01-02}\n"
        "  prefill_policy_options:\n"
    )
    scheduler = load(path, PORT, {}).config.scheduler
    assert scheduler.policy == "my.module:MyPolicy"
    assert scheduler.policy_options == {"a_b": 1, "c": {"d": ["x", 2.5, True, None]}, "when": "2026-01-02"}
    assert scheduler.prefill_policy_options == {}
    assert scheduler.policy_folder == str(Path(path).parent)
    environ = {"FD_ROUTER_SCHEDULER_POLICY_OPTIONS": '{"a_b": 2}'}
    assert load(path, PORT, environ).config.scheduler.policy_options == {"a_b": 2}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("policy: my.module", "scheduler.policy: 'my.module' is not one of "),
        ("policy: my-module:P", "scheduler.policy: 'my-module:P' is not one of "),
        ("policy-options: 7", "scheduler.policy-options: '7' is not a mapping"),
        ("policy-options: [a]", "scheduler.policy-options: a list where a mapping is needed"),
        ("policy-options: {a: !!python/name:os.system }", "not valid YAML: could not determine a constructor"),
        ("policy-options: {? [a] : 1}", "not valid YAML: found unhashable key"),
    ],
)
def test_a_wrong_policy_of_ones_own(write: Write, text: str, problem: str) -> None:
    (told,) = problems_of(write(f"scheduler: {{{text}}}"))
    assert problem in told


def test_choices_are_found_in_any_case(write: Write) -> None:
    assert (
        load(write("log: {level: INFO}\nscheduler: {policy: Round_Robin}"), PORT, {}).config.scheduler.policy
        == "round_robin"
    )


def test_yaml_guesses_no_types(write: Write) -> None:
    config = load(write("server: {name: 2026-01-01, host: 1e3}\nlog: {path: 0x10}"), PORT, {}).config
    assert (config.server.name, config.server.host, config.log.path) == ("2026-01-01", "1e3", "0x10")


def test_anchors_and_merge_keys(write: Write) -> None:
    text = "server: &base\n  name: a\n  host: b\nlog: {path: x}\nother: &other {<<: *base, mode: debug}\n"
    path = write(
        text.replace("other: &other", "proxy: {}\nx-other: &other") + "scheduler: {<<: *other, policy: random}\n"
    )
    loaded = load(path, PORT, {})
    assert loaded.config.scheduler.policy == "random"
    assert any("scheduler.mode" in warning for warning in loaded.warnings)
    path = write("x-base: &base {name: a, host: b}\nserver: {<<: *base, host: c}\n")
    assert load(path, PORT, {}).config.server == Config().server.__class__(name="a", host="c", port=30000)


def test_what_a_merged_mapping_merges_itself(write: Write) -> None:
    text = "a: &a {name: a, host: a, mode: debug}\nb: &b {<<: *a, host: b}\nc: &c {host: c, reuse-port: true}\n"
    server = load(write(f"{text}server: {{<<: [*b, *c]}}\n"), PORT, {}).config.server
    assert (server.name, server.host, server.mode, server.reuse_port) == ("a", "b", "debug", True)


def test_a_mapping_that_merges_itself(write: Write) -> None:
    assert load(write("server: &s\n  name: a\n  <<: *s\n"), PORT, {}).config.server.name == "a"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_as_powershell_writes_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "config.yaml"
    mark = "" if encoding == "utf-16" else "\ufeff"
    path.write_bytes(f"{mark}server:\r\n  name: fünf\r\n".encode(encoding))
    assert load(str(path), PORT, {}).config.server.name == "fünf"
    path.write_bytes(path.read_bytes() + b"x")
    assert "not UTF-8 text" in examine(str(path), PORT, {}).problems[0]


@pytest.mark.parametrize(("text", "value"), [("y", True), ("Y", True), ("n", False), ("N", False)])
def test_truth_values_of_go_s_yaml_package(write: Write, text: str, value: bool) -> None:
    assert load(write(f"server: {{splitwise: {text}}}"), PORT, {}).config.server.splitwise is value


@pytest.mark.parametrize(("text", "value"), [("0x10", 16), ("0o20", 16), ("0b10000", 16), ("+0x10", 16), ("1_6", 16)])
def test_numbers_of_yaml(write: Write, text: str, value: int) -> None:
    loaded = load(
        write(f"scheduler: {{cache-block-size: {text}, waiting-weight: {text}}}\nmanager: {{register-path: {text}}}"),
        PORT,
        {},
    )
    scheduler = loaded.config.scheduler
    assert (scheduler.cache_block_size, scheduler.waiting_weight) == (value, value)
    assert loaded.config.manager.register_path == text


@pytest.mark.parametrize("text", ["0x", "0b2", "0x" + "f" * 300, "x10"])
def test_numbers_that_are_none(write: Write, text: str) -> None:
    report = examine(write(f"scheduler: {{waiting-weight: {text}}}"), PORT, {})
    assert "is not a number" in report.problems[0]


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud83d", "\ud83d\ude00", "x" * 40 + "\0"])
@pytest.mark.parametrize("option", [one for one in OPTIONS if one.kind is str], ids=lambda one: one.key)
def test_what_no_file_or_host_can_be_called_is_refused(option: Declared, text: str) -> None:
    """YAML's escapes make it, and whatever opens the file, or looks the host up, would raise something odd."""
    with pytest.raises(ValueError, match=re.escape(option.expected) if not option.option.secret else "what is given"):
        option.parse(text)


def test_a_file_may_have_a_name_that_is_no_utf_8(write: Write) -> None:
    given = os.fsdecode(b"/tmp/\xff.log")
    assert load(write(""), PORT, {"FD_ROUTER_LOG_PATH": given}).config.log.path == given


@pytest.mark.parametrize("text", ["9" * 400, "-" + "9" * 400, "1e999", "9" * 5000])
@pytest.mark.parametrize("option", [one for one in OPTIONS if one.kind in (int, float)], ids=lambda one: one.key)
def test_numbers_that_no_calculation_takes_are_refused(option: Declared, text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        option.parse(text)


@pytest.mark.parametrize("value", ["!!timestamp x", "!!bool x", "!!int ''", "!!float ''", "!!int x"])
def test_a_value_that_is_not_what_its_tag_says_is_a_problem_of_the_file(write: Write, value: str) -> None:
    report = examine(write(f"models: {{aliases: {{a: {value}}}}}"), PORT, {})
    assert len(report.problems) == 1
    assert "config.yaml:1" in report.problems[0] or "not valid YAML" in report.problems[0]


def test_only_the_first_document_counts_as_in_go(write: Write) -> None:
    assert load(write("server: {name: a}\n---\nserver: {name: b}\n"), PORT, {}).config.server.name == "a"


def test_a_byte_order_mark_and_windows_line_ends(write: Write) -> None:
    assert load(write("\ufeffserver:\r\n  name: a\r\n"), PORT, {}).config.server.name == "a"


@given(st.sampled_from(OPTIONS), st.text(max_size=30))
def test_any_text_is_either_a_valid_value_or_a_clear_complaint(option: Declared, text: str) -> None:
    try:
        value = option.parse(text)
    except ValueError as error:
        complaint = str(error)
    else:
        complaint = ""
        assert type(value) is option.kind
        if option.kind in (int, float):
            assert value == option.default or option.option.within(value)
    if complaint:
        shown = "what is given" if option.option.secret else repr(text.strip())
        assert complaint.startswith(f"{shown} is not {option.expected}")
        assert "\n" not in complaint


@given(st.text(max_size=200))
def test_any_text_as_a_file_is_read_or_refused_cleanly(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    report = examine(str(path), PORT, {})
    assert all("\n" not in line for line in report.problems)


# Problems


def test_every_problem_is_told_in_the_order_of_the_lines_with_file_line_key_value_and_what_is_allowed(
    write: Write,
) -> None:
    allowed = by_key("scheduler.policy").expected
    assert allowed == f"one of {', '.join(POLICIES)}, or my_module:MyPolicy for one of your own"
    path = write(
        "server:\n"
        "  mode: [debug]\n"
        "  splitwise: maybe\n"
        "scheduler:\n"
        "  policy: cach_aware\n"
        "  waiting_weight: 2\n"
        "  waiting-weight: 3\n"
        "  tokenizer-url: ':80'\n"
        "manager:\n"
        "  health-check-interval-secs: soon\n"
        "  health-check-endpoint: health\n"
        "log: stdout\n"
        "proxy: []\n"
        "server: {}\n"
    )
    assert problems_of(path, FD_ROUTER_LOG_LEVEL="verbose") == [
        "2: server.mode: a list or mapping where one of debug, release, test is needed",
        "3: server.splitwise: 'maybe' is not true or false",
        f"5: scheduler.policy: 'cach_aware' is not {allowed}; did you mean 'cache_aware'?",
        "7: the key 'waiting-weight' stands here again, first in line 6",
        "8: scheduler.tokenizer-url: ':80' is not an http:// or https:// URL, or HOST:PORT",
        "10: manager.health-check-interval-secs: 'soon' is not a number of at least 0.01 s",
        "11: manager.health-check-endpoint: 'health' is not a path beginning with /",
        "12: log: not a mapping of options (key: value)",
        "13: proxy: not a mapping of options (key: value)",
        "14: the key 'server' stands here again, first in line 1",
        "FD_ROUTER_LOG_LEVEL: log.level: 'verbose' is not one of debug, info, warn, error",
    ]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "-1", "five", "0x"])
def test_a_number_must_be_finite_and_inside_its_bounds(value: str) -> None:
    (problem,) = problems_of(None, FD_ROUTER_PROXY_CONNECT_TIMEOUT_SECS=value)
    assert problem == (
        "FD_ROUTER_PROXY_CONNECT_TIMEOUT_SECS: proxy.connect-timeout-secs: "
        f"{value!r} is not a number of at least 0.001 s"
    )


def test_a_path_that_could_smuggle_a_header_into_the_probe_is_refused() -> None:
    (problem,) = problems_of(None, FD_ROUTER_MANAGER_HEALTH_CHECK_ENDPOINT="/a b\r\nX: y")
    assert "a path beginning with /" in problem
    assert "\n" not in problem


def test_a_problem_in_a_flag_names_the_flag() -> None:
    (problem,) = problems_of(None, {"server.port": "http"})
    assert problem == "--port: server.port: 'http' is not a whole number from 1 to 65535"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("server:\n  port: [1\nlog: {}\n", "3:4: not valid YAML: "),
        ("server: {}\n]\n", "2:1: not valid YAML: "),
        ("server: *nobody\n", "1:9: not valid YAML: found undefined alias"),
        ("a: b: c\n", "1:5: not valid YAML: mapping values are not allowed here"),
        ("\tserver:\n", "1:1: not valid YAML: "),
        ("server: a\x07b\n", " not valid YAML: "),
        ("- server\n", "1: the top level is not a mapping of sections"),
        ("server\n", "1: the top level is not a mapping of sections"),
        ("[" * 500, " nested too deeply"),
    ],
)
def test_a_file_that_is_no_mapping_of_sections_is_one_line(write: Write, text: str, expected: str) -> None:
    (problem,) = problems_of(write(text), {})
    assert problem.startswith(expected)
    assert "\n" not in problem


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"server: \xff\n")
    assert problems_of(str(path)) == [" not UTF-8 text (byte 8)"]


def test_an_unreadable_file_is_the_only_problem(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.yaml", "no such file or directory"), (tmp_path, "is a directory")):
        assert problems_of(str(path), {}) == [f"Failed to load config: failed to read config file: {path}: {reason}"]


# Warnings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sheduler: {policy: x}", "unknown section 'sheduler', ignored; did you mean 'scheduler'?"),
        ("port: 80", "unknown section 'port', ignored; did you mean 'server.port'?"),
        ("zzzz: [1, {2: 3}]", f"unknown section 'zzzz', ignored; known are {', '.join(SECTIONS)}"),
        ("server: {prot: 80}", "unknown key 'server.prot', ignored; did you mean 'server.port'?"),
        ("server: {Port: [80]}", "unknown key 'server.Port', ignored; did you mean 'server.port'?"),
        (
            "server: {register-path: x}",
            "unknown key 'server.register-path', ignored; did you mean 'manager.register-path'?",
        ),
        (
            "log: {zzzz: 1}",
            (
                "unknown key 'log.zzzz', ignored; known are level, output, format, path, "
                "max-age-days, max-total-size-mb, cleanup-interval-secs"
            ),
        ),
        (
            "scheduler: {interval-cleanup-secs: 60}",  # FastDeploy's own example has it
            "unknown key 'scheduler.interval-cleanup-secs', ignored; did you mean 'scheduler.eviction-interval-secs'?",
        ),
    ],
)
def test_an_unknown_key_is_ignored_with_a_warning_that_names_the_nearest(
    write: Write, text: str, expected: str
) -> None:
    path = write(text)
    loaded = load(path, PORT, {})
    assert loaded.warnings == (f"{path}:1: {expected}",)
    assert loaded.config == load(None, PORT, {}).config


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
@pytest.mark.parametrize("splitwise", [False, True])
def test_a_policy_for_mixed_instances_has_no_effect_on_pairs(write: Write, source: str, splitwise: bool) -> None:
    """A file may have it all the same: FastDeploy's examples name all three."""
    path = str(write("scheduler: {policy: random}\n")) if source == "file" else None
    flags = {**PORT, "server.splitwise": splitwise} | ({"scheduler.policy": "random"} if source == "flag" else {})
    environ = {"FD_ROUTER_SCHEDULER_POLICY": "random"} if source == "environment" else {}
    warnings = load(path, flags, environ).warnings
    assert len(warnings) == (splitwise and source != "file")
    assert all("--prefill-policy" in warning for warning in warnings)


def test_an_unknown_environment_variable_warns() -> None:
    environ = {"FD_ROUTER_SERVER_PROT": "1", "FD_ROUTER_CONFIG_PTH": "x", "FD_ROUTER_QQQQQQQQQQQQQQ": "", "OTHER": "x"}
    assert load(None, PORT, environ).warnings == (
        "unknown environment variable FD_ROUTER_CONFIG_PTH, ignored; did you mean 'FD_ROUTER_CONFIG_PATH'?",
        "unknown environment variable FD_ROUTER_QQQQQQQQQQQQQQ, ignored",
        "unknown environment variable FD_ROUTER_SERVER_PROT, ignored; did you mean 'FD_ROUTER_SERVER_PORT'?",
    )


def test_what_kubernetes_sets_for_a_service_of_that_name_is_passed_over() -> None:
    tcp = "tcp://10.0.0.1:8080"
    environ = {
        "FD_ROUTER_SERVICE_HOST": "10.0.0.1", "FD_ROUTER_SERVICE_PORT": "8080", "FD_ROUTER_SERVICE_PORT_HTTP": "8080",
        "FD_ROUTER_PORT": tcp, "FD_ROUTER_PORT_8080_TCP": tcp, "FD_ROUTER_PORT_8080_TCP_ADDR": "10.0.0.1",
        "FD_ROUTER_SERVER_PORT": tcp,  # for a Service called fd-router-server
        "FD_ROUTER_CONFIG_PATH": "x",
    }  # fmt: skip
    loaded = load(None, PORT, environ)
    assert not loaded.warnings
    assert loaded.config.server.port == 30000


# Text made from the options


def test_the_reference_page_is_up_to_date() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == reference(), "run: fd-router config-reference > docs/configuration.md"


def test_the_reference_page_has_every_option() -> None:
    page = reference()
    for option in OPTIONS:
        assert f"`{option.environment}`" in page
        assert option.option.help in page
    for section in SECTIONS:
        assert f"## {section}" in page


def test_the_configuration_in_force_is_a_file_that_gives_the_same(write: Write) -> None:
    environ = {"FD_ROUTER_SERVER_NAME": 'a "b" # c: ü', "FD_ROUTER_SCHEDULER_BALANCE_REL_THRESHOLD": "0.123456789"}
    report = examine(None, PORT, environ | {"FD_ROUTER_LOG_CLEANUP_INTERVAL_SECS": "1234567890"})
    text = in_force(report.config, report.origins)
    assert "  port: 30000  # --port\n" in text
    assert load(write(text), {}, {}).config == report.config


@pytest.mark.parametrize("example", ["run_with_config", "run_with_default_workers", "custom_policy", "pd_cache_aware"])
def test_the_examples_are_right(example: str) -> None:
    loaded = load(str(REPOSITORY / "examples" / example / "config" / "config.yaml"), {}, {})
    assert not loaded.warnings
    assert loaded.config.server.port == 8080


# The device, with options of somebody else


class Things(msgspec.Struct, frozen=True):
    size: Annotated[int, Option(help="Size.", maximum=9)] = 1
    is_red: Annotated[bool, Option(help="Red.")] = False
    words: Annotated[tuple[str, ...], Option(help="Words.", choices=("one", "two"))] = ()
    made: Annotated[list[int], Option(help="Numbers.")] = msgspec.field(default_factory=list)
    wait: Annotated[float, Option(help="Wait.", unit="s")] = 0.5
    plain: int = 0


def test_the_device_serves_other_structs() -> None:
    size, is_red, words, made, wait = declared(Things)
    assert (size.key, size.flag, size.many, size.expected) == ("size", "--size", False, "a whole number of at most 9")
    assert wait.expected == "a number in s"
    assert (is_red.flag, is_red.kind) == ("--is-red", bool)
    assert (words.many, words.kind, made.kind, made.default) == (True, str, int, [])
    assert from_texts(Things, {"size": "3", "words": ["one", "TWO"]}) == Things(size=3, words=("one", "two"))
    with pytest.raises(ConfigError) as caught:
        from_texts(Things, {"size": "10", "is_red": "blue", "words": ["tow"]})
    assert caught.value.problems == (
        "--size: '10' is not a whole number of at most 9",
        "--is-red: 'blue' is not true or false",
        "--words: 'tow' is not one of one, two; did you mean 'two'?",
    )
