"""The table of dialects: the router's own, and those of a third party that the configuration names by a dotted path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from fd_router.config.dotted_path import dotted_paths, load_class
from fd_router.config.instances import InstancesConfig
from fd_router.config.options import did_you_mean
from fd_router.engines.dialect import Dialect
from fd_router.engines.fastdeploy.dialect import FastDeployDialect
from fd_router.engines.openai import OpenAiDialect
from fd_router.engines.sglang import SglangDialect
from fd_router.engines.vllm import VllmDialect
from fd_router.errors import ConfigError, FdRouterError

DEFAULT: Final = FastDeployDialect.name
"""The dialect of an instance that tells none, and isn't detected otherwise: FastDeploy's know no such key."""

BUILT_IN: Final[Mapping[str, type[Dialect]]] = MappingProxyType(
    {dialect.name: dialect for dialect in (FastDeployDialect, VllmDialect, SglangDialect, OpenAiDialect)}
)

OPTION: Final = "instances.dialects"


def open_dialects(options: InstancesConfig) -> Dialects:
    """Make the table that the configuration asks for. Raises ConfigError."""
    return Dialects(dotted_paths(options.dialects), options.plugin_folder)


class UnknownDialectError(FdRouterError):
    """An instance tells a dialect that isn't known here."""


class Dialects:
    """The dialects that instances may have, one object each.

    ``paths`` are those of a third party's classes (``module:Class``), looked for in ``folder`` too. Raises ConfigError
    for one that can't be loaded, or whose name is another one's.
    """

    def __init__(self, paths: Sequence[str] = (), folder: str = "") -> None:
        self._by_name: dict[str, Dialect] = {name: dialect() for name, dialect in BUILT_IN.items()}
        for path in paths:
            dialect: Dialect = load_class(path, Dialect, key=OPTION, folder=folder)
            if not dialect.name:
                raise ConfigError(f'{OPTION}: {path!r}: its name is empty; give the class a name = "…"')
            if dialect.name in self._by_name:
                raise ConfigError(f"{OPTION}: {path!r}: there is a dialect {dialect.name!r} already; name it otherwise")
            self._by_name[dialect.name] = dialect

    def named(self, name: str) -> Dialect:
        """Return the dialect called ``name``, the default one for "". Raises UnknownDialectError."""
        found = self._by_name.get(name or DEFAULT)
        if found is None:
            names = sorted(self._by_name)
            near = did_you_mean(name, names) or f"; known are {', '.join(names)}"
            raise UnknownDialectError(f"dialect {name[:80]!r} isn't known{near}")
        return found

    def all(self) -> tuple[Dialect, ...]:
        """Return all of them, those of a third party first: theirs may be a special case of another."""
        dialects = tuple(self._by_name.values())
        return (*dialects[len(BUILT_IN) :], *dialects[: len(BUILT_IN)])

    def __repr__(self) -> str:
        return f"<Dialects {', '.join(self._by_name)}>"
