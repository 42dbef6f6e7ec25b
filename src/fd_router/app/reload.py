"""Reloading: every file is read and checked anew; if all are right, what can change in a running router does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from fd_router.api.reload import Outcome
from fd_router.config.live import LiveConfig
from fd_router.config.loading import OPTIONS, SECTIONS, Config, Loaded
from fd_router.config.origins import located
from fd_router.errors import ConfigError
from fd_router.instances.sources.members import Diff
from fd_router.telemetry.logging.text_log import RouterLog
from fd_router.threads import in_thread

READ_SECS = 60.0
"""How long the files may take to be read: one may lie on a network mount that is away, or be a pipe."""

Load = Callable[[], Loaded]
"""Reads the configuration anew, from the same sources as at the start. Raises ConfigError."""

Prepare = Callable[[Config], Callable[[], None]]
"""Reads a part's files for this configuration; what it returns puts them in force. Raises ConfigError.

It runs in a thread, and changes nothing; the other one runs on the loop, and can't fail.
"""

PrepareSources = Callable[[Config], Callable[[], Awaitable[Diff]]]
"""Does the same for the sources of instances that can be read anew, and returns what that changes.

The other one lets others have a turn: there may be thousands.
"""

Keys = Callable[[], Awaitable[Sequence[str]]]
"""Reads the API keys anew and puts them in force, unless something is wrong: then it returns what."""


class Reloader:
    """One reload at a time, into the live configuration."""

    def __init__(
        self, live: LiveConfig, load: Load, parts: Sequence[Prepare], keys: Keys,
        *, sources: PrepareSources, log: RouterLog,
    ) -> None:  # fmt: skip
        self._live = live
        self._load = load
        self._parts = parts
        self._keys = keys
        self._sources = sources
        self._log = log
        self._turn = asyncio.Lock()

    async def reload(self) -> Outcome:
        """Read everything anew. An outcome with problems has changed nothing."""
        async with self._turn:
            try:
                outcome = await self._reload()
            except ConfigError as error:
                outcome = Outcome(problems=error.problems)
        for problem in outcome.problems:
            self._log.error(f"Reload failed, nothing has changed: {problem}")
        for warning in outcome.warnings:
            self._log.warn(warning)
        if not outcome.problems:
            self._log.info(f"Reloaded: {outcome.in_words()}")
        return outcome

    async def _reload(self) -> Outcome:
        try:
            loaded, name_instances, commits = await in_thread(self._prepare, limit_secs=READ_SECS)
        except TimeoutError:
            raise ConfigError(f"the files can't be read within {READ_SECS:g} s") from None
        if problems := await self._keys():  # changes nothing but the keys, and those last of all that may fail
            raise ConfigError(*problems)
        config, changed, waiting = merged(self._live.current, loaded.config)
        self._live.replace(config)
        for commit in commits:
            commit()
        diff = await name_instances()
        return Outcome(changed, waiting, diff.added, diff.removed, warnings=loaded.warnings)

    def _prepare(self) -> tuple[Loaded, Callable[[], Awaitable[Diff]], list[Callable[[], None]]]:
        loaded = self._load()
        config, _, _ = merged(self._live.current, loaded.config)
        problems: list[str] = []
        name_instances: Callable[[], Awaitable[Diff]] = _no_instances
        try:
            name_instances = self._sources(config)
        except ConfigError as error:
            problems += error.problems
        commits = []
        for part in self._parts:
            try:
                commits.append(part(config))
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(*located(problems, loaded.origins))
        return loaded, name_instances, commits


async def _no_instances() -> Diff:
    """Name none: something is wrong, and nothing will change."""
    return Diff()


def merged(in_force: Config, new: Config) -> tuple[Config, tuple[str, ...], tuple[str, ...]]:
    """Take from ``new`` what may change in a running router.

    Returns the configuration, the keys of the options that change, and of those that differ but need a restart.
    """
    values: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    changed, waiting = [], []
    for option in OPTIONS:
        before = getattr(getattr(in_force, option.section), option.attribute)
        after = getattr(getattr(new, option.section), option.attribute)
        if before == after:
            continue
        if option.option.live:
            changed.append(option.key)
            values[option.section][option.attribute] = after
        else:
            waiting.append(option.key)
    return _replace(in_force, values), tuple(changed), tuple(waiting)


def _replace(config: Config, values: Mapping[str, Mapping[str, Any]]) -> Config:
    sections = {
        name: msgspec.structs.replace(getattr(config, name), **given) for name, given in values.items() if given
    }
    return msgspec.structs.replace(config, **sections)
