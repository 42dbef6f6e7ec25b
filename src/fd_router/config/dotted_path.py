"""A third party's code, named by a dotted path: ``my_package.my_module:MyThing``. Errors name the option."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Final

from fd_router.config.options import did_you_mean
from fd_router.errors import ConfigError

DOTTED_PATH_PATTERN: Final = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"
"""``my_package.my_module:MyThing``."""

DOTTED_PATHS_PATTERN: Final = rf"({DOTTED_PATH_PATTERN}(\s*,\s*{DOTTED_PATH_PATTERN})*)?"
"""Any number of them, separated by commas."""


def dotted_paths(text: str) -> tuple[str, ...]:
    """Return the paths that an option with several has."""
    return tuple(path.strip() for path in text.split(",") if path.strip())


def load_object(name: str, *, key: str, folder: str = "") -> Any:
    """Import what ``name`` is the path of. ``key`` is the option that has it, ``folder`` the configuration file's.

    Raises ConfigError: there is no such module or name, or the import fails.
    """
    module_name, _, attribute = name.partition(":")
    _search_in(folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _fault(key, name, f"importing {module_name} failed: {say(error)}") from error
        places = " or ".join(dict.fromkeys(str(Path(place).resolve()) for place in (folder, ".") if place))
        what = f"there is no module {module_name!r} in {places}, nor among the installed packages"
        raise _fault(key, name, what) from error
    except (Exception, SystemExit) as error:  # a script's last line would end the router, without a word
        raise _fault(key, name, f"importing {module_name} failed: {say(error)}") from error
    if attribute not in vars(module):
        near = did_you_mean(attribute, [one for one in vars(module) if not one.startswith("_")])
        raise _fault(key, name, f"{module.__file__} has no {attribute!r}{near}")
    return vars(module)[attribute]


def load_class(name: str, base: type, *, key: str, folder: str = "") -> Any:
    """Import the class that ``name`` is the path of, and make an object of it, without arguments.

    Raises ConfigError, also when it is no subclass of ``base`` or its constructor fails.
    """
    found = load_object(name, key=key, folder=folder)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise _fault(key, name, f"it is no subclass of {base.__module__}.{base.__name__}")
    try:
        return found()
    except (Exception, SystemExit) as error:
        raise _fault(key, name, f"it can't be made: {say(error)}") from error


def say(error: BaseException) -> str:
    """Say what happened, and in which line of whose file."""
    if isinstance(error, SyntaxError) and error.filename:  # the place is that in the file, not who reads it
        return f"{type(error).__name__}: {error.msg} ({Path(error.filename).name}:{error.lineno})"
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<") and file != __file__:
            place = f" ({Path(file).name}:{trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def _search_in(folder: str) -> None:
    """Let modules be found in the configuration's folder and in the working directory.

    Behind everything else: a file there can't take the place of a module of Python, the router or a package.
    """
    for place in (folder, "."):
        resolved = str(Path(place).resolve()) if place else ""
        if resolved and resolved not in sys.path:
            sys.path.append(resolved)


def _fault(key: str, name: str, why: str) -> ConfigError:
    return ConfigError(f"{key}: {name!r}: {why}")
