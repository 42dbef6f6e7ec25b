"""The class of a policy: found by its name, looked at, and built with checked options.

One that derives from ``Policy`` is built with ``(environment, options)``, the options being its ``Options``. A plain
class with ``choose`` declares all by its constructor's parameters: one called ``environment``, ``index`` or
``figures`` is given what the router has; each other one is an option, with its annotation as the type and its default.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

from fd_router.config.dotted_path import load_object, say
from fd_router.config.plugin_options import OptionFields
from fd_router.errors import ConfigError
from fd_router.scheduling.environment import Environment
from fd_router.scheduling.plugins.adapter import adapt
from fd_router.scheduling.plugins.hooks import faults_of
from fd_router.scheduling.policy import Need, NoOptions, Policy

GIVEN: Mapping[str, frozenset[Need]] = {
    "environment": frozenset(),
    "index": frozenset({Need.PREFIX_INDEX, Need.TOKEN_IDS}),
    "figures": frozenset({Need.REPORTED_LOADS}),
}
"""Parameters of a plain class's constructor that are no options, and what they say that it needs."""


class PolicyClass:
    """A policy's class, what it needs, and which options it takes. ``key`` names the option that names it, for errors.

    Raises ConfigError: no such module or class, an import that fails, a class that is no policy.
    """

    __slots__ = ("_class", "_fields", "_key", "_parameters", "_struct", "name", "needs")

    def __init__(self, name: str, found: Any, key: str) -> None:
        self.name = name
        self.needs: frozenset[Need]
        self._key = key
        self._class = found
        try:
            self._parameters = dict(inspect.signature(found).parameters)
            self._struct = _struct_of(found, self._parameters, partial(_error, key, name))
            self._fields = (
                OptionFields.of_struct(self._struct)
                if self._struct is not None
                else OptionFields.of_constructor(found, self._parameters, GIVEN)
            )
        except ConfigError:
            raise
        except Exception as error:
            raise _error(key, name, f"its constructor can't be read: {say(error)}") from error
        named = [GIVEN[parameter] for parameter in self._parameters if parameter in GIVEN]
        self.needs = frozenset().union(*named) | (found.needs if issubclass(found, Policy) else frozenset())

    @classmethod
    def built_in(cls, name: str, path: str, key: str) -> Self:
        """Import one of the router's own by its path, ``module:class``."""
        module, _, kind = path.partition(":")
        return cls(name, getattr(importlib.import_module(module), kind), key)

    @classmethod
    def plugin(cls, name: str, folder: str, key: str) -> Self:
        """Find a plug-in by its name, ``my_package.my_module:MyPolicy``, also in the configuration's folder."""
        found = _find(name, folder, key)
        if faults := faults_of(found):
            raise ConfigError(*(_fault(key, name, fault) for fault in faults))
        return cls(name, found, key)

    def build(self, environment: Environment, preset: Mapping[str, Any], options: Mapping[str, Any]) -> Policy:
        """Make the policy. ``options`` come from its operator, and win over those that are ``preset``.

        Raises ConfigError with a line for each option that is unknown, missing, or of a wrong type.
        """
        values = self._fields.convert(self.name, f"{self._key}-options", preset, options)
        given: dict[str, Any] = {
            "environment": environment, "index": environment.index, "figures": environment.reported_loads,
        }  # fmt: skip
        try:
            if self._struct is not None:
                given["options"], values = self._struct(**values), {}
            arguments = {name: value for name, value in given.items() if name in self._parameters}
            return adapt(self._class(**arguments, **values))
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{self._key}-options: {self.name} can't be made of them: {say(error)}") from error

    def __repr__(self) -> str:
        return f"<PolicyClass {self.name}>"


def _struct_of(found: Any, parameters: Mapping[str, Any], error: Callable[[str], ConfigError]) -> Any:
    """Return the Struct of its options; None for a class that has parameters for them, as a plain one."""
    if not issubclass(found, Policy):
        return None
    if parameters.keys() <= {"environment", "options"}:
        return found.Options
    if found.Options is not NoOptions:
        raise error(f"{found.__name__} has Options, so its constructor must take (environment, options)")
    return None


def _find(name: str, folder: str, key: str) -> Any:
    found = load_object(name, key=key, folder=folder)
    if not inspect.isclass(found) or getattr(found, "choose", Policy.choose) is Policy.choose:
        raise _error(key, name, "it is no class with a choose(request, candidates)")
    return found


def _error(key: str, name: str, why: str) -> ConfigError:
    return ConfigError(_fault(key, name, why))


def _fault(key: str, name: str, why: str) -> str:
    return f"{key}: {name!r}: {why}"
