"""A policy from elsewhere, ``my_package.my_module:MyPolicy``: found, looked at, and built with checked options.

Its class has ``choose`` and perhaps more of what ``contract`` names. Its constructor's parameters are its declaration:
one called ``environment``, ``index`` or ``figures`` is given what the router's own policies get; each other one is an
option, with its annotation as the type and its default.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from fd_router.config.options import did_you_mean, kebab
from fd_router.errors import ConfigError

GIVEN = frozenset({"environment", "index", "figures"})
"""Parameters of a policy's constructor that are no options: ``Environment``, ``PrefixIndex``, ``ReportedLoads``."""


class CustomPolicy:
    """A policy's class, and what its constructor takes. ``key`` names the option that names it, for errors.

    Raises ConfigError: no such module or class, an import that fails, a class that is no policy.
    """

    __slots__ = ("_class", "_key", "_parameters", "_types", "name")

    def __init__(self, name: str, folder: str = "", key: str = "scheduler.policy") -> None:
        self.name = name
        self._key = key
        self._class = self._find(folder)
        try:
            self._parameters = dict(inspect.signature(self._class).parameters)
            self._types = get_type_hints(self._class.__init__, include_extras=True)
        except Exception as error:
            raise self._error(f"its constructor can't be read: {_say(error)}") from error

    @property
    def needs(self) -> frozenset[str]:
        """Which of ``GIVEN`` its constructor takes."""
        return GIVEN & self._parameters.keys()

    def build(self, given: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """Make the policy of what the router gives (a value for all of ``needs``) and its options from the file.

        Raises ConfigError with a line for each option that is unknown, missing, or of a wrong type.
        """
        arguments = self._convert(options) | {name: given[name] for name in self.needs}
        try:
            return self._class(**arguments)
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{self._key}-options: {self.name} can't be made of them: {_say(error)}") from error

    def _find(self, folder: str) -> Any:
        module_name, _, class_name = self.name.partition(":")
        _search_in(folder)
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise self._error(f"importing {module_name} failed: {_say(error)}") from error
            places = " or ".join(dict.fromkeys(str(Path(place).resolve()) for place in (folder, ".") if place))
            raise self._error(
                f"there is no module {module_name!r} in {places}, nor among the installed packages"
            ) from error
        except (Exception, SystemExit) as error:  # a script's last line would end the router, without a word
            raise self._error(f"importing {module_name} failed: {_say(error)}") from error
        found = getattr(module, class_name, None)
        if found is None:
            near = did_you_mean(class_name, [name for name in vars(module) if not name.startswith("_")])
            raise self._error(f"{module.__file__} has no {class_name!r}{near}")
        if not inspect.isclass(found) or not callable(getattr(found, "choose", None)):
            raise self._error(f"{class_name} in {module.__file__} is no class with a choose(request, candidates)")
        return found

    def _convert(self, options: Mapping[str, Any]) -> dict[str, Any]:
        known = {name: parameter for name, parameter in self._parameters.items() if name not in GIVEN}
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
        known = {name: p for name, p in known.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        values: dict[str, Any] = {}
        problems = []
        for key, value in options.items():
            name = key.replace("-", "_")
            if name not in known and not takes_any:
                problems.append(f"{self._key}-options.{key}: {self._unknown(key, known)}")
                continue
            try:
                values[name] = msgspec.convert(value, self._types.get(name, Any), strict=False)
            except (msgspec.ValidationError, TypeError) as error:
                reason = str(error)[:1].lower() + str(error)[1:]
                problems.append(f"{self._key}-options.{key}: {str(value)[:80]!r} doesn't fit: {reason}")
        missing = [name for name, p in known.items() if p.default is p.empty and name not in values]
        given = {key.replace("-", "_") for key in options}
        problems += [f"{self._key}-options: {self.name} needs {kebab(x)!r}" for x in missing if x not in given]
        if problems:
            raise ConfigError(*problems)
        return values

    def _unknown(self, key: str, known: Mapping[str, Any]) -> str:
        names = [kebab(name) for name in known]
        near = did_you_mean(key, names) or (f"; it has {', '.join(names)}" if names else "; it has none")
        return f"{self.name} has no such option{near}"

    def _error(self, why: str) -> ConfigError:
        return ConfigError(f"{self._key}: {self.name!r}: {why}")

    def __repr__(self) -> str:
        return f"<CustomPolicy {self.name}>"


def _search_in(folder: str) -> None:
    """Let modules be found in the configuration's folder and in the working directory.

    Behind everything else: a file there can't take the place of a module of Python, the router or a package.
    """
    for place in (folder, "."):
        resolved = str(Path(place).resolve()) if place else ""
        if resolved and resolved not in sys.path:
            sys.path.append(resolved)


def _say(error: BaseException) -> str:
    """Say what happened, and in which line of whose file."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<") and file != __file__:
            place = f" ({Path(file).name}:{trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
