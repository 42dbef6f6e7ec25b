"""Puts a configuration together: flag > environment (``FD_ROUTER_<SECTION>_<KEY>``) > file > default.

The options themselves are declared in ``config.sections``; everybody imports them from here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fd_router.config.admission import AccessConfig, AdmissionConfig
from fd_router.config.log import LogConfig
from fd_router.config.options import (
    ENVIRONMENT_PREFIX,
    Declared,
    Option,
    declared,
    did_you_mean,
    from_texts,
    kebab,
    nearest,
)
from fd_router.config.scheduling import POLICIES, SchedulerConfig
from fd_router.config.sections import (
    OPTIONS,
    SECTIONS,
    Config,
    ManagerConfig,
    ProxyConfig,
    ServerConfig,
)
from fd_router.config.tls import TlsConfig
from fd_router.errors import ConfigError

if TYPE_CHECKING:
    from fd_router.config.yaml_file import Entry

__all__ = [
    "ADDRESS_VARIABLE",
    "CONFIG_PATH_VARIABLE",
    "OPTIONS",
    "POLICIES",
    "SECTIONS",
    "AccessConfig",
    "AdmissionConfig",
    "Config",
    "Declared",
    "Loaded",
    "LogConfig",
    "ManagerConfig",
    "Option",
    "ProxyConfig",
    "Report",
    "SchedulerConfig",
    "ServerConfig",
    "TlsConfig",
    "declared",
    "examine",
    "from_texts",
    "load",
]

CONFIG_PATH_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}CONFIG_PATH"
"""The environment variable that names the configuration file when no flag does."""

ADDRESS_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}ADDRESS"
"""The environment variable that tells commands where a running router is; to the router it means nothing."""

_OTHERS: Final = frozenset({CONFIG_PATH_VARIABLE, ADDRESS_VARIABLE})
"""Variables that are no options."""

_NO_PORT: Final = (
    "Failed to load config: failed to set router listen port: "
    "give one with --port, as server.port in the config file, or in FD_ROUTER_SERVER_PORT"
)

_KUBERNETES_NAME: Final = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP|SCTP)")
_KUBERNETES_VALUE: Final = re.compile(r"(tcp|udp|sctp)://")

_BY_KEY: Final = {option.key: option for option in OPTIONS}
_BY_ENVIRONMENT: Final = {option.environment: option for option in OPTIONS}
_BY_FLAG_KEY: Final = {f"{option.section}.{option.attribute}": option for option in OPTIONS}


class Loaded(msgspec.Struct, frozen=True):
    """A usable configuration, and one line for each thing that is odd but no fault."""

    config: Config
    warnings: tuple[str, ...] = ()
    origins: Mapping[str, str] = {}  # see ``Report``


class Report(msgspec.Struct, frozen=True):
    """All that can be said of a configuration. ``config`` is usable only when there are no problems.

    ``origins`` tells where each value that was given comes from: ``server.port`` → ``--port``,
    ``FD_ROUTER_SERVER_PORT`` or ``config.yaml:3``; also what is within a mapping: ``models.aliases.x``.
    """

    config: Config  # with the default where a value is wrong
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    origins: Mapping[str, str]


class _Given(msgspec.Struct, frozen=True):
    """One value that somebody gave. An empty text means nothing, as in Go."""

    option: Declared
    text: str
    origin: str
    nested: bool = False  # a list or mapping; few options take a mapping, as JSON
    within: Mapping[str, str] = {}  # the origins of what is within a mapping, by its path

    @property
    def is_empty(self) -> bool:
        return not self.nested and not self.text.strip()

    def value(self) -> Any:
        """Read the value. Raises ValueError with the reason."""
        if self.nested and not (self.option.kind is dict and self.text):
            what = "a list" if self.option.kind is dict else "a list or mapping"
            raise ValueError(f"{what} where {self.option.expected} is needed")
        return self.option.parse(self.text)


class _Notes:
    """What was found while the sources were read."""

    __slots__ = ("problems", "unreadable", "warnings")

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.unreadable = False  # nobody knows what the file would have given
        self.warnings: list[str] = []


def load(path: str | None, flags: Mapping[str, object], environ: Mapping[str, str]) -> Loaded:
    """Return the configuration, or raise ConfigError with a line for every problem of every source.

    ``flags`` maps ``server.port`` (section and attribute) to a value or its text; None means not given. A wrong
    value that a stronger source overrides is only a warning.
    """
    report = examine(path, flags, environ)
    if report.problems:
        raise ConfigError(*report.problems)
    return Loaded(report.config, report.warnings, report.origins)


def examine(path: str | None, flags: Mapping[str, object], environ: Mapping[str, str]) -> Report:
    """Do what ``load`` does, but report the problems, beside the warnings, instead of raising them."""
    notes = _Notes()
    given = [*_from_file(path, notes), *_from_environment(environ, notes), *_from_flags(flags)]
    deciding = {one.option.key: one for one in given if not one.is_empty}
    values = _judge(given, deciding, notes)
    portless = "server.port" not in deciding or values.get("server.port") == 0
    if portless and not notes.unreadable:
        notes.problems.append(_NO_PORT)
    if values.get("server.splitwise"):
        notes.warnings += _mixed_policy(deciding)
    origins = {key: one.origin for key, one in deciding.items()}
    for key, one in deciding.items():
        origins |= {f"{key}.{path}": origin for path, origin in one.within.items()}
    return Report(_build(values, path), _in_order(notes.problems, path), _in_order(notes.warnings, path), origins)


def _judge(given: Iterable[_Given], deciding: Mapping[str, _Given], notes: _Notes) -> dict[str, Any]:
    """Return the values that decide, by key, and note what is wrong with any value."""
    values: dict[str, Any] = {}
    for one in given:
        winner = deciding.get(one.option.key)
        if winner is None or one.is_empty:
            continue
        try:
            value = one.value()
        except ValueError as error:
            line = f"{one.origin}: {one.option.key}: {error}"
            if winner is one:
                notes.problems.append(line)
            else:
                notes.warnings.append(f"{line} (not used, {winner.origin} wins)")
        else:
            if winner is one:
                values[one.option.key] = value
    return values


def _mixed_policy(deciding: Mapping[str, _Given]) -> Iterator[str]:
    """Say that a policy has no effect on pairs. Files may hold all three keys, as FastDeploy's examples do."""
    one = deciding.get("scheduler.policy")
    if one is not None and one.origin in (one.option.flag, one.option.environment):
        others = "scheduler.prefill-policy and scheduler.decode-policy (--prefill-policy, --decode-policy)"
        yield f"{one.origin}: {one.option.key} chooses among mixed instances; in splitwise mode {others} choose"


def _build(values: Mapping[str, Any], path: str | None) -> Config:
    sections: dict[str, Any] = {}
    for name, struct in SECTIONS.items():
        own = {
            option.attribute: values[option.key]
            for option in OPTIONS
            if option.section == name and option.key in values
        }
        sections[name] = struct(**own)
    scheduler: SchedulerConfig = sections["scheduler"]
    policies = (scheduler.policy, scheduler.prefill_policy, scheduler.decode_policy, scheduler.shadow_policy)
    if path and any(":" in policy for policy in policies):
        sections["scheduler"] = msgspec.structs.replace(scheduler, policy_folder=str(Path(path).parent))
    plugins = {
        "server": (sections["server"].endpoints,),
        "instances": (sections["instances"].dialects, sections["instances"].sources),
    }
    for name, named in plugins.items():
        if path and any(named):
            sections[name] = msgspec.structs.replace(sections[name], plugin_folder=str(Path(path).parent))
    if path and sections["telemetry"].record_sinks:
        sections["telemetry"] = msgspec.structs.replace(sections["telemetry"], plugin_folder=str(Path(path).parent))
    return Config(**sections)


def _from_file(path: str | None, notes: _Notes) -> Iterator[_Given]:
    if not path:
        return
    from fd_router.config import yaml_file  # noqa: PLC0415  YAML costs start-up time that is paid only when there is a file

    try:
        document = yaml_file.read_sections(path)
    except ConfigError as error:
        notes.problems += error.problems
        notes.unreadable = True
        return
    notes.problems += document.problems
    for section in document.sections:
        place = f"{path}:{section.line}"
        if section.name not in SECTIONS:
            notes.warnings.append(f"{place}: unknown section '{section.name}', ignored{_nearest_section(section.name)}")
            continue
        if section.text or section.nested:
            notes.problems.append(f"{place}: {section.name}: not a mapping of options (key: value)")
        for entry in section.entries:
            yield from _from_entry(path, section.name, entry, notes)


def _from_entry(path: str, section: str, entry: Entry, notes: _Notes) -> Iterator[_Given]:
    place, key = f"{path}:{entry.line}", f"{section}.{entry.key}"
    option = _BY_KEY.get(key)
    if option is None:
        notes.warnings.append(f"{place}: unknown key '{key}', ignored{_nearest_key(section, entry.key)}")
    else:
        within = {name: f"{path}:{line}" for name, line in entry.lines.items()}
        yield _Given(option, entry.text or "", place, entry.nested, within)


def _from_environment(environ: Mapping[str, str], notes: _Notes) -> Iterator[_Given]:
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in _OTHERS:
            continue
        option = _BY_ENVIRONMENT.get(name)
        if _is_from_kubernetes(name, environ[name]):
            continue
        if option is None:
            notes.warnings.append(f"unknown environment variable {name}, ignored{_nearest_variable(name)}")
        else:
            yield _Given(option, environ[name], name)


def _is_from_kubernetes(name: str, value: str) -> bool:
    """Kubernetes gives pods such variables for a Service that is called fd-router, or fd-router-server."""
    return bool(_KUBERNETES_NAME.search(name) or _KUBERNETES_VALUE.match(value))


def _from_flags(flags: Mapping[str, object]) -> Iterator[_Given]:
    for key, value in flags.items():
        if value is not None:
            option = _BY_FLAG_KEY[key]
            yield _Given(option, str(value), option.flag)


def _nearest_section(name: str) -> str:
    """Say which section was probably meant; for an option at the top level, where it belongs."""
    return _same_name(name) or did_you_mean(name, SECTIONS) or f"; known are {', '.join(SECTIONS)}"


def _nearest_variable(name: str) -> str:
    known = {known.lower(): known for known in (*_BY_ENVIRONMENT, *_OTHERS)}
    near = known.get(nearest(name, known))
    return f"; did you mean '{near}'?" if near else ""


def _nearest_key(section: str, key: str) -> str:
    """Say which key was probably meant: the same one of another section, the nearest of the own, the nearest of all."""
    if elsewhere := _same_name(key):
        return elsewhere
    own = [kebab(option.attribute) for option in OPTIONS if option.section == section]
    near = nearest(key, own)
    if near:
        return f"; did you mean '{section}.{near}'?"
    return _same_name(nearest(key, [kebab(option.attribute) for option in OPTIONS])) or f"; known are {', '.join(own)}"


def _same_name(key: str) -> str:
    same = [option.key for option in OPTIONS if kebab(option.attribute) == key.lower()]
    return f"; did you mean '{same[0]}'?" if same else ""


def _in_order(problems: Iterable[str], path: str | None) -> tuple[str, ...]:
    """Sort the file's problems by line, before those of other sources."""
    in_line = re.compile(rf"{re.escape(path or '')}:(\d+):")

    def line(problem: str) -> float:
        found = in_line.match(problem)
        return int(found[1]) if found else math.inf

    return tuple(sorted(problems, key=line))
