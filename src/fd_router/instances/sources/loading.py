"""Sources of a third party: found by a dotted path, given their options, and looked at before the router starts."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any, Final

from fd_router.config.dotted_path import load_object, say
from fd_router.config.instances import InstancesConfig
from fd_router.config.plugin_options import OptionFields
from fd_router.errors import ConfigError
from fd_router.instances.source import PEERS, REGISTER_API, REGISTER_YAML, STATE_FILE
from fd_router.instances.sources.contract import InstanceSource

OPTION: Final = "instances.sources"

_OWN_NAMES: Final = frozenset({PEERS.name, REGISTER_API.name, REGISTER_YAML.name, STATE_FILE.name})


def open_sources(options: InstancesConfig) -> tuple[InstanceSource, ...]:
    """Make the sources that the configuration asks for, in its order. Raises ConfigError with a line a problem."""
    sources: list[InstanceSource] = []
    problems: list[str] = []
    for path, given in options.sources.items():
        for entry in given if isinstance(given, list) else [given]:
            try:
                sources.append(_open(path, entry, options.plugin_folder, {source.name for source in sources}))
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return tuple(sources)


def _open(path: str, given: object, folder: str, names: Collection[str]) -> InstanceSource:
    key = f"{OPTION}.{path}"
    if ":" not in path:
        raise ConfigError(f"{key}: not the path of a class; write my_module:MySource")
    if not isinstance(given, Mapping | None):
        raise ConfigError(f"{key}: {str(given)[:80]!r} is no mapping of its options, nor a list of such mappings")
    found = load_object(path, key=OPTION, folder=folder)
    if not inspect.isclass(found) or not inspect.iscoroutinefunction(
        vars(found).get("run", getattr(found, "run", None))
    ):
        raise ConfigError(f"{key}: it is no class with an 'async def run(self, members)'")
    source = _make(found, path, given or {})
    return _named(source, key, names)


def _make(found: Any, path: str, given: Mapping[str, Any]) -> Any:
    key = f"{OPTION}.{path}"
    try:
        fields = OptionFields.of_constructor(found, inspect.signature(found).parameters, ())
    except Exception as error:
        raise ConfigError(f"{key}: its constructor can't be read: {say(error)}") from error
    values = fields.convert(path, key, {}, given)
    try:
        return found(**values)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{key}: it can't be made of its options: {say(error)}") from error


def _named(source: Any, key: str, names: Collection[str]) -> InstanceSource:
    name = getattr(source, "name", None)
    if not isinstance(name, str) or not name:
        raise ConfigError(f'{key}: it has no name; give the class a name = "…"')
    if name in names or name in _OWN_NAMES:
        raise ConfigError(f"{key}: there is a source {name!r} already; make its name another one")
    named: InstanceSource = source
    return named
